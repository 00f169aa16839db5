"""Where the final answer of a response stands: after the thought, in the last box, or where words lead up to it.

Every scan here is one pass over a bounded part of the text, whatever the text is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from numbers import Number
from typing import NamedTuple

from luffy.rewards.characters import plain_characters
from luffy.traces import THINK_CLOSE

SCANNED_CHARS = 200_000
"""Characters at the end of a response that are searched; 32k tokens of English are about 130 000."""
JOINT_CHARS = 80
"""Longest text between two boxes that can join them to one answer."""
_LATE_BOXES = 32
_LEAD_CHARS = 60
_COMMAND_CHARS = 8
_COMMAND_AT_END = re.compile(r"[A-Za-z]+\Z")

_BRACES = re.compile(r"\\(?:boxed|Boxed|fbox|framebox)(?:\s*(?P<open>\{)|\s+(?P<bare>-?[0-9]+(?:\.[0-9]+)?))|\\.|[{}]", re.DOTALL)
_PLACEHOLDER = re.compile(r"(?:\.\.\.|\\[lc]?dots|\\text\{\s*)?\s*(?:(?:your |the |final )*answer(?: here)?)?[\s}]*", re.IGNORECASE)
_DENIAL_CHARS = 48
_DENIED_BOX = re.compile(
    r"(?:\b(?:not|never|rather than|instead of)(?: (?:write|give|say|put|be|equal to|equal|simply|just|the (?:right |correct )?answer))?|n't(?: be)?|\\neq?|\u2260)"
    r"[\s$({*_:\\\[]*\Z",
    re.IGNORECASE,
)

_AND = r"(?:(?:and|and/or|or(?: else)?|und|oder|et|ou|y|o|e|и|или)\b(?:\s+(?:also|then))?|as well as\b|或者?|和|与|及|以及|または|と|그리고|또는)"
_NAME = r"(?:[A-Za-z]{1,2}|\\[A-Za-z]+)(?:_(?:\w|\{\w{1,4}\}))?'?(?:\(\w{1,3}\))?"
_ASSIGNED = re.compile(rf"({_NAME})\s*&?\s*=\s*(?:&|\$|\\[(\[]|\s)*$")
_JOINTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[\s$,;&*_`|\u2022]|~(?!~)|\.(?=\s*\n)|<br ?/?>",
        rf"{_NAME}\s*\$?\s*(?:&?\s*=|is\b)",
        r"\\(?:[()\[\],;:!> ]|\\(?:\[[^\]]{0,10}\])?|(?:q?quad|hfill?|(?:thin|med|thick|en)space|enskip|newline|par|cr|hline|lor|vee|land|wedge)(?![A-Za-z])|&|hspace\*?\{[^{}]*\})",
        _AND,
        rf"\\(?:text|mathrm|textbf|textrm|textit|mbox|hbox)\s*\{{(?:[\s,;~]|\\q?quad)*(?:{_AND})?(?:[\s,;~]|\\q?quad)*\}}|\{{\\rm\s+{_AND}\s*\}}",
    )
)
_NUMBERING = r"(?:[0-9]{1,2}|[a-hA-H]|[ivxIVX]{1,4}|[\u2460-\u2473])"
_ITEM_MARK = re.compile(
    r"(?:[-*+\u2022]|\\item)\s+"
    rf"|(?:\*\*|#+ )?\(?{_NUMBERING}(?:[.):]\)?|(?<=[\u2460-\u2473]))(?:\*\*)?:?\s*"
    rf"|(?:\*\*|#+ )?(?:Part|Case|Question|Problem|Subproblem|Root|Solution|Answer|For)\s*\(?{_NUMBERING}\)?(?![A-Za-z])\s*[:.)]?\s*(?:\*\*)?:?\s*"
    r"|第[一二三四五六0-9]+(?:问|题|小题|部分)\s*:?\s*"
    r"|(?:\*\*)?(?!.{0,30}(?:answer|final|result|correct|actual|note|wait|hence|then|thus|total|overall|instead|now|check|revis|step))"
    r"[A-Za-z][A-Za-z0-9' ()]{2,30}(?:\*\*)?:(?:\*\*)?\s*",
    re.IGNORECASE,
)
"""What an item of a list begins with. It joins boxes where the box before stands in such an item as well."""
_ITEM_START = re.compile(r"(?:^|[\n,;])[\s$*_`#]*$")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_ASCII_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def as_text(response: object) -> str:
    """A response as text, control characters and lone surrogates as spaces, without invisible and direction marks.

    Args:
        response: what a model wrote: str, UTF-8 bytes (invalid ones are replaced) or None (read as empty).

    Returns:
        At most the last ``SCANNED_CHARS`` characters.
    """
    if response is None:
        return ""
    if isinstance(response, bytes):
        response = response[-4 * SCANNED_CHARS :].decode("utf-8", errors="replace")
    text = str(response)[-SCANNED_CHARS:]
    if text.isascii():
        return text.translate(_ASCII_CONTROL)  # ten times faster than the pattern
    return _INVISIBLE.sub("", _CONTROL.sub(" ", text))


def after_thought(text: str) -> str:
    """What follows the last ``</think>``; the whole text where there is none."""
    return text.rpartition(THINK_CLOSE)[2]


def gold_answers(gold: object) -> tuple[str, ...]:
    """The acceptable answers as text: of a string or number itself, of an iterable its items; empty ones left out."""
    if gold is None:
        return ()
    if isinstance(gold, bytes):
        gold = gold.decode("utf-8", errors="replace")
    if not isinstance(gold, (str, Number)) and isinstance(gold, Iterable):
        return tuple(answer for item in gold for answer in gold_answers(item))
    text = str(gold).strip()
    return (text,) if text else ()


# Boxes ------------------------------------------------------------------------------------------------------------------------


class _Box(NamedTuple):
    """Where a box stands: its command, its content, and the first character after it."""

    start: int
    content: int
    content_end: int
    end: int


def boxed_answer(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` (or ``\fbox``, ``\framebox``) whose braces close, or None without one that holds something.

    Boxes that belong together are one answer, joined by commas: those that only layout, punctuation, a conjunction or an
    assignment stands between (``\boxed{1} \text{ and } \boxed{2}``, ``x = \boxed{1}, \; y = \boxed{2}``), and those of items of
    one list. Assigned names that differ are kept (``x = 1, y = 2``), and brackets around the boxes are. A box inside a box counts
    once; an empty box, or one with a placeholder for an answer, is none.
    """
    found = last_box(text)
    return found[1] if found else None


def last_box(text: str) -> tuple[int, str] | None:
    """Where the last box of a text starts, and the answer of :func:`boxed_answer`."""
    for count in (_LATE_BOXES, len(text)) if "ox" in text else ():  # if no late one closes, from the first
        boxes = [
            box for box in _outer_boxes(text, _late_box(text, count)) if not _PLACEHOLDER.fullmatch(text, box.content, box.content_end)
        ]
        boxes = [box for box in boxes if not _is_denied(text, box)] or boxes
        if boxes:
            return boxes[-1].start, _last_answer(text, boxes)
    return None


def _is_denied(text: str, box: _Box) -> bool:
    """``\\boxed{3}, not \\boxed{4}``: of the second."""
    return bool(_DENIED_BOX.search(text, max(0, box.start - _DENIAL_CHARS), box.start))


def _late_box(text: str, count: int) -> int:
    """Where the first of the last ``count`` boxes may begin; the end of a text without one."""
    start = len(text)
    for _ in range(count):
        earlier = text.rfind("ox", 0, start)
        if earlier < 0:
            break
        start = earlier
    word = _COMMAND_AT_END.search(text, max(0, start - _COMMAND_CHARS), start)
    start = word.start() if word else start
    return len(text[:start].rstrip("\\"))  # all of them: the last may belong to the one before


def _last_answer(text: str, boxes: list[_Box]) -> str:
    first = len(boxes) - 1
    while first and _joined(text, boxes[first - 1], boxes[first]):
        first -= 1
    group = boxes[first:]
    contents = [text[box.content : box.content_end].strip() for box in group]
    if len(set(contents)) > 1:
        names = [name for box in group if (name := _assigned(text, box.start))]
        if len(names) == len(group) == len({re.split(r"[_(']", name)[0] for name in names}):
            contents = [f"{name} = {content}" for name, content in zip(names, contents, strict=True)]
    joined = ", ".join(dict.fromkeys(contents))
    return f"({joined})" if len(group) > 1 and _in_brackets(text, group) else joined


def _outer_boxes(text: str, start: int) -> list[_Box]:
    """Each closed box outside other boxes from ``start`` on, in order."""
    boxes: list[_Box] = []
    open_braces: list[tuple[int, int] | None] = []
    for token in _BRACES.finditer(text, start):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box is not None:
                while boxes and boxes[-1].start > box[0]:
                    boxes.pop()
                boxes.append(_Box(*box, token.start(), token.end()))
        elif token["open"]:
            open_braces.append((token.start(), token.end()))
        elif token["bare"]:
            boxes.append(_Box(token.start(), token.start("bare"), token.end(), token.end()))
    return boxes


def _joined(text: str, one: _Box, other: _Box) -> bool:
    """Whether two boxes that follow each other are parts of one answer."""
    between = text[one.end : other.start]
    if len(between) > JOINT_CHARS:
        return False
    between = plain_characters(between)
    listed = _ITEM_MARK.match(_item_of(text, one.start))
    place, marked = 0, False
    while place < len(between):
        at_start = listed and (marked or _ITEM_START.search(between[:place]))
        mark = _ITEM_MARK.match(between, place) if at_start else None
        step = mark or next(filter(None, (joint.match(between, place) for joint in _JOINTS)), None)
        if step is None or not step[0]:
            return False
        place, marked = step.end(), bool(mark)
    return True


def _item_of(text: str, box_start: int) -> str:
    """What stands before a box in its line, or in the line before where its own holds nothing else."""
    before = plain_characters(text[max(0, box_start - _LEAD_CHARS) : box_start]).rstrip(" \n$`[(\\{")
    return before.rpartition("\n")[2].lstrip(" |") + " "


def _assigned(text: str, end: int) -> str | None:
    """The name that the box which starts at ``end`` is assigned to."""
    found = _ASSIGNED.search(text[max(0, end - _LEAD_CHARS) : end])
    return found[1] if found else None


def _in_brackets(text: str, group: list[_Box]) -> bool:
    start, end = group[0].start, group[-1].end
    before, after = text[max(0, start - _LEAD_CHARS) : start].rstrip(), text[end : end + _LEAD_CHARS].lstrip()
    opened = before.endswith("(") and not before.endswith("\\(")
    return opened and after.startswith((")", r"\right)"))


# Statements -------------------------------------------------------------------------------------------------------------------

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
        r"(?:答案|答(?=\s?:)|正确(?:答案|选项)|应选|应该选|故选|因此选|所以选|选择?|選択肢|答え|正解|정답|답)(?:是|为|為|应为|应该是|即|は|은|는|:|=|\s){0,4}(?:选项|選項)?"
        r"(?:不(?:是|选|应选)\s?\(?[A-Z]\)?\s?,?\s?(?:而|应该?)(?:是|选))?",
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
_TURN = re.compile(r"\b(?:so(?! that| far)|but|thus|therefore|hence)\b", re.IGNORECASE)
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
    """Start and end of each lead to an answer, in no certain order, but of those supposed or denied ("if the answer is ...")."""
    for lead in _LEADS:
        for found in lead.finditer(text):
            if not supposed(text, found.start()):
                yield found.span()


def supposed(text: str, place: int) -> bool:
    """Whether the clause before a place supposes or denies what follows; "it is not 2, so" does not."""
    before = text[max(0, place - _BEFORE_CHARS) : place]
    return bool(_SUPPOSED.search(_TURN.split(before)[-1]))


def stated_value(text: str) -> str | None:
    """The mathematics, with at most a unit, or the few words of the last clear statement; None where none is, or it says more."""
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
