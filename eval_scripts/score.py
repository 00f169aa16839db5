"""Score generated samples (``NAME.decoded.jsonl``) without generating anything (``--help`` lists the flags)."""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.command_line import option
from luffy.evaluation.scoring import Scoring, score


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command line."""

    input_file: Path = option(help="NAME.decoded.jsonl of generate_vllm.py")
    output_file: Path | None = option(None, "JSONL file of scored samples; default: NAME.jsonl")
    output_eval: Path | None = option(None, "JSON file of the accuracies; default: beside the output")
    overwrite: bool = option(False, "score anew where the output was scored in another way")
    scoring: Scoring = Scoring()


def main() -> None:
    """Run the command line."""
    asked = command_line.parse(Command, description="Score generated samples.")
    score(asked.input_file, asked.scoring, output=asked.output_file, output_eval=asked.output_eval, overwrite=asked.overwrite)


if __name__ == "__main__":
    command_line.run(main)
