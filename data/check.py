"""Check a data file before training: its columns, and every row; JSON, CSV and Arrow as they would be read.

Exit code 1 where there are errors, 2 where the file cannot be read.
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import Positive, explain_missing_packages, option, parse, run

explain_missing_packages()
from luffy.data.check import check_training_file
from luffy.data.faults import ERROR
from luffy.data.judge import verifier
from luffy.models import load_tokenizer

EXAMPLES = """examples:
  python data/check.py data/openr1.parquet --tokenizer Qwen/Qwen2.5-Math-7B
  python data/check.py mine.jsonl
  python data/check.py data/valid.all.parquet --limit 100
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What is checked: the flags."""

    file: str = option(
        help="a parquet file: training, evaluation or SFT, told apart by its columns; or JSON, CSV, Arrow in any layout", positional=True
    )
    tokenizer: str | None = option(None, "folder or hub name; without it lengths and special tokens are not checked")
    max_prompt_length: int = option(1024, "tokens")
    max_response_length: int = option(8192, "tokens of (trace + EOS)")
    kind: Literal["train", "eval", "sft"] | None = option(None, "default: found from the columns")
    limit: Positive | None = option(None, "check this many rows only")
    no_verify: bool = option(False, "do not ask the verifier about gold answers and traces")
    num_workers: Positive = option(os.cpu_count() or 1, "verifier processes")


def main() -> int:
    """Run the command."""
    args = parse(Check, description=__doc__, examples=EXAMPLES, dashes=True)
    tokenizer = load_tokenizer(args.tokenizer, named=f"--tokenizer {args.tokenizer}") if args.tokenizer else None
    with contextlib.nullcontext() if args.no_verify else verifier(workers=args.num_workers) as verify:
        findings = check_training_file(
            args.file,
            tokenizer,
            args.max_prompt_length,
            args.max_response_length,
            args.limit,
            kind=args.kind,
            verify=verify,
        )
    print(*findings, sep="\n", end="\n" if findings else "")
    errors = sum(finding.severity == ERROR for finding in findings)
    print(f"{args.file}: {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    run(main)
