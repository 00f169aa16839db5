"""Make the evaluation files: the paper's nine benchmarks, from the hub or local copies, their counts checked; and
valid.parquet, on which a training validates (AIME 2024 and AIME 2025 eight times each, AMC four times)."""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import Parser, explain_missing_packages, run

explain_missing_packages()
from luffy.benchmarks import namesake
from luffy.data.benchmark_sources import SOURCES, VALIDATION
from luffy.data.evaluation_set import write_evaluation_files
from luffy.data.layout import ColumnNames
from luffy.data.own_set import write_own_set
from luffy.data.source import SourceSpec
from luffy.data.system_prompt import as_in_training, system_rewriter
from luffy.errors import InputError

TRAINING_SET = "openr1.parquet"  # of prepare_train.py
EXAMPLES = """examples:
  python data/prepare_eval.py                                   all nine, from the hub, into data/
  python data/prepare_eval.py --validation-only                 data/valid.parquet alone, of three open benchmarks
  python data/prepare_eval.py --source problems.jsonl --name mine_test   own held-out set -> data/mine_test.parquet
  python data/prepare_eval.py --benchmarks math amc --local math=math500.jsonl amc=amc.parquet
"""


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", nargs="+", type=_name, choices=list(SOURCES), default=list(SOURCES), help="default: all nine")
    parser.add_argument("--source", help="a set of your own instead: a file, a folder or a hub name, in any layout of training data")
    parser.add_argument("--name", help="of your set: its file, and its column in tables where rows have no data_source of their own")
    parser.add_argument("--prompt-column", help="of your set, with the problem; default: found by name")
    parser.add_argument("--answer-column", help="of your set, with the gold answer; default: found by name")
    parser.add_argument("--split", default="test", help="of your set, where it has several; default: %(default)s")
    parser.add_argument("--validation-only", action="store_true", help=f"write {VALIDATION} alone")
    parser.add_argument(
        "--local",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="local copies: the hub's columns, or an evaluation file",
    )
    parser.add_argument("--output-folder", type=Path, default=Path(__file__).parent, help="default: %(default)s")
    parser.add_argument("--system-prompt", help="as in prepare_train.py; default: the training set's (openr1.parquet in the output folder)")
    parser.add_argument(
        "--no-repeats",
        action="store_true",
        help="write each problem once; AIME and AMC have 32 rows a problem otherwise (avg@32)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of GPQA's options; default: %(default)s")
    args = parser.parse_args()
    local = dict(_name_and_path(text) for text in args.local)
    system = system_rewriter(args.system_prompt or as_in_training(args.output_folder / TRAINING_SET))
    if args.source is not None:
        columns = ColumnNames(prompt=args.prompt_column, answer=args.answer_column)
        spec = SourceSpec(location=args.source, columns=columns, split=args.split)
        path, rows = write_own_set(spec, args.output_folder, name=args.name or Path(args.source).stem, system=system)
        print(f"{rows} rows: {path}")
        return
    if args.name or args.prompt_column or args.answer_column:
        raise InputError("--name, --prompt-column and --answer-column belong to a set of your own: give --source FILE as well")
    written = write_evaluation_files(
        args.benchmarks,
        args.output_folder,
        local=local,
        system=system,
        repeats=not args.no_repeats,
        validation_only=args.validation_only,
        seed=args.seed,
    )
    for path, rows in written.items():
        print(f"{rows} rows: {path}")


def _name(text: str) -> str:
    """The project's name of a benchmark in a usual spelling (MATH-500)."""
    known = namesake(text)
    return known.name if known and known.name in SOURCES else text


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    name = _name(name)
    if not equals or name not in SOURCES:
        raise InputError(f"--local {text} is not NAME=PATH with a name of {', '.join(SOURCES)}")
    if not Path(path).exists():
        raise InputError(f"--local {text}: {path} does not exist")
    return name, Path(path)


if __name__ == "__main__":
    run(main)
