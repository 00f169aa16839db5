"""Make the SFT baseline's set from the training set: one conversation a trace, in veRL's column `messages`."""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import Parser, explain_missing_packages, run

explain_missing_packages()
from luffy.data.sft import write_sft_set

FOLDER = Path(__file__).parent
EXAMPLES = """examples:
  python data/prepare_sft.py                                    data/openr1.parquet -> data/openr1_sft.parquet
  python data/prepare_sft.py --input data/mine.parquet --output data/mine_sft.parquet
"""


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=FOLDER / "openr1.parquet", help="the training set; default: %(default)s")
    parser.add_argument("--output", type=Path, default=FOLDER / "openr1_sft.parquet", help="default: %(default)s")
    args = parser.parse_args()
    print(f"{write_sft_set(args.input, args.output)} conversations: {args.output}")


if __name__ == "__main__":
    run(main)
