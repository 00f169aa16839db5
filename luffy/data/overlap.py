"""Problems of the evaluation sets, to find training prompts that leak them: whole, within instructions, or nearly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luffy.data.source import read_questions
from luffy.data.text import normalised, shown
from luffy.digests import key_digest

THRESHOLD = 0.8
_MIN_NORMALISED = 12  # shorter texts, such as '1+1=', are the same by chance
_MIN_NEAR = 40  # characters, without spaces, of a problem that others may be near to
_MIN_LEFT = 0.5  # of a problem that was shortened
_GRAM = 8
_POWERS = np.array([1_000_003**power % 2**64 for power in range(_GRAM)], dtype=np.uint64)
_COMMON = 0.01  # share of the problems above which a run of characters tells nothing: "findthev"
_CANDIDATES, _CANDIDATE_SHARE = 5, 0.2  # 0.85 ** 8 of the runs survive when 15 % of the characters are scattered edits
_MOST_SENTENCES = 4  # of a short problem

_BOUNDARY = re.compile(r"\n+|(?<!\S)\*\*|\*\*(?!\S)|(?<=[.?!:>\]])\s+|(?<=>)(?=\S)|(?=</?\w+>)")
_INSTRUCTION = re.compile(
    r"step[ -]by[ -]step|\\+boxed|\bfinal answer\b|\breason(?:ing)?\b.*\banswer\b|answer with the letter|<think>",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"[-+]?\d+")


@dataclass(frozen=True)
class Overlap:
    """A training prompt's problem in an evaluation set.

    Attributes:
        kind: "exact", "normalised" (but for typesetting), "contained" (whole, beside other sentences) or "near".
        benchmark: the set.
        detail: of a near one, how near it is to which problem.
    """

    kind: str
    benchmark: str
    detail: str = ""

    @property
    def place(self) -> str:
        """Kind and set, by which reports count."""
        return f"{self.kind}: {self.benchmark}"


@dataclass(frozen=True)
class _Problem:
    text: str
    question: str
    benchmark: str
    numbers: Counter[str]


class EvaluationPrompts:
    """The problems of evaluation files.

    Args:
        threshold: share of equal characters, in order, from which a problem with the same numbers is nearly the same
            (rapidfuzz finds the best place of the problem in a longer prompt); 1 finds none.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._exact: dict[bytes, str] = {}
        self._normalised: dict[str, str] = {}
        self._short: list[str] = []
        self._problems: list[_Problem] = []
        self._index: _GramIndex | None = None

    def __len__(self) -> int:
        return len(self._exact)

    def fingerprint(self) -> str:
        """A digest of all problems and the threshold, by which a resumed run knows that they are the same."""
        return key_digest(f"{self._threshold}" + "".join(sorted(key.hex() for key in self._exact))).hex()

    def add(self, question: str, benchmark: str) -> None:
        """Add one problem of a benchmark."""
        key = key_digest(question.strip())
        if key in self._exact:
            return
        self._exact[key] = benchmark
        texts = {_canonical(question), _without_instructions(question)}
        for text in texts:
            if len(text) >= _MIN_NORMALISED and text not in self._normalised:
                self._normalised[text] = benchmark
        text = min(texts, key=len)
        if len(text) >= _MIN_NEAR:
            self._problems.append(_Problem(text, question, benchmark, Counter(_NUMBER.findall(text))))
            self._index = None
        elif len(text) >= _MIN_NORMALISED:
            self._short.append(text)

    def find(self, question: str) -> Overlap | None:
        """Where a training prompt's problem is from."""
        if not self._exact:
            return None
        if name := self._exact.get(key_digest(question.strip())):
            return Overlap("exact", name)
        text = _canonical(question)
        if name := self._normalised.get(text):
            return Overlap("normalised", name)
        if any(short in text for short in self._short) and (name := self._whole_sentences(question)):
            return Overlap("contained", name)
        return self._near(text)

    def _whole_sentences(self, question: str) -> str | None:
        """The set of a problem that is some consecutive sentences or lines of a prompt."""
        parts = _segments(question)
        for first in range(len(parts)):
            text = ""
            for part in parts[first : first + _MOST_SENTENCES]:
                text += part
                if name := self._normalised.get(text):
                    return name
        return None

    def _near(self, text: str) -> Overlap | None:
        numbers, best = Counter(_NUMBER.findall(text)), None
        for problem in self._candidates(text):
            fewer, more = (problem.numbers, numbers) if len(text) >= len(problem.text) else (numbers, problem.numbers)
            if not fewer <= more:
                continue
            if problem.text in text:
                return Overlap("contained", problem.benchmark)
            score = _likeness(problem.text, text) if self._threshold < 1 else 0.0
            if score >= self._threshold and (best is None or score > best[0]):
                best = score, problem
        if best is None:
            return None
        return Overlap("near", best[1].benchmark, f"{best[0]:.2f} like {shown(best[1].question)}")

    def _candidates(self, text: str) -> list[_Problem]:
        if self._index is None:
            self._index = _GramIndex([problem.text for problem in self._problems])
        return [self._problems[number] for number in self._index.likely(text)]


class _GramIndex:
    """Finds the texts that share runs of characters with another one.

    Args:
        texts: the texts that are searched.
    """

    def __init__(self, texts: list[str]) -> None:
        grams = [_grams(text) for text in texts]
        numbers: np.ndarray = np.repeat(np.arange(len(texts)), [len(each) for each in grams])
        every = np.concatenate([np.empty(0, np.uint64), *grams])
        self._keys, place, count = np.unique(every, return_inverse=True, return_counts=True)
        telling = count[place] <= max(3, _COMMON * len(texts))
        order = np.argsort(place[telling], kind="stable")
        self._numbers = numbers[telling][order]
        self._starts: np.ndarray = place[telling][order].searchsorted(np.arange(len(self._keys) + 1))
        self._sizes = np.maximum(np.bincount(self._numbers, minlength=len(texts)), 1)

    def likely(self, text: str) -> list[int]:
        """Numbers of the texts of which the other one has a good share of the telling runs, the best first."""
        grams = _grams(text)
        places: np.ndarray = self._keys.searchsorted(grams)
        known = places < len(self._keys)
        places = places[known][self._keys[places[known]] == grams[known]]
        counts = self._starts[places + 1] - self._starts[places]
        firsts: np.ndarray = np.repeat(self._starts[places] - np.cumsum(counts) + counts, counts)
        found = self._numbers[firsts + np.arange(len(firsts))]
        shares = np.bincount(found, minlength=len(self._sizes)) / self._sizes
        best = np.argsort(-shares, kind="stable")[:_CANDIDATES]
        return [int(number) for number in best if shares[number] >= _CANDIDATE_SHARE]


def read_evaluation_prompts(paths: Iterable[Path], threshold: float = THRESHOLD) -> EvaluationPrompts:
    """Read the problems of evaluation files.

    Args:
        paths: files or folders of any known layout.
        threshold: of :class:`EvaluationPrompts`.

    Raises:
        InputError: where a file has no prompts.
    """
    prompts = EvaluationPrompts(threshold)
    for path in paths:
        for question, benchmark in read_questions(Path(path)):
            prompts.add(question, benchmark)
    return prompts


def _likeness(problem: str, text: str) -> float:
    """Share of a problem's characters at the best place in a longer text; of a shorter text's own in the problem."""
    from rapidfuzz import distance, fuzz

    if len(text) >= len(problem):
        return fuzz.partial_ratio(problem, text) / 100
    return distance.LCSseq.similarity(problem, text) / len(text) if len(text) >= _MIN_LEFT * len(problem) else 0.0


def _canonical(question: str) -> str:
    """Normalised as keys are, and without the commas of thousands."""
    return _THOUSANDS.sub("", normalised(question))


def _segments(question: str) -> list[str]:
    return [text for part in _BOUNDARY.split(question) if (text := _canonical(part))]


def _without_instructions(question: str) -> str:
    """The normalised problem without the sentences that tell how to answer, if enough is left."""
    parts = [part for part in _BOUNDARY.split(question) if not _INSTRUCTION.search(part)]
    text = "".join(map(_canonical, parts))
    return text if len(text) >= _MIN_NEAR else _canonical(question)


def _grams(text: str) -> np.ndarray:
    """Hashes of the different runs of ``_GRAM`` characters of a text: [runs] uint64."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < _GRAM:
        return np.empty(0, np.uint64)
    return np.unique(np.lib.stride_tricks.sliding_window_view(codes, _GRAM) @ _POWERS)
