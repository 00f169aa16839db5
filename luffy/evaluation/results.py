"""What a file of scored samples says: right answers by problem, lengths, what went wrong, and what is missing."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luffy.benchmarks import Benchmark, benchmark
from luffy.errors import InputError
from luffy.evaluation import manifest
from luffy.evaluation.estimators import Interval, mean_interval, pass_at_k
from luffy.evaluation.sample_log import numbered_rows
from luffy.evaluation.sample_row import ScoredSample, read_scored

logger = logging.getLogger(__name__)

# What files of one row should have in common, by part of the manifest.
WAYS = {
    manifest.GENERATION: ("template", "remove_system", "top_p", "max_tokens"),
    manifest.SCORING: ("thought_gate", "add_think_before_answer", "add_oat_evaluate", "any_true"),
}
MODEL_COLUMNS = ("model", "model_name", "model_path", "model_id")  # of other programs' lines
TRUNCATED = ("length", "prompt_too_long")


@dataclass
class BenchmarkResult:
    """The samples of one benchmark.

    Attributes:
        correct: right samples of each problem, by its benchmark's name in the file and its index.
        samples: all samples of each problem.
        ends: how often a response ended for each reason that is known; "length" is one of them.
        answered: samples with an answer (True) and without (False), where that is known.
        reasons: how often each reason of the grader was given.
        right_lengths: tokens of each right response, where they are known.
        wrong_lengths: tokens of each wrong one.
        planned: samples that the run was to make; None where no manifest says.
        of: distinct problems of the file that the run took its problems from; None where no manifest says.
        generation: the parameters of the run, from its manifest; empty where there is none.
        prompt: one prompt of it, where the lines have prompts.
    """

    correct: Counter[tuple[str, int]] = field(default_factory=Counter)
    samples: Counter[tuple[str, int]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    answered: Counter[bool] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    right_lengths: list[float] = field(default_factory=list)
    wrong_lengths: list[float] = field(default_factory=list)
    planned: int | None = None
    of: int | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""

    @property
    def total(self) -> int:
        """Number of samples."""
        return sum(self.samples.values())

    @property
    def fewest_samples(self) -> int:
        """Samples of the problem that has the fewest: the largest k of pass@k."""
        return min(self.samples.values())

    @property
    def truncated(self) -> float | None:
        """Share of the samples that were cut off; None where it is not known how they ended."""
        ended = sum(self.ends.values())
        return sum(self.ends[reason] for reason in TRUNCATED) / ended if ended else None

    @property
    def unanswered(self) -> float | None:
        """Share of the samples without an answer; None where that is not known."""
        known = sum(self.answered.values())
        return self.answered[False] / known if known else None

    def scores(self, k: int | None = None) -> list[float]:
        """One score a problem: the share of right samples, or pass@k."""
        if k is None:
            return [self.correct[problem] / n for problem, n in sorted(self.samples.items())]
        return [pass_at_k(n, self.correct[problem], k) for problem, n in sorted(self.samples.items())]

    def accuracy(self) -> Interval:
        """The mean over problems of the share of right samples (avg@n), with its interval."""
        return mean_interval(self.scores())

    def pass_at(self, k: int) -> Interval:
        """Pass@k with its interval."""
        return mean_interval(self.scores(k))

    def add(self, sample: ScoredSample) -> None:
        """Count one scored sample."""
        problem = (sample.benchmark, sample.problem)
        self.samples[problem] += 1
        self.correct[problem] += sample.correct
        if sample.finish_reason is not None:
            self.ends[sample.finish_reason] += 1
        if sample.answered is not None:
            self.answered[sample.answered] += 1
        if sample.reason is not None:
            self.reasons[sample.reason] += 1
        if sample.length is not None:
            (self.right_lengths if sample.correct else self.wrong_lengths).append(sample.length)

    def joined(self, other: BenchmarkResult) -> BenchmarkResult:
        """The samples of both: one benchmark in two spellings of its name."""
        sums = ("correct", "samples", "ends", "answered", "reasons", "right_lengths", "wrong_lengths")
        plans = [None if None in (a, b) else a + b for a, b in ((self.planned, other.planned), (self.of, other.of))]
        both = {name: getattr(self, name) + getattr(other, name) for name in sums}
        return replace(self, **both, planned=plans[0], of=plans[1])


@dataclass(frozen=True, kw_only=True)
class Result:
    """The scored samples of one model.

    Attributes:
        name: what tables call it.
        named: whether the user gave this name, so that files without a manifest may share it.
        files: where they were read.
        benchmarks: its benchmarks by the names that the files have, in their order.
        parameters: the first file's parameters from its manifest, by part; empty where there is none.
        absent: the benchmarks that its run was to answer and has not begun, with their samples.
    """

    name: str
    named: bool
    files: tuple[Path, ...]
    benchmarks: dict[str, BenchmarkResult]
    parameters: dict[str, dict[str, Any]]
    absent: dict[str, int] = field(default_factory=dict)

    @property
    def temperature(self) -> float | None:
        """Sampling temperature of the run, where its manifest says."""
        found = self.parameters.get(manifest.GENERATION, {}).get("temperature")
        return found if isinstance(found, (int, float)) else None

    @property
    def columns(self) -> dict[Benchmark, BenchmarkResult]:
        """Its benchmarks as tables know them: spellings of one name are one column."""
        found: dict[Benchmark, BenchmarkResult] = {}
        for source, result in self.benchmarks.items():
            entry = benchmark(source, problems=result.of or len(result.samples))
            found[entry] = found[entry].joined(result) if entry in found else result
        return found


def read_result(path: str | Path, *, name: str | None = None) -> Result:
    """Read a file of scored samples.

    Args:
        path: JSONL file of scored samples.
        name: what to call the model; None takes the file's name.

    Raises:
        InputError: where the file is absent, empty, or not scored yet, or a line is not clear.
    """
    path = Path(path)
    benchmarks: dict[str, BenchmarkResult] = defaultdict(BenchmarkResult)
    seen: set[tuple[str, int, int]] = set()
    models: dict[str, str] = {}
    for number, row in numbered_rows(path):
        sample = read_scored(row, f"{path}: line {number}")
        key = (sample.benchmark, sample.problem, sample.sample)
        if key in seen:
            raise InputError(f"{path}: line {number}: problem {key[1]} has sample {key[2]} twice; are it two results?")
        seen.add(key)
        for column in MODEL_COLUMNS:
            if column in row and models.setdefault(column, str(row[column])) != str(row[column]):
                raise InputError(
                    f"{path}: line {number}: '{column}' is {row[column]!r:.60}, {models[column]!r:.60} before: these are "
                    "results of two models; give each its own file"
                )
        result = benchmarks[sample.benchmark]
        result.add(sample)
        result.prompt = result.prompt or str(row.get("prompt") or "")
    if not benchmarks:
        raise InputError(f"{path}: no samples in it")
    parameters = manifest.read_manifest(path)
    plans = _plans(path, parameters)
    for source, result in benchmarks.items():
        result.planned, result.of = plans.get(source, (None, None))
        result.generation = parameters.get(manifest.GENERATION, {})
    return Result(
        name=name or path.name.removesuffix(".jsonl"),
        named=name is not None,
        files=(path,),
        benchmarks=dict(benchmarks),
        parameters=parameters,
        absent={source: planned for source, (planned, _) in plans.items() if source not in benchmarks},
    )


def _plans(path: Path, parameters: dict[str, dict[str, Any]]) -> dict[str, tuple[int, int | None]]:
    """For each benchmark the samples that were to be made, and the problems that its whole file has."""
    if plan := parameters.get(manifest.PLAN):
        return {source: (each["samples"], each["of"]) for source, each in plan.items()}
    decoded = manifest.decoded_path(path)
    if decoded == path or not decoded.is_file():
        return {}
    generated = Counter(row.get("benchmark") for _, row in numbered_rows(decoded))
    return {source: (samples, None) for source, samples in generated.items() if isinstance(source, str)}


def merge(results: Sequence[Result]) -> list[Result]:
    """Results of one name and one temperature as one row (a model's files of different benchmarks).

    Raises:
        InputError: where two of one name are of different models or hold the same benchmark, or nobody says whose they are.
    """
    merged: dict[tuple[str, float | None], Result] = {}
    first: dict[str, Result] = {}
    for result in results:
        _check_one_model(first.setdefault(result.name, result), result)
        key = (result.name, result.temperature)
        merged[key] = _joined(merged[key], result) if key in merged else result
    return list(merged.values())


def _check_one_model(first: Result, result: Result) -> None:
    if first is result:
        return
    files = f"{first.files[0]} and {result.files[0]}"
    ours, theirs = (each.parameters.get(manifest.GENERATION, {}) for each in (first, result))
    known = next((part for part in manifest.MODEL_PARTS if part in ours and part in theirs), None)
    if known is not None and ours[known] != theirs[known]:
        models = f"{ours.get('model')} and {theirs.get('model')}"
        raise InputError(f"'{result.name}' names {files}, which are of two models ({models}); name each with --names")
    if known is None and not (first.named and result.named):
        raise InputError(
            f"'{result.name}' names {files}, and no manifest says that they are of one model; give each a name with "
            "--names, the same one if they are"
        )


def _joined(first: Result, second: Result) -> Result:
    titles = {entry.title for entry in first.columns.keys() & second.columns.keys()}
    both = sorted(titles | (first.benchmarks.keys() & second.benchmarks.keys()))
    if both:
        raise InputError(f"'{first.name}' has {', '.join(both)} in two files; give each its own name with --names")
    ways = list(_different_ways(first.parameters, second.parameters))
    if ways:
        logger.warning(
            "'%s' is one row of files that were asked or judged in different ways (%s); give them different --names to keep them apart",
            first.name,
            ", ".join(ways),
        )
    return replace(
        first,
        files=(*first.files, *second.files),
        benchmarks={**first.benchmarks, **second.benchmarks},
        absent={**first.absent, **second.absent},
    )


def _different_ways(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> Iterator[str]:
    for part, names in WAYS.items():
        one, other = ours.get(part, {}), theirs.get(part, {})
        for name in names:
            if name in one and name in other and one[name] != other[name]:
                yield f"{name} {one[name]!r} and {other[name]!r}"
