"""Make the training set's complement, for RL after SFT: the prompts of a larger set that it does not have."""

import dataclasses
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, parse, run

explain_missing_packages()
from luffy.data.prepare import Complement, prepare_set
from luffy.data.source import read_prompt_keys
from luffy.data.system_prompt import as_in_training

FOLDER = Path(__file__).parent
LARGER_SET = "open-r1/OpenR1-Math-220k"
EXAMPLES = """examples:
  python data/prepare_train_sft_rl.py                           OpenR1-Math-220k without data/openr1.parquet
  python data/prepare_train_sft_rl.py --source large.jsonl --exclude data/mine.parquet --output data/rest.parquet
"""


def main() -> None:
    """Run the command."""
    defaults = {"source": (LARGER_SET,), "output": FOLDER / "openr1_complement.parquet", "exclude": FOLDER / "openr1.parquet"}
    options = parse(Complement, description=__doc__, examples=EXAMPLES, dashes=True, defaults=defaults | {"system_prompt": None})
    system_prompt = options.system_prompt or as_in_training(options.exclude)
    options = dataclasses.replace(options, system_prompt=system_prompt)
    print(prepare_set(options, None, excluded=read_prompt_keys(options.exclude)))


if __name__ == "__main__":
    run(main)
