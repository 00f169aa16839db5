"""Make the training set: fetch or read sources, filter them as the paper does, merge traces, write one parquet file."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, parse, run

explain_missing_packages()
from luffy.data.prepare import TrainingSet, prepare_set

PUBLISHED = "Elliott/Openr1-Math-46k-8192"
EXAMPLES = """examples:
  python data/prepare_train.py                                  the paper's published set -> data/openr1.parquet
  python data/prepare_train.py --tokenizer Qwen/Qwen2.5-Math-7B --source open-r1/OpenR1-Math-220k --teacher deepseek-r1
  python data/prepare_train.py --source a.jsonl b/ --teacher r1 qwq --eval-files data/valid.all.parquet --dry-run
"""


def main() -> None:
    """Run the command."""
    defaults = {"source": (PUBLISHED,), "output": Path(__file__).parent / "openr1.parquet"}
    options = parse(TrainingSet, description=__doc__, examples=EXAMPLES, dashes=True, defaults=defaults)
    print(prepare_set(options, options.traces))


if __name__ == "__main__":
    run(main)
