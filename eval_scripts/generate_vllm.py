"""Evaluate a model on a file of problems: prompts, samples, verdicts (``--help`` lists the flags)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.evaluation.evaluate import Evaluation, evaluate, show_prompt


def main() -> None:
    """Run the command line."""
    evaluation = command_line.parse(Evaluation, description="Evaluate a model on a file of problems.")
    if evaluation.show_prompt:
        print(show_prompt(evaluation))
        return
    evaluate(evaluation)


if __name__ == "__main__":
    command_line.run(main)
