"""What a file of scored samples shows: accuracy by benchmark with its interval, and each sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from luffy.errors import InputError
from luffy.evaluation.results import BenchmarkResult, read_result
from luffy.evaluation.samples import located_rows, read_scored
from luffy.record import as_text
from luffy.view.chunks import Strings, pack

SAMPLES_A_CHUNK = 64
SAMPLE_COLUMNS = ("benchmark", "problem", "sample", "correct", "length", "reason", "answer")
TEXTS = ("prompt", "response", "answer", "gold", "reason", "finish_reason")  # of a sample's line


class ResultFile:
    """A file of scored samples.

    Args:
        path: as ``generate_vllm.py`` or ``score.py`` writes it.
        name: what the page calls it.

    Raises:
        InputError: where it is no such file.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.result = read_result(path, name=name)
        self._places: list[tuple[int, int]] = []

    def index(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a page shows of it before a sample is opened."""
        strings, rows = Strings(), []
        self._places = []
        for number, row, offset, length in located_rows(self.path):
            sample = read_scored(row, f"{self.path}: line {number}")
            self._places.append((offset, length))
            rows.append(
                (
                    strings(sample["benchmark"]),
                    sample["problem"],
                    sample["sample"],
                    sample["correct"],
                    math.nan if sample["length"] is None else sample["length"],
                    strings(as_text(str(row.get("reason") or ("correct" if sample["correct"] else "wrong")))),
                    strings(as_text(str(row.get("answer") or ""))[:200]),
                )
            )
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(SAMPLE_COLUMNS))
        arrays = {f"sample_{name}": np.ascontiguousarray(table[:, number]) for number, name in enumerate(SAMPLE_COLUMNS)}
        header = {
            "name": self.name,
            "file": str(self.path),
            "strings": strings.texts,
            "samples_a_chunk": SAMPLES_A_CHUNK,
            "benchmarks": [_benchmark(source, each) for source, each in self.result.benchmarks.items()],
        }
        return header, arrays

    @property
    def n_chunks(self) -> int:
        """Number of chunks, once :meth:`index` was called."""
        return -(-len(self._places) // SAMPLES_A_CHUNK)

    def chunk(self, number: int) -> bytes:
        """Texts of the samples ``64 number`` to ``64 number + 63``, by their order in the file.

        Raises:
            InputError: where there is no such chunk.
        """
        if not 0 <= number < self.n_chunks:
            raise InputError(f"{self.name}: no samples {number}")
        rows = list(located_rows(self.path, self._places[number * SAMPLES_A_CHUNK : (number + 1) * SAMPLES_A_CHUNK]))
        samples = [{name: _text(row.get(name)) for name in TEXTS if row.get(name) is not None} for _, row, _, _ in rows]
        return pack({"samples": samples}, {})

    def chunks(self) -> Iterator[bytes]:
        """All of its chunks."""
        return map(self.chunk, range(self.n_chunks))

    def state(self) -> tuple[Any, ...]:
        """What changes when the file has something new."""
        status = self.path.stat()
        return self.path.name, status.st_mtime_ns, status.st_size


def _text(value: Any) -> str:
    return as_text(value if isinstance(value, str) else str(value))


def _benchmark(source: str, result: BenchmarkResult) -> dict[str, Any]:
    accuracy = result.accuracy()
    k = result.fewest_samples
    passed = result.pass_at(k)
    return {
        "name": source,
        "problems": result.problems,
        "samples": result.total,
        "accuracy": [accuracy.value, accuracy.low, accuracy.high],
        "k": k,
        "pass_at_k": [passed.value, passed.low, passed.high],
        "truncated": result.truncated,
        "unanswered": result.unanswered,
        "length_right": _mean(result.lengths(correct=True)),
        "length_wrong": _mean(result.lengths(correct=False)),
    }


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
