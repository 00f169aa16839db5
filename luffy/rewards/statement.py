"""What a response states in words: where "the answer is ...", "答案：..." or ``<answer>`` leads up to an answer.

A lead is found by one pass; what follows it is read by :mod:`luffy.rewards.choice` (a label) or by :func:`stated_value`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from luffy.rewards.characters import plain_characters

_ADVERB = (
    r"(?:therefore|thus|then|hence|clearly|obviously|indeed|actually|definitely|certainly|simply|just|now|most likely|likely|"
    r"probably|in fact|still|again|I (?:think|believe|guess|would say)|we (?:think|believe)|given by|found to be|going to be)"
)
_COPULA = (
    r"(?:'s|is|are|was|equals|equal to|becomes|(?:should|would|will|must|has to|have to|ought to|could|may|might) be|"
    r"(?:seems|appears|turns out|happens|comes out)(?: to be)?)\b"
)
_SUBJECT = (
    r"(?<![A-Za-z])(?:answers?|ans|choice|option|letter|correct statement|response|solutions?|conclusion|result)"
    r"(?:\s+(?:choice|option|letter|here|key|to (?:this|the) (?:question|problem)|for (?:this|the) (?:question|problem)))?(?![A-Za-z])"
)
_MARKUP = r"[\s*_`\"']{0,6}"
_LEADS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_SUBJECT}{_MARKUP}(?:{_COPULA}|[-=]>|[:=]|-(?=\s))(?:{_MARKUP}[:,]?\s{{0,3}}{_ADVERB}\b[\s,:]{{0,3}}){{0,4}}{_MARKUP}:?(?:\s?not\s\(?[A-Z]\)?,?\sbut(?:\srather)?\s)?",
        r"(?<![A-Za-z])ans\.\s|(?<![^\n])(?:####\s|correct:\s)",
        rf"{_SUBJECT}[\s}}*_`:#]{{0,8}}\n",
        r"(?:答案|答(?=\s?:)|正确(?:答案|选项)|应选|应该选|故选|因此选|所以选|选择?|選択肢|答え|正解|정답|답)(?:是|为|為|应为|应该是|即|は|은|는|:|=|\s){0,4}(?:选项|選項)?",
        r"(?<!\w)(?:ответ|đáp án|cevap|yanıt|odpowiedź|antwoord|svar|jawaban|उत्तर|respuesta|réponse|reponse|antwort|lösung|resposta|risposta|الجواب|الإجابة)"
        r"(?:\s(?:corr?e(?:cta|cte|tta|ta)|finale?|final))?\s?(?::|=|-|est|es|ist|é|è)(?!\w)(?:\s(?:la|die|das|el)\b)?",
        r"<answer>",
    )
)
_SUPPOSED = re.compile(
    r"(?:\b(?:some|many|students?|people|someone|one|you|others|it)\b[^.\n]{0,24}(?:think|say|seem|argue|believe|guess|assume|conclude|claim)\w*\s+"
    r"(?:that\s+)?(?:(?:the|your)\s+)?(?:\w+\s+)?|(?:\b(?:if|whether|unless|suppose|supposing|assume|assuming|imagine|why|what)\s+(?:that\s+)?|\b(?:not|never|cannot|doubt)\b[^.\n]{0,20}|"
    r"n't\s[^.\n]{0,20})(?:(?:the|your|its|our|this|my)\s+)?(?:\w+\s+)?|\bother\s+|\bwrong\s+|\bincorrect\s+)$",
    re.IGNORECASE,
)
_BEFORE_CHARS = 64

_VALUE_CHARS = 300
_VALUE_END = re.compile(
    r"\n|</answer>|(?<!\\)[.!?](?=[*_`\"')\s$]*(?:\s|$))(?<!\.\.)|\. |。|;\s|,?\s(?:because|since|which|so that|where|as)\s"
)
_TEXT = re.compile(r"[^\W\d_][^\W\d_'-]*(?:,? [^\W\d_][^\W\d_'-]*){0,5}")
_COUNTED = re.compile(r"-?[0-9]+(?:[.,/][0-9]+)*(?: [a-z]{2,}){1,3}")
_COMMAND = re.compile(r"\\(?:text|mathrm|textbf)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_ARTICLES = re.compile(r"^(?:the|a|an|that|about|not|none|no|in|as|what|how|both|either|neither|one of)\b", re.IGNORECASE)
_FUNCTION_WORDS = re.compile(
    r"(?<![A-Za-z])(?:sqrt|(?:arc)?(?:sin|cos|tan)|log|exp|or|and|cm|mm|km|kg|hours?|days?|minutes?|units?|degrees?)(?![A-Za-z])"
)


def leads(text: str) -> Iterator[tuple[int, int]]:
    """Where a response leads up to its answer: start and end of each lead, in no certain order.

    Args:
        text: part of a response, of plain characters.

    Yields:
        Positions, without those of a lead that is supposed, asked or denied ("if the answer is ...").
    """
    for lead in _LEADS:
        for found in lead.finditer(text):
            if not _SUPPOSED.search(text[max(0, found.start() - _BEFORE_CHARS) : found.start()]):
                yield found.span()


def stated_value(text: str) -> str | None:
    """The value that the last clear statement of a response gives.

    Args:
        text: the part of a response that states the answer.

    Returns:
        Mathematics with at most a unit, or a few words; None where nothing is stated, or where more is said than a value.
    """
    text = plain_characters(text)
    place = max((end for _, end in leads(text)), default=None)
    if place is None:
        return None
    value = text[place : place + _VALUE_CHARS].strip(" \t\n:*")
    end = _VALUE_END.search(value)
    value = (value[: end.start()] if end else value).strip(" \t*_`:")
    value = re.sub(r"^(?:either|both)\s", "", value)
    if not value or len(value) >= _VALUE_CHARS or "box" in value:  # a box that does not close
        return None
    bare = _FUNCTION_WORDS.sub(" ", _COMMAND.sub(" ", value))
    words = _COUNTED.fullmatch(value) or _TEXT.fullmatch(value.strip("$ ")) and len(value) > 1 and not _ARTICLES.match(value)
    return value if words or re.search(r"\w", value) and not _WORD.search(bare) else None
