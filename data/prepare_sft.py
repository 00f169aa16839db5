"""Make the SFT baseline's set from the training set: one conversation a trace, in veRL's column `messages`."""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, option, parse, run

explain_missing_packages()
from luffy.data.sft import write_sft_set

FOLDER = Path(__file__).parent
EXAMPLES = """examples:
  python data/prepare_sft.py                                    data/openr1.parquet -> data/openr1_sft.parquet
  python data/prepare_sft.py --input data/mine.parquet --output data/mine_sft.parquet
"""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """From which file to which: the flags."""

    input: Path = option(FOLDER / "openr1.parquet", "the training set")
    output: Path = option(FOLDER / "openr1_sft.parquet", "the SFT set")


def main() -> None:
    """Run the command."""
    args = parse(Conversion, description=__doc__, examples=EXAMPLES, dashes=True)
    print(f"{write_sft_set(args.input, args.output)} conversations: {args.output}")


if __name__ == "__main__":
    run(main)
