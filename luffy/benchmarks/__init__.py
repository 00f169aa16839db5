"""The benchmarks, one entry each: where it comes from, how a row is read, what tables call it, how its answers are compared, what was
published on it. A new benchmark is a new entry of :data:`BENCHMARKS`."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IN_DISTRIBUTION = "in-distribution"
OUT_OF_DISTRIBUTION = "out-of-distribution"
OTHER = "other"

MATH, CHOICE = "math", "choice"  # kinds of answers
LETTERS = "ABCDEFGHIJ"
# The published prompt of GPQA, from OpenAI's simple-evals; the answer's form is what its scores depend on.
GPQA_REQUEST = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\n"
)

Problem = tuple[str, str]  # question, gold answer


def _plain(question: str, answer: Any, *, seed: str) -> Problem:
    return question, ", ".join(map(str, answer)) if isinstance(answer, (list, tuple)) else str(answer)


def _arc(question: str, choices: Mapping[str, Any], answer: str, *, seed: str) -> Problem:
    return _with_options(question, choices["text"]), LETTERS[choices["label"].index(answer)]


def _mmlu_pro(question: str, options: Sequence[str], answer: str, *, seed: str) -> Problem:
    return _with_options(question, options), LETTERS[LETTERS[: len(options)].index(answer)]


def _gpqa(question: str, *options: str, seed: str) -> Problem:
    # The source gives the right answer first; the order is drawn once for each problem, from the seed.
    order = random.Random(seed).sample(range(4), 4)
    asked = _with_options(question, [options[i] for i in order])
    return GPQA_REQUEST + asked.removesuffix("\n"), LETTERS[order.index(0)]


def _with_options(question: str, options: Sequence[str]) -> str:
    """Question and options as in the original's files, which ask for the letter in GPQA alone."""
    if not all(isinstance(text, str) for text in (question, *options)):
        raise ValueError("a question or option that is no text")
    return f"{question}\n\n" + "".join(f"{letter}) {option}\n" for letter, option in zip(LETTERS, options, strict=False))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: a column of a table.

    Attributes:
        name: ``data_source`` of its rows in the released files.
        title: what tables call it.
        group: the table that it stands in.
        problems: how many it has; None for a set of the user's own.
        samples: of each problem behind the published numbers, and rows of it in the evaluation file.
        spellings: other names of it, as :func:`plain_name` makes them.
        shared_names: names that sets of other people's have as well: only a file with all its problems is the benchmark.
        kind: how an answer is compared.
        kin: plain names, as a pattern, of further sources with answers of this kind.
        request: text of the published prompt without which a number is not comparable.
        prompt_known: whether it is known how the published numbers were asked for.
        hub: owner/name of a public copy; empty where it is not prepared.
        config: configuration on the hub.
        split: split on the hub.
        columns: those that are read.
        read: (their values, ``seed`` of the options' order) → (question, gold answer).
        file: the evaluation file that it belongs to.
        validation: rows that a problem has in the file that a training validates on; 0: it is not in it.
        published: its published numbers in percent, in the order of :data:`PUBLISHED`.
    """

    name: str
    title: str
    group: str
    problems: int | None = None
    samples: int = 1
    spellings: tuple[str, ...] = ()
    shared_names: tuple[str, ...] = ()
    kind: str = MATH
    kin: str = ""
    request: str = ""
    prompt_known: bool = True
    hub: str = ""
    config: str | None = None
    split: str = "test"
    columns: tuple[str, ...] = ("problem", "answer")
    read: Callable[..., Problem] = _plain
    file: str = "valid.all.parquet"
    validation: int = 0
    published: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A model of the paper: version of the paper, and its averages over the two groups, in percent."""

    name: str
    version: str
    average: float
    average_out: float | None = None


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
        if plain in entry.spellings and problems <= (entry.problems or 0):
            return entry
        if plain in entry.shared_names and problems == entry.problems:
            return entry
    return Benchmark(name=name, title=name, group=OTHER)


def namesake(name: str) -> Benchmark | None:
    """The benchmark that has a name too, whatever the set's size; None where there is none."""
    plain = plain_name(name)
    return next((entry for entry in BENCHMARKS if plain in (*entry.spellings, *entry.shared_names)), None)


def benchmark_kind(name: str) -> str | None:
    """How the answers of a source are compared ("math", "choice"); None for a source that is neither a benchmark nor akin to one."""
    entry, plain = namesake(name), plain_name(name)
    entry = entry or next((each for each in BENCHMARKS if re.fullmatch(each.kin, plain) and plain), None)
    return entry.kind if entry else None


def plain_name(name: str) -> str:
    """A ``data_source`` without what spellings differ in: owner, configuration, case, punctuation, width."""
    parts = [part for part in re.split(r"[/:]", unicodedata.normalize("NFKC", str(name)).casefold().strip()) if part]
    while len(parts) > 1 and parts[-1] in ("default", "test", "train", "all"):  # configurations and splits
        parts.pop()
    of_a_benchmark = ("diamond", "main", "extended", "challenge", "easy")  # parts that stand behind its name
    named = parts[-2:] if parts and parts[-1] in of_a_benchmark else parts[-1:]
    return re.sub(r"[\W_]+", "", "".join(named))


BENCHMARKS = (
    Benchmark(
        name="aime",
        title="AIME 2024",
        group=IN_DISTRIBUTION,
        problems=30,
        samples=32,
        spellings=("aime24", "aime2024"),
        shared_names=("aime",),
        hub="HuggingFaceH4/aime_2024",
        split="train",
        validation=8,
        published=(12.9, 11.4, 26.3, 17.2, 17.9, 31.7, 28.6, 24.6, 29.5, 29.4),
    ),
    Benchmark(
        name="aime25",
        title="AIME 2025",
        group=IN_DISTRIBUTION,
        problems=30,
        samples=32,
        spellings=("aime25", "aime2025"),
        hub="math-ai/aime25",
        validation=8,
        published=(4.2, 8.8, 6.7, 15.0, 14.7, 11.0, 23.5, 15.7, 23.2, 23.1),
    ),
    Benchmark(
        name="amc",
        title="AMC",
        group=IN_DISTRIBUTION,
        problems=83,
        samples=32,
        spellings=("aimovalidationamc",),
        shared_names=("amc",),
        hub="AI-MO/aimo-validation-amc",
        split="train",
        validation=4,
        published=(32.6, 48.3, 55.4, 52.3, 55.2, 61.6, 59.0, 61.3, 66.1, 65.6),
    ),
    Benchmark(
        name="math",
        title="MATH-500",
        group=IN_DISTRIBUTION,
        problems=500,
        spellings=("math500", "hendrycksmath500"),
        shared_names=("math",),
        hub="HuggingFaceH4/MATH-500",
        published=(48.8, 81.2, 74.4, 84.6, 79.4, 79.2, 86.0, 84.6, 88.4, 87.6),
    ),
    Benchmark(
        name="minerva",
        title="Minerva",
        group=IN_DISTRIBUTION,
        problems=272,
        spellings=("minervamath",),
        shared_names=("minerva",),
        hub="math-ai/minervamath",
        columns=("question", "answer"),
        published=(10.7, 33.1, 25.7, 33.8, 38.2, 29.8, 37.5, 34.9, 33.8, 37.5),
    ),
    Benchmark(
        name="olympiad_bench",
        title="Olympiad",
        group=IN_DISTRIBUTION,
        problems=675,
        spellings=("olympiadbench",),
        shared_names=("olympiad",),
        hub="knoveleng/OlympiadBench",
        split="train",
        columns=("question", "answer"),
        published=(14.8, 38.8, 35.4, 47.1, 42.2, 42.5, 51.1, 47.9, 56.4, 57.2),
    ),
    Benchmark(
        name="arc_c",
        title="ARC-c",
        group=OUT_OF_DISTRIBUTION,
        problems=1172,
        spellings=("arcc", "arcchallenge", "ai2arcchallenge"),
        shared_names=("arc", "ai2arc"),
        kind=CHOICE,
        kin=r"(leaderboard)?(arc[ce]?|arc(easy|challenge)|ai2arc(easy|challenge)?)",
        hub="allenai/ai2_arc",
        config="ARC-Challenge",
        columns=("question", "choices", "answerKey"),
        read=_arc,
        file="valid.arc_c.parquet",
        published=(18.2, 70.3, 30.2, 66.2, 73.3, 70.1, 75.2, 82.3, 80.5),
    ),
    Benchmark(
        name="gpqa",
        title="GPQA-diamond",
        group=OUT_OF_DISTRIBUTION,
        problems=198,
        spellings=("gpqadiamond",),
        shared_names=("gpqa",),
        kind=CHOICE,
        kin=r"(leaderboard)?gpqa.*",
        request="'ANSWER: $LETTER'",
        hub="Idavidrein/gpqa",
        config="gpqa_diamond",
        split="train",
        columns=("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        read=_gpqa,
        file="valid.gpqa.parquet",
        published=(11.1, 24.7, 23.2, 29.8, 18.2, 23.7, 24.7, 40.4, 39.9),
    ),
    Benchmark(
        name="mmlu_pro",
        title="MMLU-Pro",
        group=OUT_OF_DISTRIBUTION,
        problems=12_032,
        spellings=("mmlupro",),
        kind=CHOICE,
        kin=r"(leaderboard)?mmlu.*",
        prompt_known=False,
        hub="TIGER-Lab/MMLU-Pro",
        columns=("question", "options", "answer"),
        read=_mmlu_pro,
        file="valid.mmlu_pro.parquet",
        published=(16.9, 34.1, 34.5, 58.7, 32.7, 41.7, 42.7, 49.3, 53.0),
    ),
    Benchmark(name="gpqa_main", title="GPQA-main", group=OTHER, problems=448, spellings=("gpqamain",), kind=CHOICE),
    Benchmark(name="gpqa_extended", title="GPQA-extended", group=OTHER, problems=546, spellings=("gpqaextended",), kind=CHOICE),
)

PUBLISHED_SOURCE = "arXiv 2504.14945: v1 tables, the released README, and the averages of v5"
PUBLISHED_SAMPLING = {"temperature": 0.6, "top_p": 1.0, "max_tokens": 8192}  # paper, section 4, and the released script
PUBLISHED = (
    PublishedRow(name="Qwen2.5-Math-7B", version="v1", average=20.7, average_out=15.4),
    PublishedRow(name="Qwen2.5-Math-7B-Instruct", version="v1", average=36.9, average_out=43.0),
    PublishedRow(name="SimpleRL-Zero", version="v1", average=37.3, average_out=29.3),
    PublishedRow(name="OpenReasoner-Zero", version="v1", average=41.7, average_out=51.6),
    PublishedRow(name="PRIME-Zero", version="v1", average=41.3, average_out=41.4),
    PublishedRow(name="Oat-Zero", version="v1", average=42.6, average_out=45.2),
    PublishedRow(name="SFT", version="v1", average=47.6, average_out=47.5),
    PublishedRow(name="On-policy RL", version="v1", average=44.8, average_out=57.3),
    PublishedRow(name="LUFFY", version="v1", average=49.6, average_out=57.8),
    PublishedRow(name="LUFFY", version="v5", average=50.1, average_out=57.8),
    PublishedRow(name="SFT", version="v5", average=44.1, average_out=47.5),
    PublishedRow(name="RL + SFT loss", version="v5", average=40.1, average_out=46.0),
    PublishedRow(name="SFT + RL", version="v5", average=48.2, average_out=44.8),
    PublishedRow(name="Mixed policy (ablation)", version="v5", average=44.4),
    PublishedRow(name="Mixed policy + shaping (ablation)", version="v5", average=47.8),
)
