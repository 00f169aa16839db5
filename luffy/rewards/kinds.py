"""How each data source's answers are compared: one table for training and evaluation."""

from __future__ import annotations

import re

from luffy.benchmarks import plain_name

MATH, CHOICE, TINY, EXACT = "math", "choice", "tiny", "exact"
KINDS = (MATH, CHOICE, TINY, EXACT)

KIND_OF_SOURCE = {
    TINY: re.compile(r"luffytiny"),
    CHOICE: re.compile(r"(leaderboard)?(arc[ce]?|arc(easy|challenge)|ai2arc(easy|challenge)?|gpqa.*|mmlu.*)"),
}
"""Names, as :func:`~luffy.benchmarks.plain_name` makes them, of sources that are not mathematics; every other source is."""


def kind_for(data_source: str) -> str:
    """The kind of a data source.

    Args:
        data_source: the row's ``data_source``; case, an owner before ``/`` and punctuation do not matter.

    Returns:
        One of ``KINDS``; ``"math"`` for a source that the table does not name.
    """
    name = plain_name(data_source)
    return next((kind for kind, names in KIND_OF_SOURCE.items() if names.fullmatch(name)), MATH)
