"""The letter that a response to a multiple-choice question settles on.

The last clear statement counts: a box that holds a label, "the answer is (C)"; without one "option C is correct", or a line that is a
label. A formula or a word that begins with a letter is no label, and two letters are not one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from luffy.rewards.answer import last_box, leads, supposed
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
_ANOTHER = tuple(
    re.compile(
        rf" ?\({label}\)"
        r"|[\s.*_$(]{0,8}(?:[,/&+;]|\b(?:and|or|und|et|ou|y|o)\b|和|或|与|及)(?:\s*(?:and|or)\b)?"
        r"(?:,?\s(?:possibly|maybe|perhaps|also|even|both)\b,?)?[\s{(\[$*_`]{0,8}(?:(?:option|choice|answer)\s+)?[({\[$*]{0,4}"
        rf"{label}[\s}})\]$*_`]{{0,8}}(?=$|[.,;:/&+!<\n]|(?:and|or|are|both|maybe|perhaps|possibly|too|as well)\b|和|或)"
        rf"|(?:[.:)] ?{label}){{{least},}}[.:)]? ?(?=$|[\n<])"
    )
    for label, least in (("[A-Z]", 1), (r"[A-Ja-j](?!\.[eg])", 1), ("[1-9][0-9]?", 2))
)
"""What makes several labels of one: behind a capital, a small letter, a digit. "2. 5" is an option with its text."""
_PRODUCT = r"\s*\$?(?:[A-Za-z]|[b-df-hj-np-tv-xz][B-DF-HJ-NP-TV-XZb-df-hj-np-tv-xz]{1,3})(?![A-Za-z])(?!\s+[A-Za-z]{2})"
_WORDS = r"(?=\s\{?(?:(?=[A-Za-z]*[AEIOUYaeiouy])[A-Za-z]{3}|[A-Za-z]{3,}\s+[A-Za-z]{2}))(?![^\n]{0,200}[=^_+\\])"
"""Behind a dash: the letters of a formula (E - mgh), and text that is certainly none."""
_ENDED = re.compile(
    rf"(?=\s?[^\x00-\x7f])|\s?(?:$|\n|<)|[.;!:](?=\W|$)|,(?!\d)|。|\s+(?:[($]|-+(?!-|{_PRODUCT}))"
    r"|\s+(?:because|since|as|due|given|which|so|but|not|rather|instead|for|by|where|based|here|and|again)\b",
    re.IGNORECASE,
)
_ONLY_IF = re.compile(r"\s(?:if|unless)\b")
_BOX_ENDED = re.compile(rf"\.?\s*$|[.:]\s*(?=\S)(?!\w\s*[=:])|\s+-+{_WORDS}")
_RATIO = re.compile(r":\S|[.:]\s*[a-z]\s*(?:[.:/]|$)")  # behind a small letter
_IN_BOX = re.compile(r"(?:^|[\s{])[(\[]([A-Z])[)\]]\s*[}\s]*$")
_RIGHT = re.compile(
    r"(?P<named>(?<![\w\\'-])(?i:option|choice|answer|letter)\s+[*_({\[$]{0,4}|(?<![^\s*_])[*_{$]{0,4}[(\[][*_{$]{0,4})?"
    r"(?<![A-Za-z0-9\\'^-])(?P<letter>[A-Z])[*_)}\]$]{0,4}(?:\s\([^()\n]{0,80}\))?,?\s+"
    r"(?:is|must be|would be|should be|has to be)\s+(?:(?:therefore|thus|hence|clearly|indeed|definitely|most likely|likely|obviously)\s+)?"
    r"(?P<the>the\s+)?(?:only\s+|most\s+|single\s+)?"
    r"(?:(?P<right>correct|right|answer)|best|appropriate|accurate|likely|plausible|suitable)\b"
    r"(?!\s+(?:that|about|in|to|too|but|if|only|when|regarding|as far|as well|unless|enough|under|at|with|until|provided|except)\b)"
    r"(?!\s+for(?! th(?:is|e|ese)\b))"
    r"(?<!right(?=-|\s(?:of|out|next|above|below|after|before|side|hand|away|there|by|angle|triangle)\b))"
    r"(?P<ended>(?=\s?(?:[^\w\s]|$|\n)|\s(?:because|since|as|given|here|among|and|of|so|due)\b))?"
)
_BEGINS = re.compile(
    r"(?:^|[\n.!?:;,]|[\w)]\s-+|\b(?:so|thus|hence|therefore|then|only)"
    r"|(?:\b(?:I|we)(?:'d)?\s+(?:\w+\s+)?(?:think|believe|say|see|find|know)"
    r"|\b(?:conclud\w+|means?|shows?|follows|impl(?:y|ies)|confirms?|confident|sure|clear|indicates?|suggests?))(?: that)?)[\s*_#>-]{0,9}$",
    re.IGNORECASE,
)
"""What a bare letter that is said to be right stands behind: "hepatitis B is most likely" says nothing about an option."""
_SHARED = re.compile(r"\b[A-Z][)\]*_}$]{0,4}(?:\s?[,/&]|\s(?:and|or|nor)\b)\s?(?:(?:and|or|the)\s)?[*_({\[$]{0,4}$")
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
_LABELLED_LINE = re.compile(rf"[\s#*_({{\[$`]{{0,9}}([A-Za-z])(?:[.:)\]]|\*\*|\s-+{_WORDS})[*_}}$]*\s+\S.*", re.DOTALL)
_VERB = r"(?!\s*(?:is|are|was|isn't|and|or|would|has|does|cannot|can't)\b)"
_OTHER_LABEL = re.compile(
    r"\n[\s*_({\[]{0,9}(?P<below>[A-Ja-j])[.:)]"
    rf"|[\s,;][*_({{\[$]{{0,4}}(?P<later>[A-Ja-j])(?:[}}$*_]{{0,4}}[:)\]]{_VERB}|(?<=[,;] [A-Ja-j])\.\s)"
    r"|\s(?P<next>[A-Ja-j])\.(?=\s+\S)"
)
_REMARK = re.compile(r"\b(?:because|since|unlike|while|whereas|rather than|not(?=\s[(*]{0,3}[A-Z]\b))\b[^\n]*")

_CLAUSE = re.compile(r"[.!?;][\"')*_]{0,4}\s|\n|\b(?:so(?! that)|but|thus|therefore|hence|however|yet)\b,?", re.IGNORECASE)
_CLAUSE_CHARS = 120
_PASSING = re.compile(
    r"(?:\b(?:initial|original|previous|earlier|tempting|naive|intuitive|distractor|second-best|next-best|common|popular|alternative)\s+"
    r"|\b(?:initially|originally|previously|at first(?: glance| sight| look)?),?\s+(?:\w+\s+){0,3}"
    r"|(?:\b(?:thought|believed|guessed|suspected|assumed)"
    r"|\b(?:tempt(?:ing|ed)|wrong|incorrect|mistake|mistaken|error|misleading|premature|easy|absurd|false)\s+to\s+\w+"
    r"|\b(?:might|may|could)\s+(?:\w+ly\s+)?(?:think|say|believe|guess|assume|expect|conclude|argue))\s+(?:that\s+)?(?:\w+\s+){0,2}"
    r"|\b(?:while|although|though|whereas|even if|unlike)\s+(?:the\s+)?"
    r"|(?:不(?:能|应该?|会|可以?|要|该)?|别|勿|没有?|误|错|(?:若|如果|假如|要是|假设)[^,.\n]{0,4}))[*_({\[$\s]{0,4}$",
    re.IGNORECASE,
)
_IF = re.compile(r"\b(?:if|unless|suppos(?:e|ing)|imagin(?:e|ing)|whether)\b|^\W*(?:had|were)\b|\bwithout\b(?! loss)", re.IGNORECASE)
_CASE = re.compile(rf"{_IF.pattern}|^\W*(?:assum(?:e|ing)|for an?|in an?(?! nutshell| word)|otherwise|under)\b", re.IGNORECASE)
_WOULD = re.compile(r"\b(?:would|could|might|may)\s+(?:be|have)\b")
_CORRECTED = re.compile(
    r"\bwait\b(?=\s?[,.:;!-])|(?:^|[\n.!?] ?)(?:wait|actually|oops|correction|no(?=[,.:!]))\b"
    r"|\b(?:on second thought|scratch that|changed? my mind|my mistake|I was wrong|I (?:am|was) mistaken|let me correct|sorry|apologi\w+"
    r"|made an? (?:\w+ )?(?:mistake|error)|that(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct))"
    r"|re-?(?:consider|check|evaluat|examin|comput|calculat|visit)\w*|redo|double[- ]check\w*)\b",
    re.IGNORECASE,
)
"""What a later mention of another option has to stand behind, to count against an answer that was given."""


class _Statement(NamedTuple):
    """A label where it stands, or the text with several; final where it is given as the answer, not in passing."""

    place: int
    label: str
    final: bool = True


def choice_answer(text: str) -> str | None:
    """What the last clear statement of a response gives: an upper-case letter or a digit; several, or the content of a box, where that
    is no single label; None where nothing is stated.
    """
    text = _plain(text[-READ_CHARS:])
    box = last_box(text)
    stated = _statements(text)
    if box and (label := _box_label(box[1])):
        stated.append(_Statement(box[0], label))
    if stated:
        return _settled(text, stated).label
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


def _settled(text: str, stated: list[_Statement]) -> _Statement:
    """The last statement that is given as the answer, or one made in passing if there is none, or if it corrects the answer."""
    answer = max((found for found in stated if found.final), default=None)
    last = max(stated)
    if answer is None or answer == last:
        return last
    return last if _CORRECTED.search(text, answer.place, last.place) else answer


def _statements(text: str) -> list[_Statement]:
    """The statements of a label, but of those supposed, denied or taken back where they are made."""
    found = [_led_to(text, start, end) for start, end in leads(text)]
    found += [_mentioned(text, lead.start(), _label_at(text, lead.end())) for lead in _PICKED.finditer(text)]
    found += [_mentioned(text, said.start(), (said.start("letter"), said["letter"])) for said in _said_right(text)]
    return [statement for statement in found if statement]


def _led_to(text: str, start: int, end: int) -> _Statement | None:
    label = _label_at(text, end)
    clause = _clause(text, start)
    if not label or _PASSING.search(clause):
        return None
    unreal, case = _WOULD.search(text, start, end), _CASE.search(clause)
    return None if unreal and case else _Statement(*label, final=not (unreal or case))


def _mentioned(text: str, start: int, label: tuple[int, str] | None) -> _Statement | None:
    clause = _clause(text, start)
    if not label or supposed(clause, len(clause)) or _PASSING.search(clause) or _IF.search(clause):
        return None
    unreal = _WOULD.search(text, start, label[0] + 40)
    return None if unreal and _CASE.search(clause) else _Statement(*label, final=False)


def _said_right(text: str) -> Iterator[re.Match[str]]:
    """Where one option is said to be right."""
    for said in _RIGHT.finditer(text):
        before = text[max(0, said.start() - _CLAUSE_CHARS) : said.start()]
        clear = said["named"] or _BEGINS.search(before) and (said["right"] or said["the"] or said["ended"] is not None)
        if clear and not _SHARED.search(before):
            yield said


def _clause(text: str, place: int) -> str:
    """What stands before a place in its clause; nothing where one begins there ("so it must be")."""
    if _CLAUSE.match(text, place):
        return ""
    return _CLAUSE.split(text[max(0, place - _CLAUSE_CHARS) : place])[-1]


def _label_at(text: str, place: int) -> tuple[int, str] | None:
    if _NO_LABEL.match(text, place):
        return place, text[place : place + 40].strip()
    label = _LABEL.match(text, place)
    if not label:
        return None
    letter, closed, start, end = label["letter"], label["closed"], label.start("letter"), label.end()
    if another := _several(letter).match(text, end, min(len(text), end + 60)):
        return start, text[start : another.end()]
    if _listed(text, label) or _ONLY_IF.match(text, end):
        return None
    ended = _ENDED.match(text, end)
    clear: object
    if letter.isupper():
        clear = ended or ")" in closed or "]" in closed or label["said"] and text[end].isspace()
    elif letter.isdigit():
        clear = ended and text[end : end + 1] != " "
    else:  # a small letter can be an article or a variable
        clear = closed.strip("'\"") or ended and not ended[0].strip(" ").isalpha() and ended[0][:1] != " "
    return (start, letter.upper()) if clear else None


def _several(letter: str) -> re.Pattern[str]:
    """What follows a label where others belong to it."""
    return _ANOTHER[2 if letter.isdigit() else 0 if letter.isupper() else 1]


def _listed(text: str, label: re.Match[str]) -> bool:
    """Whether the next options follow in the same manner ("A: 5, B: 6"), so that a label only begins a list of all."""
    start, end = label.start("letter"), label.end()
    mark = text[end - 1] if label["closed"][-1:] == ")" else text[end : end + 1]
    if mark not in (".", ":", ")") or "(" in label["opened"]:
        return False
    own_line = not text[text.rfind("\n", 0, start) + 1 : start].strip(" *_#>")
    rest = _REMARK.sub("", text[end : end + 300] if own_line else text[end : end + 300].partition("\n")[0])
    following = [chr(ord(text[start]) + step) + mark for step in ((1, 2) if mark == "." else (1,))]
    return all(re.search(rf"[\s,;]\**{re.escape(option)}{_VERB}", rest) for option in following)


def _beside_others(letter: str, rest: str) -> bool:
    """Whether later options follow a label; an option's text can name earlier ones ("(D) both (A) and (B)")."""
    letter = letter.upper()
    others = [found.groupdict() for found in _OTHER_LABEL.finditer(_REMARK.sub("", rest))]
    return any(
        other["below"] or (other["later"] or "").upper() > letter or (other["next"] or "").upper() == chr(ord(letter) + 1)
        for other in others
    )


def _box_label(content: str) -> str | None:
    """The label of a box, or the text with several; None where it holds something else."""
    content = re.sub(r"\\(?:[bB]oxed|fbox)(?![A-Za-z])", "", content).strip()  # a box in a box
    label = _LABEL.match(content)
    if label:
        letter, opened, closed, rest = label["letter"], label["opened"], label["closed"], content[label.end() :]
        if _several(letter).match(rest) or _beside_others(letter, rest):
            return content
        formula = letter.isdigit() and re.match(r"[.:]\s*\d", rest) or letter.islower() and _RATIO.match(rest)
        if _BOX_ENDED.match(rest) and not formula:
            return letter.upper()
        bracketed = re.search(r"[)\]*]", closed) and re.search(r"[(\[*]", opened)
        braced = opened == "{" and closed == "}" and re.match(r"\s[\d$]", rest)
        if letter.isupper() and (bracketed or braced or closed[:1] == ")"):  # E) the text
            return letter
    if bracketed := _IN_BOX.search(content):
        return bracketed[1]
    inside = _statements(content)
    return _settled(content, inside).label if inside else None


def _line_label(text: str) -> str | None:
    """The label of a response that is one line with a label, or whose first or last line is one."""
    last = _BARE_LINE.fullmatch(text.rpartition("\n")[2])
    labels = {line[1].upper() for line in map(_BARE_LINE.fullmatch, text.split("\n")) if line}
    if last and len(labels) == 1 and (last[1].isupper() or last[1].isdigit() or "\n" not in text):
        return last[1].upper()
    first = _LABELLED_LINE.fullmatch(text[:2000])
    if not first:
        return None
    return None if _beside_others(first[1], text[first.end(1) :]) else first[1].upper()
