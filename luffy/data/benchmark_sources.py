"""Where the nine benchmarks of the paper come from, and how one of their rows becomes a question and a gold answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# (row, seed of its options' order) -> (question, gold answer)
ReadProblem = Callable[[Mapping[str, Any], str], tuple[str, str]]

LETTERS = "ABCDEFGHIJ"
# The published prompt of GPQA, from OpenAI's simple-evals; the answer's form is what its scores depend on.
GPQA_REQUEST = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\n"
)
VALIDATION = "valid.parquet"  # what a training validates on, every few steps


@dataclass(frozen=True, kw_only=True)
class BenchmarkSource:
    """One benchmark.

    Attributes:
        name: its ``data_source``.
        hub: owner/name of a public copy.
        config: configuration on the hub.
        split: split on the hub.
        columns: those that are read.
        count: how many problems it has; another number is an error.
        read: turns a row into question and gold answer.
        file: the evaluation file that it belongs to.
        repeats: rows a problem has in that file, as in the published ones (avg@32).
        validation: rows a problem has in :data:`VALIDATION`; 0: it is not in it.
    """

    name: str
    hub: str
    config: str | None = None
    split: str = "test"
    columns: tuple[str, ...]
    count: int
    read: ReadProblem
    file: str = "valid.all.parquet"
    repeats: int = 1
    validation: int = 0


def _plain(question: str, answer: str) -> ReadProblem:
    return lambda row, seed: (row[question], _joined(row[answer]))


def _joined(answer: Any) -> str:
    return ", ".join(map(str, answer)) if isinstance(answer, (list, tuple)) else str(answer)


def _arc(row: Mapping[str, Any], seed: str) -> tuple[str, str]:
    choices = row["choices"]
    return _with_options(row["question"], choices["text"]), LETTERS[choices["label"].index(row["answerKey"])]


def _mmlu_pro(row: Mapping[str, Any], seed: str) -> tuple[str, str]:
    options, answer = row["options"], row["answer"]
    return _with_options(row["question"], options), LETTERS[LETTERS[: len(options)].index(answer)]


def _gpqa(row: Mapping[str, Any], seed: str) -> tuple[str, str]:
    # The source gives the right answer first; the order is drawn once for each problem, from the seed.
    options = [row["Correct Answer"], *(row[f"Incorrect Answer {i}"] for i in (1, 2, 3))]
    order = random.Random(seed).sample(range(4), 4)
    question = _with_options(row["Question"], [options[i] for i in order])
    return GPQA_REQUEST + question.removesuffix("\n"), LETTERS[order.index(0)]


def _with_options(question: str, options: Sequence[str]) -> str:
    """Question and options as in the original's files, which ask for the letter in GPQA alone."""
    if not all(isinstance(text, str) for text in (question, *options)):
        raise ValueError("a question or option that is no text")
    return f"{question}\n\n" + "".join(f"{letter}) {option}\n" for letter, option in zip(LETTERS, options, strict=False))


_GPQA_COLUMNS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")

SOURCES = {
    source.name: source
    for source in (
        BenchmarkSource(
            name="aime",
            hub="HuggingFaceH4/aime_2024",
            split="train",
            columns=("problem", "answer"),
            count=30,
            read=_plain("problem", "answer"),
            repeats=32,
            validation=8,
        ),
        BenchmarkSource(
            name="aime25",
            hub="math-ai/aime25",
            columns=("problem", "answer"),
            count=30,
            read=_plain("problem", "answer"),
            repeats=32,
            validation=8,
        ),
        BenchmarkSource(
            name="amc",
            hub="AI-MO/aimo-validation-amc",
            split="train",
            columns=("problem", "answer"),
            count=83,
            read=_plain("problem", "answer"),
            repeats=32,
            validation=4,
        ),
        BenchmarkSource(
            name="math",
            hub="HuggingFaceH4/MATH-500",
            columns=("problem", "answer"),
            count=500,
            read=_plain("problem", "answer"),
        ),
        BenchmarkSource(
            name="minerva",
            hub="math-ai/minervamath",
            columns=("question", "answer"),
            count=272,
            read=_plain("question", "answer"),
        ),
        BenchmarkSource(
            name="olympiad_bench",
            hub="knoveleng/OlympiadBench",
            split="train",
            columns=("question", "answer"),
            count=675,
            read=_plain("question", "answer"),
        ),
        BenchmarkSource(
            name="arc_c",
            hub="allenai/ai2_arc",
            config="ARC-Challenge",
            columns=("question", "choices", "answerKey"),
            count=1172,
            read=_arc,
            file="valid.arc_c.parquet",
        ),
        BenchmarkSource(
            name="gpqa",
            hub="Idavidrein/gpqa",
            config="gpqa_diamond",
            split="train",
            columns=_GPQA_COLUMNS,
            count=198,
            read=_gpqa,
            file="valid.gpqa.parquet",
        ),
        BenchmarkSource(
            name="mmlu_pro",
            hub="TIGER-Lab/MMLU-Pro",
            columns=("question", "options", "answer"),
            count=12032,
            read=_mmlu_pro,
            file="valid.mmlu_pro.parquet",
        ),
    )
}
