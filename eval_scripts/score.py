"""Score generated samples (``NAME.decoded.jsonl``) without generating anything (``--help`` lists the flags)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.evaluation.evaluate import score
from luffy.evaluation.flags import read_scoring, score_parser


def main() -> None:
    """Run the command line."""
    arguments = score_parser().parse_args()
    score(
        arguments.input_file,
        read_scoring(arguments),
        output=arguments.output_file,
        output_eval=arguments.output_eval,
        overwrite=arguments.overwrite,
    )


if __name__ == "__main__":
    command_line.run(main)
