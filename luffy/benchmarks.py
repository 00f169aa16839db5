"""The benchmarks by the names that people give them: title, table, size, and how the published numbers sampled them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

IN_DISTRIBUTION = "in-distribution"
OUT_OF_DISTRIBUTION = "out-of-distribution"
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One column of a table.

    Attributes:
        name: ``data_source`` of its rows in the released files.
        title: what tables call it.
        group: the table that it stands in.
        problems: how many it has; None for a set of the user's own.
        samples: of each problem, behind the published numbers.
        spellings: other names of it, as :func:`plain_name` makes them.
        shared_names: names that sets of other people's have as well: only a file with all its problems is the benchmark.
    """

    name: str
    title: str
    group: str
    problems: int | None = None
    samples: int = 1
    spellings: tuple[str, ...] = ()
    shared_names: tuple[str, ...] = ()


_NO_NAMES = ("default", "test", "train", "all")  # configurations and splits
_PARTS = ("diamond", "main", "extended", "challenge", "easy")  # of a benchmark, behind its name

BENCHMARKS = (
    Benchmark(
        name="aime",
        title="AIME 2024",
        group=IN_DISTRIBUTION,
        problems=30,
        samples=32,
        spellings=("aime24", "aime2024"),
        shared_names=("aime",),
    ),
    Benchmark(name="aime25", title="AIME 2025", group=IN_DISTRIBUTION, problems=30, samples=32, spellings=("aime25", "aime2025")),
    Benchmark(
        name="amc",
        title="AMC",
        group=IN_DISTRIBUTION,
        problems=83,
        samples=32,
        spellings=("aimovalidationamc",),
        shared_names=("amc",),
    ),
    Benchmark(
        name="math",
        title="MATH-500",
        group=IN_DISTRIBUTION,
        problems=500,
        spellings=("math500", "hendrycksmath500"),
        shared_names=("math",),
    ),
    Benchmark(
        name="minerva",
        title="Minerva",
        group=IN_DISTRIBUTION,
        problems=272,
        spellings=("minervamath",),
        shared_names=("minerva",),
    ),
    Benchmark(
        name="olympiad_bench",
        title="Olympiad",
        group=IN_DISTRIBUTION,
        problems=675,
        spellings=("olympiadbench",),
        shared_names=("olympiad",),
    ),
    Benchmark(
        name="arc_c",
        title="ARC-c",
        group=OUT_OF_DISTRIBUTION,
        problems=1172,
        spellings=("arcc", "arcchallenge", "ai2arcchallenge"),
        shared_names=("arc", "ai2arc"),
    ),
    Benchmark(
        name="gpqa",
        title="GPQA-diamond",
        group=OUT_OF_DISTRIBUTION,
        problems=198,
        spellings=("gpqadiamond",),
        shared_names=("gpqa",),
    ),
    Benchmark(name="mmlu_pro", title="MMLU-Pro", group=OUT_OF_DISTRIBUTION, problems=12_032, spellings=("mmlupro",)),
    Benchmark(name="gpqa_main", title="GPQA-main", group=OTHER, problems=448, spellings=("gpqamain",)),
    Benchmark(name="gpqa_extended", title="GPQA-extended", group=OTHER, problems=546, spellings=("gpqaextended",)),
)


def benchmark(name: str, *, problems: int) -> Benchmark:
    """The benchmark that a set is.

    Args:
        name: the ``data_source`` of its rows, in any usual spelling (``math500``, ``HuggingFaceH4/MATH-500``).
        problems: how many distinct problems the whole set has.

    Returns:
        One of :data:`BENCHMARKS`; for any other name, a shared name (``math``) of a set that is not all of the benchmark,
        and a set with more problems than the benchmark: an own one, with its own name as title, in the group "other".
    """
    plain = plain_name(name)
    for entry in BENCHMARKS:
        if plain in entry.spellings and problems <= entry.problems:
            return entry
        if plain in entry.shared_names and problems == entry.problems:
            return entry
    return Benchmark(name=name, title=name, group=OTHER)


def namesake(name: str) -> Benchmark | None:
    """The benchmark that has a name too, whatever the set's size; None where there is none."""
    plain = plain_name(name)
    return next((entry for entry in BENCHMARKS if plain in (*entry.spellings, *entry.shared_names)), None)


def plain_name(name: str) -> str:
    """A ``data_source`` without what spellings differ in: owner, configuration, case, punctuation, width."""
    parts = [part for part in re.split(r"[/:]", unicodedata.normalize("NFKC", str(name)).casefold().strip()) if part]
    while len(parts) > 1 and parts[-1] in _NO_NAMES:
        parts.pop()
    named = parts[-2:] if parts and parts[-1] in _PARTS else parts[-1:]
    return re.sub(r"[\W_]+", "", "".join(named))
