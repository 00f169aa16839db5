"""Ask a model a question and print its answer as it is written (``--help`` lists the flags)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.evaluation.evaluate import Question, answer


def main() -> None:
    """Run the command line."""
    for piece in answer(command_line.parse(Question, description="Ask a model a question and print its answer as it is written.")):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    command_line.run(main)
