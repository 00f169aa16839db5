"""Make the training set's complement, for RL after SFT: the prompts of a larger set that it does not have."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, run

explain_missing_packages()
from luffy.data.prepare_command import complement_parser, prepare_from_arguments
from luffy.data.questions import read_prompt_keys
from luffy.data.system_prompt import as_in_training

FOLDER = Path(__file__).parent
LARGER_SET = "open-r1/OpenR1-Math-220k"
EXAMPLES = """examples:
  python data/prepare_train_sft_rl.py                           OpenR1-Math-220k without data/openr1.parquet
  python data/prepare_train_sft_rl.py --source large.jsonl --exclude data/mine.parquet --output data/rest.parquet
"""


def main() -> None:
    """Run the command."""
    parser = complement_parser(
        __doc__,
        EXAMPLES,
        source=[LARGER_SET],
        output=FOLDER / "openr1_complement.parquet",
        exclude=FOLDER / "openr1.parquet",
    )
    parser.set_defaults(system_prompt=None)
    arguments = parser.parse_args()
    arguments.system_prompt = arguments.system_prompt or as_in_training(arguments.exclude)
    print(prepare_from_arguments(arguments, traces=False, excluded=read_prompt_keys(arguments.exclude)))


if __name__ == "__main__":
    run(main)
