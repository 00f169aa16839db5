"""The letter that a response to a multiple-choice question settles on.

The last clear statement counts: a box that holds a label, "the answer is (C)", "option C is correct", a line that is a label. A
formula or a word that begins with a letter is no label, and two letters are not one.
"""

from __future__ import annotations

import re

from luffy.rewards.answer import last_box, leads
from luffy.rewards.characters import plain_characters

READ_CHARS = 50_000
"""How much of the end of a response is read."""

_LOOKS = (
    (re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|sc|up|normal)?|math(?:rm|bf|it|sf|tt|normal|cal|bb)|boldsymbol|bm|[mh]box|underline|emph)\s*(?=\{)"), ""),
    (re.compile(r"\\(?:bf|rm|it|displaystyle|large|Large|huge|Huge|bfseries|mathrm|mathbf)(?![A-Za-z])\s*"), ""),
    (re.compile(r"\\(?:text|math)?color\s*\{[^{}]*\}"), ""),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])"), ""),
    (re.compile(r"\\[()\[\]]"), "$"),
    (re.compile(r"\\(?:[,;:!> ]|q?quad(?![A-Za-z]))|~"), " "),
    (re.compile(r"\\(?=[{}])"), ""),
)  # fmt: skip
_LABEL = re.compile(
    r"(?P<opened>[\s{(\[<$*_`\"']{0,12}"
    r"(?i:(?:the\s+)?(?P<said>option|choice|letter|answer|alternative|opción|opcion|opção|opzione|вариант|选项|選択肢)\b[\s:]{0,3})?"
    r"[\s{(\[<$*_`\"']{0,12})"
    r"(?P<letter>[A-Za-z](?![A-Za-z0-9'^])(?!_[^\W_]|_\{)|[1-9](?![\w.%^/])|[1-9](?=\.(?!\d)))"
    r"(?P<closed>[})\]>$*_`\"']*)"
)
_NO_LABEL = re.compile(r"[\s*_]{0,8}(?:both|either|neither|none|all|any)\b", re.IGNORECASE)
_ANOTHER = re.compile(
    r"\s?\([A-Z]\)|[\s.*_$]{0,8}(?:[,/&+;]|\b(?:and|or|und|et|ou|y|o)\b|和|或|与|及)(?:\s*(?:and|or)\b)?(?:\s(?:possibly|maybe|perhaps|also|even|both)\b)?[\s{(\[$*_`]{0,8}(?:(?:option|choice|answer)\s+)?[({\[$*]{0,4}"
    r"[A-Z][\s})\]$*_`]{0,8}(?=$|[.,;:/&+!<\n]|and\b|or\b|are\b|both\b|和|或)"
)
_ENDED = re.compile(
    r"(?=\s?[^\x00-\x7f])|\s?(?:$|\n|<)|[.;!:](?=\W|$)|,(?!\d)|。|\s+(?:-+|--)?\s*(?:[($-]|-)|\s+(?:because|since|as|due|given|which|so|but|not|rather|instead|for|by|where|based|here|and|again)\b",
    re.IGNORECASE,
)
_BOX_ENDED = re.compile(r"\.?\s*$|[.:]\s*(?=\S)(?!\w\s*[=:])|\s+-+\s+\{?(?=[A-Za-z]{3})")
_IN_BOX = re.compile(r"(?:^|[\s{])[(\[]([A-Z])[)\]]\s*[}\s]*$")
_RIGHT = re.compile(
    r"(?:(?<![\w\\'-])(?:option|choice|answer|letter)\s+|^|(?<=[\s*_(]))[*_({\[$]{0,4}([A-Z])[*_)}\]$]{0,4}(?:\s\([^()\n]{0,80}\))?,?\s+"
    r"(?:is|must be|would be|should be|has to be)\s+(?:(?:therefore|thus|hence|clearly|indeed|definitely|most likely|likely|obviously)\s+)?"
    r"(?:the\s+)?(?:only\s+|most\s+|single\s+)?(?:correct|right|best|appropriate|accurate|likely|plausible|suitable|answer)\b"
    r"(?!\s+(?:that|about|in|to|but|if|only|when|regarding|as far|unless))"
)
_PICKED = re.compile(
    r"(?:\b(?:I|we)(?:'d|'ll|'m)?|\blet(?:'s| us)|(?:^|(?<=\n)|(?<=\. ))(?=(?:choose|select|pick)\b))(?:\s+(?:would|will|should|can|must|am|have to|therefore|thus|then))*\s?"
    r"\b(?:pick|picking|choose|choosing|select|selecting|go(?:ing)? with|go(?:ing)? for|settle on|answer|opt for|think|believe|say|guess)\s+(?:with\s+|it is\s+|it's\s+)?"
    r"|(?:^|(?<=[\n.;,] )|(?<=\n))(?:so|therefore|thus|hence|by elimination|consequently|finally|in conclusion|overall|it must be|so it must be)[,:]?\s+"
    r"(?=[(*]{0,3}[A-Z][)*]{0,3}[.!]?\s*(?:\n|\Z))"
    r"|\b(?:corresponds to|matches|match|points to|leads to|leaves(?: us with)?|(?:it|this|that)(?:'s| is| must be| would be))\s+(?:the\s+)?(?=(?:answer\s+)?(?:option|choice)\b|"
    r"[(*]{0,3}[A-Z][)*]{0,3}\.?\s*\Z)(?:answer\s+)?",
    re.IGNORECASE,
)
_BARE_LINE = re.compile(
    r"[-\s#>*_({\[$`\"']{0,9}(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+)?[*_({\[$`]{0,9}([A-Za-z]|[1-9])[*_)}\]$`.\"']*\s*"
)
_LABELLED_LINE = re.compile(r"[\s#*_({\[$`]{0,9}([A-Za-z])(?:[.:)\]]|\*\*|\s-+(?=\s[A-Za-z]{3}))[*_]*\s+\S.*", re.DOTALL)
_OTHER_LABELS = re.compile(r"\n[\s*_({\[]{0,9}[A-Ja-j][.:)]")


def choice_answer(text: str) -> str | None:
    """What the last clear statement of a response gives: an upper-case letter or a digit; several, or the content of a box, where that
    is no single label; None where nothing is stated.
    """
    text = _plain(text[-READ_CHARS:])
    box = last_box(text)
    stated = [*_stated(text), *((found.start(1), found[1]) for found in _RIGHT.finditer(text))]
    if box and (label := _box_label(box[1])):
        stated.append((box[0], label))
    if stated:
        return max(stated)[1]
    return box[1] if box else _line_label(text.strip())


def choice_label(text: str) -> str | None:
    r"""The label of ``C``, ``(C)``, ``\text{C}``, ``C. the mitochondrion`` or ``Option C``; None where there is none, or several."""
    label = _box_label(_plain(text[:400]))
    return label if label and len(label) == 1 else None


def _plain(text: str) -> str:
    text = plain_characters(text)
    if "\\" in text or "~" in text:
        for pattern, replacement in _LOOKS:
            text = pattern.sub(replacement, text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def _stated(text: str) -> list[tuple[int, str]]:
    """Where a label stands behind what leads up to one, and the label, or the text with several of them."""
    places = [place for _, place in leads(text)] + [lead.end() for lead in _PICKED.finditer(text)]
    return [found for place in places if (found := _label_at(text, place))]


def _label_at(text: str, place: int) -> tuple[int, str] | None:
    if _NO_LABEL.match(text, place):
        return place, text[place : place + 40].strip()
    label = _LABEL.match(text, place)
    if not label:
        return None
    letter, closed, start, end = label["letter"], label["closed"], label.start("letter"), label.end()
    another = _ANOTHER.match(text, end, end + 60)
    if another and letter.isupper():
        return start, text[start : another.end()]
    ended = _ENDED.match(text, end)
    clear: object
    if letter.isupper():
        clear = ended or ")" in closed or "]" in closed or label["said"] and text[end].isspace()
    elif letter.isdigit():
        clear = ended and text[end : end + 1] != " "
    else:  # a small letter can be an article or a variable
        clear = closed.strip("'\"") or ended and not ended[0].strip(" ").isalpha() and ended[0][:1] != " "
    return (start, letter.upper()) if clear else None


def _box_label(content: str) -> str | None:
    """The label of a box, or the text with several; None where it holds something else."""
    content = re.sub(r"\\(?:[bB]oxed|fbox)(?![A-Za-z])", "", content).strip()  # a box in a box
    label = _LABEL.match(content)
    if label:
        letter, opened, closed, rest = label["letter"], label["opened"], label["closed"], content[label.end() :]
        if letter.isupper() and _ANOTHER.match(rest):
            return content
        if _BOX_ENDED.match(rest) and not (letter.isdigit() and re.match(r"[.:]\s*\d", rest)):
            return letter.upper()
        bracketed = re.search(r"[)\]*]", closed) and re.search(r"[(\[*]", opened)
        braced = opened == "{" and closed == "}" and re.match(r"\s[\d$]", rest)
        if letter.isupper() and (bracketed or braced or closed[:1] == ")"):  # E) the text
            return letter
    if bracketed := _IN_BOX.search(content):
        return bracketed[1]
    return max(_stated(content), default=(0, None))[1]


def _line_label(text: str) -> str | None:
    """The label of a response that is one line with a label, or whose first or last line is one."""
    last = _BARE_LINE.fullmatch(text.rpartition("\n")[2])
    labels = {line[1].upper() for line in map(_BARE_LINE.fullmatch, text.split("\n")) if line}
    if last and len(labels) == 1 and (last[1].isupper() or last[1].isdigit() or "\n" not in text):
        return last[1].upper()
    first = _LABELLED_LINE.fullmatch(text[:2000])
    return first[1].upper() if first and not _OTHER_LABELS.search(text) else None
