"""See what groups did, what traces taught, how runs went and what was answered, in a browser (``--help`` lists the flags)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.view.show import ViewRequest, show


def main() -> None:
    """Run the command line."""
    show(command_line.parse(ViewRequest, description="One page of runs and results, for a browser."))


if __name__ == "__main__":
    command_line.run(main)
