"""Ask teachers for traces: problems to models or servers, right answers to a training file (docs/teachers.md)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, parse, run

explain_missing_packages()
from luffy.teachers.collection import collect
from luffy.teachers.command import Collection

EXAMPLES = """examples:
  python data/collect_traces.py --problems problems.jsonl --teacher models/expert --output data/traces.parquet
  OPENAI_API_KEY=... python data/collect_traces.py --problems problems.jsonl --teacher https://host/v1#model --samples 4 --keep 2 \\
      --choose different --price 0.5 2 --max-cost 10 --output data/traces.parquet
  python data/collect_traces.py --problems problems.jsonl --teacher http://127.0.0.1:8000/v1 --policy Qwen/Qwen2.5-Math-7B \\
      --skip-solved 0.9 --output data/traces.parquet
"""


def main() -> None:
    """Run the command."""
    print(collect(parse(Collection, description=__doc__, examples=EXAMPLES, dashes=True)))


if __name__ == "__main__":
    run(main)
