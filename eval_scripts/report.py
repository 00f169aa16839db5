"""Tables and figures from files of scored samples (``--help`` lists the flags)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.evaluation.report import ReportRequest, write_report


def main() -> None:
    """Run the command line."""
    write_report(command_line.parse(ReportRequest, description="Tables and figures from files of scored samples."))


if __name__ == "__main__":
    command_line.run(main)
