"""Make the evaluation files: the paper's nine benchmarks, from the hub or local copies, their counts checked; and
valid.parquet, on which a training validates (AIME 2024 and AIME 2025 eight times each, AMC four times)."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, option, parse, run

explain_missing_packages()
from luffy.benchmarks import namesake
from luffy.benchmarks.prepare import PREPARED, VALIDATION, write_evaluation_files, write_own_set
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


def benchmark_name(text: str) -> str:
    """The project's name of a benchmark in a usual spelling (MATH-500)."""
    known = namesake(text)
    return known.name if known and known.name in PREPARED else text


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command line."""

    benchmarks: tuple[Annotated[str, benchmark_name], ...] = option(tuple(PREPARED), "these alone", choices=list(PREPARED))
    source: str | None = option(None, "a set of your own instead: a file, a folder or a hub name, in any layout of training data")
    name: str | None = option(None, "of your set: its file, and its column in tables where rows have no data_source of their own")
    prompt_column: str | None = option(None, "of your set, with the problem; default: found by name")
    answer_column: str | None = option(None, "of your set, with the gold answer; default: found by name")
    split: str = option("test", "of your set, where it has several")
    validation_only: bool = option(False, f"write {VALIDATION} alone")
    local: tuple[str, ...] = option((), "local copies: the hub's columns, or an evaluation file", metavar="NAME=PATH")
    output_folder: Path = option(Path(__file__).parent, "where files go")
    system_prompt: str | None = option(None, f"as in prepare_train.py; default: the training set's ({TRAINING_SET} in the output folder)")
    no_repeats: bool = option(False, "write each problem once; AIME and AMC have 32 rows a problem otherwise (avg@32)")
    seed: int = option(0, "of the order of GPQA's options")


def main() -> None:
    """Run the command."""
    command = parse(Command, description=__doc__, examples=EXAMPLES, dashes=True)
    local = dict(map(_name_and_path, command.local))
    system = system_rewriter(command.system_prompt or as_in_training(command.output_folder / TRAINING_SET))
    if command.source is not None:
        spec = SourceSpec(location=command.source, prompt=command.prompt_column, answer=command.answer_column, split=command.split)
        path, rows = write_own_set(spec, command.output_folder, name=command.name or Path(command.source).stem, system=system)
        print(f"{rows} rows: {path}")
        return
    if command.name or command.prompt_column or command.answer_column:
        raise InputError("--name, --prompt-column and --answer-column belong to a set of your own: give --source FILE as well")
    written = write_evaluation_files(
        command.benchmarks,
        command.output_folder,
        local=local,
        system=system,
        repeats=not command.no_repeats,
        validation_only=command.validation_only,
        seed=command.seed,
    )
    for path, rows in written.items():
        print(f"{rows} rows: {path}")


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    name = benchmark_name(name)
    if not equals or name not in PREPARED:
        raise InputError(f"--local {text} is not NAME=PATH with a name of {', '.join(PREPARED)}")
    if not Path(path).exists():
        raise InputError(f"--local {text}: {path} does not exist")
    return name, Path(path)


if __name__ == "__main__":
    run(main)
