"""Responses in prose, without a box or a statement: whether the number in their last sentence is meant as the answer."""

from __future__ import annotations

import re

from luffy.rewards.quantity import CHANGES_VALUE, parse_unit
from luffy.rewards.rules import DENIES

_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,40}>")
_FORMULA = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|(?<![\\0-9])\$[^$\n]+?\$", re.DOTALL)
_IN_PROSE = re.compile(
    r"(?:(?<=[\s=])|^)(?:\*\*)?(?:\\?\$|[\u20ac\u00a3])?-?\.?[0-9](?:[0-9.,]*[0-9])?(?:[eE][-+]?[0-9]+(?![A-Za-z0-9]))?"
    r"(?:\s?[-+/*]\s?\(?[0-9.]+\)?|\s*(?:\\times|\\cdot|[x*])\s*10(?=\s?\^)|\s?\^\s?[({]?\s?[-+]?[0-9]+[)}]?)*"
)
"""A number where Math-Verify looks for one, with the arithmetic behind it."""
_ANSWER = re.compile("answer", re.IGNORECASE)
_SENTENCE_CHARS = 200
_SENTENCE_END = re.compile(r"[.!?][)\"'*]*\s|\n")
_MARKS_BEFORE, _MARKS_BEHIND = re.compile(r"(?:[\s$*_`]|\\[(\[])+$"), re.compile(r"^(?:[$*`]|_(?![0-9{])|\\[)\]])+")
_CLAUSE = re.compile(
    r"[,;:]\s|\b(?P<concludes>(?<!anything )(?<!everything )(?<!all )(?<!any )but|so|thus|hence|therefore|then)\b"
    r"|\b(?:and|because|since|while|where|which|have|get|conclude)\b",
    re.IGNORECASE,
)
_VERB = re.compile(r"=|\b(?:is|are|was|be|equals?|there|it|gets?|obtain|find|gives?|yields?|leaves?|takes?|sum|total)\b", re.IGNORECASE)
_DENIED_BEFORE = re.compile(
    rf"{DENIES}|^no\b|\b(?:than|between|at (?:least|most)|exceed\w*|if|suppose|supposing|assum(?:e|ing)|whether|doubt|instead of|divisible by)\b",
    re.IGNORECASE,
)
_FUNCTION = "log|ln|lg|exp|sqrt|sin|cos|tan|cot|sec|csc"
_RELATION = r"leq?|geq?|neq?|lt|gt|equiv|pm|mp|times|cdot|div|[pb]?mod"
_OPERATION_BEFORE = re.compile(
    rf"(?:(?<![-=])>|<|!=|\\(?:{_RELATION}|ll|gg|in|notin|n?mid|{_FUNCTION})"
    rf"|\b(?:{_FUNCTION}|mod|modulo|twice|double|half|times|plus|minus|negative|over|above|below|under|beyond|within|up to|divided by"
    r"|(?:root|square|cube|half|third|quarter|power|factorial|reciprocal|inverse|logarithm|multiples?|factors?|divisors?) of"
    r"|to the power|step|problem|equation|theorem|lemma)"
    r"|(?<![A-Za-z\\])[A-Za-z)\]}]\s?[-+*/^][0-9.\s()+*/^-]*)$",
    re.IGNORECASE,
)
_OPERATION_BEHIND = re.compile(
    r"!|_\{?[0-9]|\^(?!\s*\{?\s*\\circ)|:[0-9]|\s?(?:[*/]\s?[A-Za-z(\\]|[-+]\s?(?:[A-Za-z](?![A-Za-z])|[(\\])|\([A-Za-z]\s?[-+*/^)])"
    rf"|\s?(?:[<>]|\\(?:{_RELATION}|pi|frac|{_FUNCTION})(?![A-Za-z]))"
    r"|\s+(?:or (?:more|less|fewer|greater|so|[0-9])|at (?:least|most)|to the|choose|mod|(?:times|over) (?:[0-9]|[A-Za-z](?![A-Za-z])))\b"
)
_DENIED_BEHIND = re.compile(
    rf"(?![\s(]{{0,2}}not [-$\\]*[0-9])[\s(]{{0,2}}(?:(?:itself|also|is|are|was|were|does|do|did|can|could|will|would|has|have|should|must|may|might) ?){{0,2}}{DENIES}",
    re.IGNORECASE,
)
_ATTACHED, _NEXT = re.compile(r"(?!(?:st|nd|rd|th|am|pm)(?![A-Za-z]))[A-Za-z]+"), re.compile(r"\s+(?![aI](?![A-Za-z]))([A-Za-z]+)")


def says_otherwise(text: str) -> bool:
    """Whether prose says something else of the number that Math-Verify finds in it: denies it, compares it, or goes on with it.

    That number is the first behind the last "answer", or the last; a formula counts as one.
    """
    text = _TAG.sub(" ", text)
    formulas = [found.span() for found in _FORMULA.finditer(text)]
    without = _FORMULA.sub(lambda found: "\0" * len(found[0]), text)
    places = sorted([*formulas, *(found.span() for found in _IN_PROSE.finditer(without))])
    with_digits = [(start, end) for start, end in places if re.search("[0-9]", text[start:end])]
    judged = {*places[-1:], *with_digits[-1:]}  # a formula that cannot be read leaves the number before it
    answer = max((found.end() for found in _ANSWER.finditer(text)), default=len(text))
    if named := next((place for place in places if place[0] >= answer), None):
        judged = {named} | {place for place in judged if _SENTENCE_END.search(text, named[1], place[0])}  # "the answer is 7, not 8"
    return any(_denied(text, *place) for place in judged)


def _denied(text: str, start: int, end: int) -> bool:
    """Whether the sentence around a place in a text says that what stands there is not the value, or not all of it."""
    before = _MARKS_BEFORE.sub("", text[max(0, start - _SENTENCE_CHARS) : start])
    sentence = _SENTENCE_END.split(before)[-1]
    behind = _MARKS_BEHIND.sub("", text[end : end + _SENTENCE_CHARS])
    if "mod" in text[start:end] or _OPERATION_BEFORE.search(sentence) or _DENIED_BEFORE.search(_last_clause(sentence)):
        return True
    return bool(_OPERATION_BEHIND.match(behind) or _DENIED_BEHIND.match(behind)) or _other_value(behind)


def _last_clause(sentence: str) -> str:
    """The end of a sentence, from the last word that begins a conclusion or a clause with a verb of its own."""
    for found in reversed(list(_CLAUSE.finditer(sentence))):
        if found["concludes"] or _VERB.search(sentence, found.end()):
            return sentence[found.end() :]
    return sentence


def _other_value(behind: str) -> bool:
    """Whether a number goes on with a letter that is no unit, or with a word such as million."""
    attached, following = _ATTACHED.match(behind), _NEXT.match(behind)
    word = attached[0] if attached else following[1] if following else ""
    if word.lower() in CHANGES_VALUE:
        return True
    unit = parse_unit(word) if attached or len(word) == 1 else None
    return unit.label != "" or unit.changes_sense if unit else bool(attached)
