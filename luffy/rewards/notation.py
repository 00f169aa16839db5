r"""One notation for answers and gold answers, before anything is compared: ``\textbf{12}^{\text{th}}.`` is ``12``.

The tables of :mod:`luffy.rewards.rules`, and what no pattern says: lists, statements and phrases. No text of more than
``READ_CHARS`` is touched.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

from luffy.rewards.arguments import UNBRACED, arguments_braced
from luffy.rewards.characters import plain_characters
from luffy.rewards.families import with_domain_of, with_parameter
from luffy.rewards.rules import CONDITION, DENIES, LOOKS, NUMBER, NUMBERS, QUANTITY, TRIGONOMETRIC, WORDS, WRAPPERS, applied, rules

READ_CHARS = 4_000
"""Longer text is left as it is; the longest answer that is compared at all has half of that."""
_PASSES = 6
"""How often wrappers are taken off: ``**$\textbf{\text{4}}$.**`` has five."""

_USUAL = re.compile(
    r"(?![-+=,)\]} ]+[ +=,)\]}])(?![+=,)\]}*/ ])"
    r"(?:[0-9]+(?:\.[0-9]+(?!\())?(?![0-9.]| [0-9])|[a-z](?![A-Za-z]|10\^)|\\(?:frac|sqrt)\{|\\pi(?![A-Za-z ])|\^(?:[0-9a-np-z](?![0-9a-z])|\{(?!o\}))"
    r"| ?\\(?:cdot|times)(?: (?=[0-9a-z(\\])|(?=\\))"
    r"|\}\{?|[-+=(\[)\],]|/(?!-)| (?=[-+/=])|(?<=[-+/=,]) (?! ))+(?<=[0-9a-z)\]}])|[A-Za-z]"
)
"""Text that no rule changes: numbers, fractions, roots, single letters, brackets and signs."""
_USUAL_LOOKS = re.compile(r"\\(?:left|right)(?=[()\[\]])|(?<=\\)[dt](?=frac\{)")
"""What may be taken away before: ``\\left(``, ``\\dfrac{``."""

_DOTS_AT_END = re.compile(r"(?:\.\.\.|\\ldots)\s*$")
_IN_RADIANS = re.compile(rf"({NUMBER})\s*\^\\circ")
_OF_AN_ANGLE = re.compile(rf"\\(?:{TRIGONOMETRIC})(?![A-Za-z])")


@lru_cache(maxsize=65_536)
def normalised(text: str) -> str:
    """An answer (of a box, a statement, or a gold one) in the one notation that answers are compared in: without marks that only concern
    its looks, with numbers, lists and words in their usual form. Text longer than ``READ_CHARS`` stays as it is.
    """
    if len(text) > READ_CHARS:
        return text
    usual = _USUAL_LOOKS.sub("", text) if "\\" in text else text
    return usual if _USUAL.fullmatch(usual) and not UNBRACED.search(usual) else _with_all_rules(text)


def _with_all_rules(text: str) -> str:
    text = listed(_spaced(plain_characters(text)))
    text = arguments_braced(_spaced(applied(LOOKS, text)))
    text = _unwrapped(listed(text))
    text = _unwrapped(applied(WORDS, _statement(applied(NUMBERS, text))))
    if _OF_AN_ANGLE.search(text):
        text = _IN_RADIANS.sub(r"\\frac{\1\\pi}{180}", text)
    if _WITHOUT_MATHEMATICS.fullmatch(text):
        return _phrase(text)
    return with_parameter(signs_written_out(text))


def gold_forms(gold: str) -> tuple[str, ...]:
    r"""What may be answered for a gold answer: itself, normalised, and of a labelled one (``\text{(B)} 12``) label and value alone, of one
    that says what its letters are (``2^n \text{ for } n \geq 1``) the value alone, of a vector of numbers its tuple.
    """
    whole = normalised(gold)
    if other := _vector(whole) or _assigned_apart(whole):
        return whole, other
    if labelled := _LABELLED.fullmatch(whole):
        return whole, labelled[1] or labelled[2], normalised(labelled[3])
    return (whole, of_letters[1]) if (of_letters := _OF_LETTERS.fullmatch(whole)) else (whole,)


def answer_form(answer: str, golds: tuple[str, ...]) -> str:
    r"""The normalised answer, with a decimal comma as a point where no gold answer (normalised) has several values; of a labelled one
    (``\textbf{(B)} 12``, ``B. 12``) the part that the gold answers have; with what its letters are where gold answers say that, and only there.
    """
    whole = normalised(answer)
    if "\\begin" in whole and not any("\\begin" in gold for gold in golds):
        return _vector(whole) or whole
    if any("," in gold for gold in golds):
        whole = _assigned_apart(whole) or whole
    if _DECIMAL_COMMA.fullmatch(whole) and not any(map(_SEVERAL.search, golds)):
        return whole.replace(",", ".")
    if (of_letters := _OF_LETTERS.fullmatch(whole)) and not any(map(_OF_LETTERS.fullmatch, golds)):
        return of_letters[1]
    labelled = _LABELLED.fullmatch(whole)
    if not labelled or whole in golds:
        return with_domain_of(whole, golds)
    label = labelled[1] or labelled[2]
    alone = {written for form in (label, f"({label})") for written in (form, rf"\text{{{form}}}")}
    return label if alone.intersection(golds) else normalised(labelled[3])


_DECIMAL_COMMA = re.compile(r"-?[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})(?: ?\\?%)?")
_SEVERAL = re.compile(r",|\b(?:and|or)\b|\\(?:cup|lor|land|vee|wedge)(?![A-Za-z])")
_LABELLED = re.compile(
    r"(?:(?:\\text\s*\{)?\(([A-J])\)\}?[.:]?|(?:\\text\s*\{)?([A-J])(?:[.)]|:(?=\s))\}?)(?=[\s\\0-9])\s*(?!\\text ?\{ ?(?:or|and|if|not)\b|\\ldots)([^\s,;^_+*/=<>].*)"
)
"""A label of a choice and the value that it stands for."""
_KIND_OF_NUMBER = r"(?:(?:positive|non-?negative|real|natural|arbitrary|fixed|some|any|whole) )*(?:integer|number|constant|real)s?"
_OF_LETTERS = re.compile(
    rf"(.*[^\s,=<>(]),?\s*\\text\{{,? ?(?:for|where|with)(?: (?:all|any|every|each|some|an?))?(?: {_KIND_OF_NUMBER})?\}} ?[A-Za-z]"
    rf"(?: ?\\geq ?[01]| ?\\in ?\\mathbb\{{[RZNQC]\}}| ?\\text\{{is (?:an? |any |some )?{_KIND_OF_NUMBER}\}})?"
)
"""A value and what its letters are, which is no condition: whole numbers from 0 or 1 on, numbers of a kind, constants."""


_VECTOR = re.compile(r"[(\[]?\s*\\begin\{([pb]matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}\s*[)\]]?", re.DOTALL)


def _vector(text: str) -> str | None:
    r"""``(1,2)`` for a matrix of one column or one row; None for other text."""
    found = _VECTOR.fullmatch(text)
    if not found or found[1] == "array" and text.startswith("\\"):
        return None
    rows = [row.strip() for row in re.split(r"\\\\", found[2]) if row.strip()]
    values = rows[0].split("&") if len(rows) == 1 else rows
    return f"({','.join(map(str.strip, values))})" if len(values) > 1 and not any("&" in value for value in values) else None


_CHAIN = re.compile(r"((?:[a-z] ?= ?){2,6})([^=<>,;]+)")


def _assigned_apart(text: str) -> str | None:
    """``x=1, y=1`` for ``x = y = 1``; None for other text."""
    found = _CHAIN.fullmatch(text)
    return ", ".join(f"{letter}={found[2]}" for letter in re.findall("[a-z]", found[1])) if found else None


def _unwrapped(text: str) -> str:
    for _ in range(_PASSES):
        before = text
        text = text.strip()
        text = text if _DOTS_AT_END.search(text) else applied(WRAPPERS, text)
        if text == before:
            break
    return " ".join(text.split())


def _spaced(text: str) -> str:
    """The text with one space or one line break for each run of them."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


# Words ------------------------------------------------------------------------------------------------------------------------

_PHRASES = rules(
    (r"(?i)(?:the set of )?(?:all|any|every)(?: the)? (?:real numbers?|reals?)(?: x)?", r"\mathbb{R}"),
    (r"(?i)(?:the )?set of (?:all )?real numbers|(?:the )?real numbers", r"\mathbb{R}"),
    (r"(?i)(?:the set of )?(?:all|any|every)(?: the)? integers?", r"\mathbb{Z}"),
    (r"(?i)(?:the )?(?:empty|null) set|(?:there (?:is|are) )?no (?:real )?solutions?(?: exists?)?", r"\emptyset"),
    (r"(?i)(?:positive |plus )?infinity", r"\infty"),
    (r"(?i)(?:negative |minus )infinity", r"-\infty"),
    (r"(?i)(?:the limit )?(?:does not exist|doesn't exist|d\.?n\.?e\.?)", r"\text{does not exist}"),
)
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SHARES = {"half": 2, "halve": 2, "quarter": 4} | dict(
    zip("third fourth fifth sixth seventh eighth ninth tenth".split(), range(3, 11), strict=True)
)
_WITHOUT_MATHEMATICS = re.compile(r"(?:\\text\s*\{[^{}]*\}|[^\W\d_]|[\s,;&.'-])+")
_NAME = re.compile(r"[^\W\d_][^\W\d_.'-]+(?: [^\W\d_.'-]+){0,3}")
_BETWEEN_NAMES = re.compile(r"\s*(?:,\s*and\b|,\s*or\b|,|;|&|\band\b|\bor\b)\s*")
_LEAD = re.compile(r"(?!.*\b(?:is|are)\b)[A-Za-z][\w ,'$()\\{}^-]*")
_PROSE, _DENIES = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}"), re.compile(rf"{DENIES}|^{CONDITION}[^,]*$")


def _statement(text: str) -> str:
    """The value that ``The area of ABC is 5`` states, where nothing but mathematics or a quantity follows."""
    lead, found, value = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).rpartition(" is ")
    if not found:
        lead, found, value = text.rpartition(" are ")
    value = value.strip().rstrip(".").strip()
    if not found or not value or not _LEAD.fullmatch(lead.strip()) or not _PROSE.search(lead) or _DENIES.search(lead.strip()):
        return text
    return value if QUANTITY.fullmatch(value) or not _PROSE.search(value) and re.search("[0-9]", value) else text


def _phrase(text: str) -> str:
    """The usual form of an answer in words: of a known phrase its sign, of names a list in alphabetical order."""
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    words = re.sub(r"\s+", " ", words).strip().rstrip(".").strip()
    if number := _number(words.lower()):
        return number
    for phrase, usual in _PHRASES:
        if phrase.fullmatch(words):
            return str(usual)
    names = _BETWEEN_NAMES.split(words)
    if len(names) > 1 and all(map(_NAME.fullmatch, names)):
        return rf"\text{{{', '.join(sorted(names, key=str.casefold))}}}"
    if len(names) > 1 and len(set(names)) == len(names) and all(re.fullmatch("[A-Z\u2460-\u2473]", name) for name in names):
        return "".join(sorted(names))
    return text


def _number(words: str) -> str | None:
    """``twenty-five``, ``one hundred`` and ``two thirds`` in digits; None for other words."""
    first, *others = re.split(r"[ -]", words)
    if first == "half" and not others:
        return r"\frac{1}{2}"
    count = 1 if first in ("a", "one") else _below_hundred([first])
    if count and len(others) == 1 and (below := _SHARES.get(others[0].removesuffix("s"))):
        return rf"\frac{{{count}}}{{{below}}}"
    if count and count < 10 and others[:1] == ["hundred"]:
        rest = _below_hundred(others[2:] if others[1:2] == ["and"] else others[1:]) if others[1:] else 0
        return None if rest is None else str(100 * count + rest)
    value = _below_hundred([first, *others])
    return None if value is None else str(value)


def _below_hundred(words: list[str]) -> int | None:
    if len(words) == 1 and words[0] in _NUMBER_WORDS:
        return _NUMBER_WORDS.index(words[0])
    if not words or words[0] not in _TENS or len(words) > 2:
        return None
    unit = _below_hundred(words[1:]) if words[1:] else 0
    return None if unit is None or unit > 9 or words[1:] == ["zero"] else 10 * _TENS.index(words[0]) + 20 + unit


# Lists ------------------------------------------------------------------------------------------------------------------------

_FREE_SIGNS = 3
"""Most plus-minus signs of one value that are written out."""

_CASES = re.compile(r"^(?:\\\{\s*)?\\begin\{(cases|aligned|array|gathered)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}$", re.DOTALL)
_LINE_BREAK = re.compile(r"\s*,?\s*\\\\(?:\[[^\]]*\])?\s*")
_ROW_END = re.compile(r"\n|\\\\(?:(?=[A-Za-z]\s?=)|\[[^\]]*\]|(?![A-Za-z]))")
_BRACKETS = re.compile(r"\\begin|\\end|\\[{}]|[\[\](){},;]")
_OPENING, _CLOSING = {"\\begin", "\\{", "[", "(", "{"}, {"\\end", "\\}", "]", ")", "}"}
_COLUMN = re.compile(r"\s*,?\s*\\q?quad(?![A-Za-z])\s*")
_VALUE = re.compile(r"(?:[A-Za-z]\w? ?= ?)?-?(?:[0-9.]+|\\[dt]?frac\{[0-9]+\}\{[0-9]+\})")
_WHOLE_LINE = re.compile(r"(?:\S.*)?[^-+*/=<>,&\\({\[\s]")


def listed(text: str) -> str:
    """Lines with a value each, of a box or of an environment that only aligns, as one list with commas; other text as it is."""
    environment = _CASES.match(text.strip())
    if environment:
        rows = [row.replace("&=", "=").replace("=&", "=").strip().lstrip("&") for row in _LINE_BREAK.split(environment[2])]
        rows = [row.strip().rstrip(",") for row in rows if row.strip()]
        if rows and all(row.count("=") < 2 and "&" not in row and "," not in row and not _goes_on(row) for row in rows):
            return ", ".join(rows)
        return text
    if "\\begin" in text:
        return text
    columns = _COLUMN.split(text)
    if len(columns) > 1 and all(map(_VALUE.fullmatch, columns)):
        return ", ".join(columns)
    lines = [line.strip() for line in _ROW_END.split(text) if line.strip()]
    if len(lines) > 1 and all(map(_WHOLE_LINE.fullmatch, lines)) and not any(map(_goes_on, lines)):
        return ", ".join(lines)
    return text


def _goes_on(line: str) -> bool:
    """Whether a line continues the one before, or its brackets do not close."""
    return line[0] in "+*/=<>&)]}^_" or len(_parts(line, ()) or ()) != 1


def _parts(text: str, separators: tuple[str, ...] = (",", ";")) -> list[str] | None:
    """What separators outside brackets stand between; None where brackets do not match."""
    depth, start, parts = 0, 0, []
    for token in _BRACKETS.finditer(text):
        if token[0] in _OPENING:
            depth += 1
        elif token[0] in _CLOSING:
            depth -= 1
            if depth < 0:
                return None
        elif not depth and token[0] in separators:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    return None if depth else [*parts, text[start:].strip()]


def signs_written_out(text: str) -> str:
    r"""``0, 1 \pm \sqrt{2}`` as ``0, 1 + \sqrt{2}, 1 - \sqrt{2}``; signs that stand together with ``\mp`` change together."""
    if "\\pm" not in text and "\\mp" not in text:
        return text
    if text.startswith("\\{") and text.endswith("\\}"):
        return rf"\{{{signs_written_out(text[2:-2])}\}}"
    parts = _parts(text)
    return text if parts is None else ", ".join(value for part in parts for value in _both(part))


def _both(part: str) -> list[str]:
    pieces = re.split(r"\\(pm|mp)(?![A-Za-z])\s*", part)
    signs = pieces[1::2]
    if not signs or len(signs) > _FREE_SIGNS:
        return [part]
    together = "mp" in signs
    values = []
    for ups in [(True,) * len(signs), (False,) * len(signs)] if together else product((True, False), repeat=len(signs)):
        value = pieces[0]
        for sign, up, piece in zip(signs, ups, pieces[2::2], strict=True):
            minus = up == (sign == "mp")
            value += "-" + piece if minus else ("+" if re.search(r"[\w)}\]]\s*$", value) else "") + piece
        values.append(value.strip())
    return values
