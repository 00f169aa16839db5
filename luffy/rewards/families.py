r"""Values with a parameter, in their many spellings: ``x = n\pi, n \in \mathbb{Z}`` is ``k\pi, k \in \mathbb{Z}``."""

from __future__ import annotations

import re

_PARAMETER = re.compile(
    r"^(?:[a-zA-Z]\s*=\s*)?(.+?)\s*,?\s*(?:\\text\{\s*(?:,\s*)?(?:where|for|with|for all|for any|for some)?\s*\}|\(|where|for)?\s*"
    r"([a-zA-Z])\s*(?:\\in\s*(?:\\mathbb\{)?([ZN])\}?([\^_]\{? ?(?:[*+]|\\ast|> ?0) ?\}?)?|\\text\{\s*(?:is |being )?(?:an |any |some )?(integer)\s*\}|is an (integer))\s*\)?$"
)
_SUCH_THAT = r" ?(?:\\mid|\||:) ?"
_BUILT = re.compile(rf"\\\{{ ?(?:([a-z]){_SUCH_THAT}(?=\1 ?=)(.*\\in.*)|([^|:]{{2,}}?){_SUCH_THAT}([a-z] ?\\in.*))\\\}}")
FAMILY = re.compile(r"(.+), k \\in (\\mathbb\{[ZN]\}(?:_\+)?)", re.DOTALL)
"""A value and the numbers that k is one of: whole, natural, or positive and whole."""
_PARAMETERS = re.compile(r"(?<![A-Za-z\\])[k-npt](?![A-Za-z])")


def with_parameter(text: str) -> str:
    r"""A value for every k of whole or natural numbers as ``value, k \in \mathbb{Z}``; other text as it is."""
    built = _BUILT.fullmatch(text)
    found = _PARAMETER.match((built[2] or f"{built[3]}, {built[4]}") if built else text)
    if not found or "k" != found[2] and re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", found[1]):
        return text
    value = _renamed(found[1].rstrip(" ,("), found[2], "k")
    domain = r"\mathbb{Z}_+" if found[4] else rf"\mathbb{{{found[3] or 'Z'}}}"
    return rf"{value}, k \in {domain}" if re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", value) else text


def _renamed(value: str, letter: str, name: str) -> str:
    return re.sub(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", name, value)


def with_domain_of(answer: str, golds: tuple[str, ...]) -> str:
    r"""An answer that leaves out what its parameter is (``n\pi``) with the gold answer's, and one that alone says it without."""
    family, known = FAMILY.fullmatch(answer), [FAMILY.fullmatch(gold) for gold in golds]
    for gold, of_gold in zip(golds, known, strict=True):
        letters = set(_PARAMETERS.findall(gold if family else answer))
        if len(letters) != 1 or bool(family) == bool(of_gold) or r"\in" in (gold if family else answer):
            continue
        letter = letters.pop()
        if family:
            return _renamed(family[1], "k", letter)
        assert of_gold is not None
        return with_parameter(rf"{answer}, {letter} \in {of_gold[2]}")
    return answer
