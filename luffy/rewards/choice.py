"""The letter that a response to a multiple-choice question settles on.

The last clear statement counts: a box that holds a label, "the answer is (C)", "option C is correct", a line that is a label. A
formula or a word that begins with a letter is no label, and two letters are not one.
"""

from __future__ import annotations

import re

from luffy.rewards.answer import last_box
from luffy.rewards.characters import plain_characters
from luffy.rewards.statement import leads

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
_OPENED = re.compile(
    r"[\s{(\[<$*_`\"']{0,12}(?:(?:the\s+)?(?P<said>option|choice|letter|answer|alternative|opción|opcion|opção|opzione|вариант|选项|選択肢)\b[\s:]{0,3})?[\s{(\[<$*_`\"']{0,12}",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[A-Za-z](?![A-Za-z0-9'^])(?!_[^\W_]|_\{)|[1-9](?![\w.%^/])|[1-9](?=\.(?!\d))")
_CLOSED = re.compile(r"[})\]>$*_`\"']*")
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
    r"""The chosen label: what the last clear statement of a response gives.

    Args:
        text: the part of a response that states the answer.

    Returns:
        An upper-case letter or a digit; several of them, or the content of a box, where that is no single label; None where
        nothing is stated.
    """
    text = _plain(text[-READ_CHARS:])
    box = last_box(text)
    stated = [found for _, place in leads(text) if (found := _label_at(text, place))]
    stated += [found for lead in _PICKED.finditer(text) if (found := _label_at(text, lead.end()))]
    stated += [(found.start(1), found[1]) for found in _RIGHT.finditer(text)]
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


def _label_at(text: str, place: int) -> tuple[int, str] | None:
    """Where a label stands that follows a lead, and the label, or the text with several of them."""
    if _NO_LABEL.match(text, place):
        return place, text[place : place + 40].strip()
    opened = _OPENED.match(text, place)
    letter = _LETTER.match(text, opened.end())
    if not letter:
        return None
    closed = _CLOSED.match(text, letter.end())
    another = _ANOTHER.match(text, closed.end(), closed.end() + 60)
    if another and letter[0].isupper():
        return letter.start(), text[letter.start() : another.end()]
    ended = _ENDED.match(text, closed.end())
    if letter[0].isupper():
        clear = ended or ")" in closed[0] or "]" in closed[0] or opened["said"] and text[closed.end()].isspace()
    elif letter[0].isdigit():
        clear = ended and not (text[closed.end()] if closed.end() < len(text) else "\n") == " "
    else:  # a small letter can be an article or a variable
        clear = closed[0].strip("'\"") or ended and not ended[0].strip(" ").isalpha() and ended[0][:1] != " "
    return (letter.start(), letter[0].upper()) if clear else None


def _box_label(content: str) -> str | None:
    """The label of a box, or the text with several; None where it holds something else."""
    content = re.sub(r"\\(?:[bB]oxed|fbox)(?![A-Za-z])", "", content).strip()  # a box in a box
    opened = _OPENED.match(content)
    letter = _LETTER.match(content, opened.end())
    if letter:
        closed = _CLOSED.match(content, letter.end())
        if letter[0].isupper() and _ANOTHER.match(content, closed.end()):
            return content
        ended = _BOX_ENDED.match(content, closed.end())
        if ended and not (letter[0].isdigit() and re.match(r"[.:]\s*[\d]", ended[0] + content[ended.end() :])):
            return letter[0].upper()
        if letter[0].isupper() and re.search(r"[)\]*]", closed[0]) and re.search(r"[(\[*]", opened[0]):
            return letter[0]
        if letter[0].isupper() and (
            closed[0][:1] == ")" or opened[0] == "{" and closed[0] == "}" and re.match(r"\s[\d$]", content[closed.end() :])
        ):  # E) the text
            return letter[0]
    bracketed = _IN_BOX.search(content)
    if bracketed:
        return bracketed[1]
    stated = [found for _, place in leads(content) if (found := _label_at(content, place))]
    stated += [found for lead in _PICKED.finditer(content) if (found := _label_at(content, lead.end()))]
    return max(stated)[1] if stated else None


def _line_label(text: str) -> str | None:
    """The label of a response that is one line with a label, or whose first or last line is one."""
    last = _BARE_LINE.fullmatch(text.rpartition("\n")[2])
    labels = {line[1].upper() for line in map(_BARE_LINE.fullmatch, text.split("\n")) if line}
    if last and len(labels) == 1 and (last[1].isupper() or last[1].isdigit() or "\n" not in text):
        return last[1].upper()
    first = _LABELLED_LINE.fullmatch(text[:2000])
    return first[1].upper() if first and not _OTHER_LABELS.search(text) else None
