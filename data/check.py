"""Check a data file before training: its columns, and every row; JSON, CSV and Arrow as they would be read.

Exit code 1 where there are errors, 2 where the file cannot be read.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import Parser, explain_missing_packages, positive, run

explain_missing_packages()
from luffy.data.check import check_training_file
from luffy.data.finding import ERROR
from luffy.data.lengths import load_tokenizer
from luffy.data.verification import verifier

EXAMPLES = """examples:
  python data/check.py data/openr1.parquet --tokenizer Qwen/Qwen2.5-Math-7B
  python data/check.py mine.jsonl
  python data/check.py data/valid.all.parquet --limit 100
"""


def main() -> int:
    """Run the command."""
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file", help="a parquet file: training, evaluation or SFT, told apart by its columns; or JSON, CSV, Arrow in any layout"
    )
    parser.add_argument("--tokenizer", help="folder or hub name; without it lengths and special tokens are not checked")
    parser.add_argument("--max-prompt-length", type=int, default=1024, help="tokens; default: %(default)s")
    parser.add_argument("--max-response-length", type=int, default=8192, help="tokens of (trace + EOS); default: %(default)s")
    parser.add_argument("--kind", choices=("train", "eval", "sft"), help="default: found from the columns")
    parser.add_argument("--limit", type=positive, help="check this many rows only")
    parser.add_argument("--no-verify", action="store_true", help="do not ask the verifier about gold answers and traces")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count(), help="verifier processes; default: the cores (%(default)s)")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
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
