"""Which of a problem's right answers become its traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from luffy.teachers.answers import Given

Choice = Literal["first", "shortest", "different"]
COMPARED_CHARS = 20_000  # of each answer, from its beginning

Candidate = tuple[str, Given]  # teacher and answer


def choose(candidates: Sequence[Candidate], keep: int, choice: Choice) -> list[Candidate]:
    """Up to ``keep`` answers of a problem with different texts.

    Args:
        candidates: in the order of the teachers, and of each one's samples.
        keep: how many.
        choice: "first": each teacher's first sample before its second; "shortest": by tokens; "different": the shortest, and then always
            the one that is least alike to those that are chosen.
    """
    candidates = sorted(candidates, key=lambda each: each[1].key[1])  # stable: teachers keep their order
    texts: dict[str, Candidate] = {}
    for each in candidates:
        texts.setdefault(each[1].text.strip(), each)
    unlike = list(texts.values())
    if choice != "first":
        unlike.sort(key=lambda each: each[1].length)
    return _least_alike(unlike, keep, likeness) if choice == "different" else unlike[:keep]


def likeness(one: str, other: str) -> float:
    """How alike two texts are: 2 × (length of their longest common subsequence) / (sum of their lengths), in [0, 1]."""
    from rapidfuzz.distance import Indel

    return float(Indel.normalized_similarity(one[:COMPARED_CHARS], other[:COMPARED_CHARS]))


def _least_alike(candidates: list[Candidate], keep: int, alike: Callable[[str, str], float]) -> list[Candidate]:
    chosen, left = candidates[:1], candidates[1:]
    most = [alike(chosen[0][1].text, each.text) for _, each in left]
    while left and len(chosen) < keep:
        place = min(range(len(left)), key=most.__getitem__)
        chosen.append(left.pop(place))
        most.pop(place)
        most = [max(known, alike(chosen[-1][1].text, each.text)) for known, (_, each) in zip(most, left, strict=True)]
    return chosen[:keep]
