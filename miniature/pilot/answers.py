"""Answer the held-out sets of one model, in one process: ``python -m miniature.pilot.answers --model_path M --output_dir D --files ...``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luffy.command_line import Positive, option, parse, run
from luffy.evaluation.engine import Sampling
from luffy.evaluation.evaluate import Evaluation, evaluate


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The flags."""

    model_path: str = option(help="a model folder")
    output_dir: Path = option(help="gets NAME.jsonl of each file")
    files: tuple[str, ...] = option(help="NAME=FILE, parquet files of problems")
    n: Positive = option(4, "answers to each problem")
    temperature: float = option(1.0, "of the draws")
    max_tokens: Positive = option(8192, "longest answer")


def main() -> None:
    """Answer and score."""
    asked = parse(Asked, description="Answer the held-out sets of a pilot.")
    for name, file in (each.split("=", 1) for each in asked.files):
        sampling = Sampling(temperature=asked.temperature, max_tokens=asked.max_tokens)
        output = asked.output_dir / f"{name}.jsonl"
        evaluate(
            Evaluation(
                model_path=asked.model_path, input_file=file, output_file=output, n=asked.n, sampling=sampling, remove_system=False
            )
        )  # fmt: skip


if __name__ == "__main__":
    run(main)
