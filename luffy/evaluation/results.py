"""What files of scored samples say: one frame a benchmark, a line a sample, and what is missing of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luffy.benchmarks import OTHER, PUBLISHED_SAMPLING, Benchmark, benchmark
from luffy.errors import InputError
from luffy.evaluation import manifest
from luffy.evaluation.estimators import Interval, mean_interval, pass_at_k
from luffy.evaluation.samples import CUT_OFF, numbered_rows, read_scored

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# What files of one row should have in common, by part of the manifest.
WAYS = {
    manifest.GENERATION: ("template", "remove_system", "top_p", "max_tokens"),
    manifest.SCORING: ("thought_gate", "add_think_before_answer", "add_oat_evaluate", "any_true"),
}
MODEL_COLUMNS = ("model", "model_name", "model_path", "model_id")  # of other programs' lines
COLUMNS = ("benchmark", "problem", "sample", "correct", "answered", "length", "finish_reason")  # of read_scored, and of the frame
TRUNCATED = (CUT_OFF, "prompt_too_long")


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkResult:
    """The samples of one benchmark.

    Attributes:
        samples: a line a sample, with :data:`COLUMNS`; what a file does not say is None.
        planned: samples that the run was to make; None where no manifest says.
        of: distinct problems of the file that the run took its problems from; None where no manifest says.
        generation: the parameters of the run, from its manifest; empty where there is none.
        prompt: one prompt of it; empty where the lines have none.
    """

    samples: pd.DataFrame
    planned: int | None = None
    of: int | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Samples (``n``) and right ones (``right``) of each problem, which its benchmark's name in the file and its number tell apart."""
        return self.samples.groupby(["benchmark", "problem"])["correct"].agg(n="size", right="sum")

    @property
    def total(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def problems(self) -> int:
        """Number of distinct problems."""
        return len(self.counts)

    @property
    def fewest_samples(self) -> int:
        """Samples of the problem that has the fewest: the largest k of pass@k."""
        return int(self.counts["n"].min())

    @property
    def ks(self) -> list[int]:
        """Where pass@k is shown: the powers of two up to the fewest samples of a problem, and that number."""
        most = self.fewest_samples
        return sorted({2**power for power in range(most.bit_length())} | {most})

    @property
    def truncated(self) -> float | None:
        """Share of the samples that were cut off; None where it is not known how they ended."""
        ends = self.samples["finish_reason"].dropna()
        return float(ends.isin(TRUNCATED).mean()) if len(ends) else None

    @property
    def unanswered(self) -> float | None:
        """Share of the samples without an answer; None where that is not known."""
        answered = self.samples["answered"].dropna()
        return float((answered == False).mean()) if len(answered) else None  # noqa: E712 (a column)

    def lengths(self, *, correct: bool) -> list[float]:
        """Tokens of the right or of the wrong responses, where they are known."""
        return self.samples.loc[self.samples["correct"] == correct, "length"].dropna().tolist()

    def scores(self, k: int | None = None) -> list[float]:
        """One score a problem: the share of right samples, or pass@k."""
        pairs = zip(self.counts["n"].tolist(), self.counts["right"].tolist(), strict=True)
        return [right / n if k is None else pass_at_k(n, right, k) for n, right in pairs]

    def accuracy(self) -> Interval:
        """The mean over problems of the share of right samples (avg@n), with its interval."""
        return mean_interval(self.scores())

    def pass_at(self, k: int) -> Interval:
        """Pass@k with its interval."""
        return mean_interval(self.scores(k))

    def joined(self, other: BenchmarkResult) -> BenchmarkResult:
        """The samples of both: one benchmark in two spellings of its name."""
        import pandas as pd

        planned, of = (None if a is None or b is None else a + b for a, b in ((self.planned, other.planned), (self.of, other.of)))
        return replace(self, samples=pd.concat([self.samples, other.samples]), planned=planned, of=of)

    def differences(self, entry: Benchmark) -> Iterator[str]:
        """What keeps its numbers from being compared with the published ones of a benchmark; an own one has none."""
        if entry.group == OTHER:
            return
        if self.problems < (entry.problems or 0):
            yield f"{self.problems} of {entry.problems} problems"
        if self.fewest_samples != entry.samples:
            yield f"{self.fewest_samples} samples of each problem (published: {entry.samples})"
        if not self.generation:
            yield "no manifest says how it was sampled"
        for name, published in PUBLISHED_SAMPLING.items():
            if self.generation.get(name, published) != published:
                yield f"{name} {self.generation[name]} (published: {published})"
        if entry.request not in self.prompt:
            yield f"a prompt that does not ask for {entry.request}"
        if not entry.prompt_known:
            yield "how the published number was asked for is not known"


@dataclass(frozen=True, kw_only=True, eq=False)
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
    parameters: dict[str, Any]
    absent: dict[str, int]

    @property
    def temperature(self) -> float | None:
        """Sampling temperature of the run, where its manifest says."""
        found = self.parameters.get(manifest.GENERATION, {}).get("temperature")
        return found if isinstance(found, (int, float)) else None

    @cached_property
    def columns(self) -> dict[Benchmark, BenchmarkResult]:
        """Its benchmarks as tables know them: spellings of one name are one column."""
        found: dict[Benchmark, BenchmarkResult] = {}
        for source, result in self.benchmarks.items():
            entry = benchmark(source, problems=result.of or result.problems)
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
    samples, prompts = _read(path)
    parameters = manifest.read_manifest(path)
    plans = _plans(path, parameters)
    benchmarks = {
        str(source): BenchmarkResult(
            samples=of_source,
            planned=plans.get(str(source), (None, None))[0],
            of=plans.get(str(source), (None, None))[1],
            generation=parameters.get(manifest.GENERATION, {}),
            prompt=prompts.get(str(source), ""),
        )
        for source, of_source in samples.groupby("benchmark", sort=False)
    }
    return Result(
        name=name or path.name.removesuffix(".jsonl"),
        named=name is not None,
        files=(path,),
        benchmarks=benchmarks,
        parameters=parameters,
        absent={source: planned for source, (planned, _) in plans.items() if source not in benchmarks},
    )


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """The samples of a file, by the numbers of their lines, and a prompt of each benchmark that has one."""
    import pandas as pd

    lines: dict[int, tuple[Any, ...]] = {}
    prompts: dict[str, str] = {}
    models: dict[str, str] = {}
    for number, row in numbered_rows(path):
        sample = read_scored(row, f"{path}: line {number}")
        lines[number] = tuple(sample[column] for column in COLUMNS)
        if row.get("prompt"):
            prompts.setdefault(sample["benchmark"], str(row["prompt"]))
        for column in MODEL_COLUMNS:
            if column in row and models.setdefault(column, str(row[column])) != str(row[column]):
                raise InputError(
                    f"{path}: line {number}: '{column}' is {row[column]!r:.60}, {models[column]!r:.60} before: these are "
                    "results of two models; give each its own file"
                )
    if not lines:
        raise InputError(f"{path}: no samples in it")
    samples = pd.DataFrame.from_dict(lines, orient="index", columns=list(COLUMNS), dtype=object).astype({"correct": bool})
    for number in samples.index[samples.duplicated(["benchmark", "problem", "sample"])][:1]:
        _, problem, taken, *_ = lines[number]
        raise InputError(f"{path}: line {number}: problem {problem} has sample {taken} twice; are it two results?")
    return samples, prompts


def _plans(path: Path, parameters: dict[str, Any]) -> dict[str, tuple[int, int | None]]:
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


def _different_ways(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    for part, names in WAYS.items():
        one, other = ours.get(part, {}), theirs.get(part, {})
        for name in names:
            if name in one and name in other and one[name] != other[name]:
                yield f"{name} {one[name]!r} and {other[name]!r}"
