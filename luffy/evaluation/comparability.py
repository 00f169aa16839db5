"""What keeps a number from being compared with the published one of its benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from luffy.benchmarks import OTHER, Benchmark
from luffy.evaluation.results import BenchmarkResult

PUBLISHED = {"temperature": 0.6, "top_p": 1.0, "max_tokens": 8192}  # paper, section 4, and the released script
CHOICE_REQUESTS = {"gpqa": "'ANSWER: $LETTER'"}  # what the published prompt of a benchmark asks for, as its text has it

UNKNOWN_PROMPTS = ("mmlu_pro",)


def differences(entry: Benchmark, result: BenchmarkResult) -> Iterator[str]:
    """How the samples of a benchmark differ from those behind the published numbers.

    Args:
        entry: the benchmark; an own one has no published numbers, and no differences.
        result: its samples.
    """
    if entry.group == OTHER:
        return
    if len(result.samples) < entry.problems:
        yield f"{len(result.samples)} of {entry.problems} problems"
    if result.fewest_samples != entry.samples:
        yield f"{result.fewest_samples} samples of each problem (published: {entry.samples})"
    if not result.generation:
        yield "no manifest says how it was sampled"
    for name, published in PUBLISHED.items():
        if name in result.generation and result.generation[name] != published:
            yield f"{name} {result.generation[name]} (published: {published})"
    request = CHOICE_REQUESTS.get(entry.name)
    if request and request not in result.prompt:
        yield f"a prompt that does not ask for {request}"
    if entry.name in UNKNOWN_PROMPTS:
        yield "how the published number was asked for is not known"
