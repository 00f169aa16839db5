"""Make training and held-out sets of procedural tasks with verifiers (reasoning-gym; docs/teachers.md)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, parse, run

explain_missing_packages()
from luffy.data.gym import GymSet, write_gym_sets

EXAMPLES = """examples:
  python data/prepare_gym.py --tasks chain_sum letter_counting --size 1000 --seed 0
  python data/prepare_gym.py --tasks chain_sum --settings chain_sum.min_terms=3 chain_sum.max_terms=5 --output data/sums.parquet
  python data/collect_traces.py --problems data/gym.parquet --teacher MODEL --output data/gym_traces.parquet
"""


def main() -> None:
    """Run the command."""
    defaults = {"output": Path(__file__).parent / "gym.parquet"}
    print(write_gym_sets(parse(GymSet, description=__doc__, examples=EXAMPLES, dashes=True, defaults=defaults)))


if __name__ == "__main__":
    run(main)
