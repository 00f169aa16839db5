r"""One notation for answers and gold answers, before anything is compared: ``\textbf{12}^{\text{th}}.`` is ``12``.

Tables of (pattern, replacement), applied in order. Only what never changes the value is taken away: a unit, a base, a sign and
the direction of an inequality stay. Patterns hold no nested repetition, and no text of more than ``READ_CHARS`` is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from luffy.rewards.characters import plain_characters
from luffy.rewards.lists import listed, signs_written_out, with_parameter

READ_CHARS = 4_000
"""Longer text is left as it is; the longest answer that is compared at all has half of that."""
_PASSES = 6
"""How often wrappers are taken off: ``**$\textbf{\text{4}}$.**`` has five."""

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def _rules(*pairs: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


def _apply(rules: tuple[Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


# Looks ------------------------------------------------------------------------------------------------------------------------

_END = r"(?![A-Za-z])"
_TRIGONOMETRIC = "sinh|cosh|tanh|coth|sin|cos|tan|cot|sec|csc"
_FUNCTIONS = rf"arcsin|arccos|arctan|arccot|{_TRIGONOMETRIC}|ln|log|lg|exp|gcd|max|min|det"
_ROMAN = r"\\(?:operatorname\*?|mathrm|text|textrm)\s*\{\s*"
_SAME = {
    "le": "leq", "leqslant": "leq", "leqq": "leq", "ge": "geq", "geqslant": "geq", "geqq": "geq", "ne": "neq",
    "varnothing": "emptyset", "empty": "emptyset", "O": "emptyset", "infin": "infty", "dfrac": "frac", "tfrac": "frac",
    "cfrac": "frac", "nicefrac": "frac", "sfrac": "frac", "xfrac": "frac", "R": "mathbb{R}", "Z": "mathbb{Z}", "Q": "mathbb{Q}",
    "N": "mathbb{N}", "reals": "mathbb{R}", "Reals": "mathbb{R}", "lbrace": "{", "rbrace": "}", "tg": "tan", "ctg": "cot",
    "cotg": "cot", "arctg": "arctan", "arcctg": "arccot", "lg": "log_{10}", "degree": "circ", "textdegree": "circ",
    "leftarrow": "gets", "implies": "Rightarrow", "Bbb": "mathbb", "dbinom": "binom", "tbinom": "binom", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots",
    "surd": "sqrt", "backslash": "setminus",
}  # fmt: skip
_AS_SIGN = {"lt": "<", "gt": ">", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "colon": ":", "langle": "(", "rangle": ")",
            "vert": "|", "lvert": "|", "rvert": "|", "mid": "|"}  # fmt: skip

_LOOKS = _rules(
    (r"(?<!\\)\$|(?<!\\)\\[()\[\]]", " "),
    (rf"\\(?:left|right|middle){_END}\s*\.?", ""),
    (rf"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|strut|mathstrut|nonumber|notag|allowbreak|centering){_END}\s*", ""),
    (rf"\\(?:large|Large|LARGE|huge|Huge|small|normalsize|bfseries|itshape|bf|rm|it|[bB]igg?[lrm]?){_END}\s*", ""),
    (rf"\\(?:checkmark|blacksquare|square|qed){_END}|[\u2713\u2714\u220e]", ""),
    (r"(?<!\\)\\\\\[[0-9.]+ ?[a-z]{2}\]|\\cr(?![A-Za-z])", r"\\\\"),
    (r"(?<=[0-9])\{\}(?=\^)|\\math(?:open|close|ord|bin|rel)\s*(?:\{\})?(?=[^{]|\{)", ""),
    (r"\\(?:label|tag|hspace|vspace|phantom|vphantom|hphantom)\*?\s*\{[^{}]*\}", ""),
    (r"(?<=[0-9])(?:\{,\}|,\\!) ?(?=[0-9]{3}(?![0-9]))", ""),
    (rf"\\(?:!|negthinspace{_END})\s*", ""),
    (rf"(?<!\\)\\(?:[,:;> ]|(?:quad|qquad|thinspace|medspace|thickspace|enspace|enskip|hfill|nobreakspace){_END})|(?<!\\)~", " "),
    (r"\\(?:(?:text|math)?color|colorbox)\s*\{[^{}]*\}", ""),
    (r"\\(?:underline|ensuremath|[bB]oxed|fbox|framebox)\s*(?=\{)", ""),
    (rf"{_ROMAN}({_FUNCTIONS}|tg|ctg|cotg|arctg|arcctg)\s*\}}", r"\\\1 "),
    (r"\\text(?:super|sub)script(?=\{)", lambda found: "^" if "super" in found[0] else "_"),
    (rf"\\({'|'.join(sorted(_SAME, key=len, reverse=True))}){_END}", lambda found: "\\" + _SAME[found[1]]),
    (rf"\\({'|'.join(_AS_SIGN)}){_END}\s?", lambda found: _AS_SIGN[found[1]]),
    (r"(?<=[0-9])\{,\}(?=[0-9])", "."),
    (r"(?<![\^_A-Za-z}\]])\{\s*([-+=,:;.])\s*\}|\\text\s*\{\s*,\s*\}", lambda found: found[1] or ","),
    (r"\\abs\s*\{([^{}]*)\}", r"|\1|"),
    (r"\\log_\{? ?e ?\}?(?![A-Za-z])", r"\\ln "),
    (r"(?<![A-Za-z0-9}])C_\{?([0-9]+)\}?\^\{?([0-9]+)\}?|(?<![A-Za-z0-9])(?:\{\})?[_^]\{?([0-9]+)\}?C_\{?([0-9]+)\}?",
     lambda found: rf"\binom{{{found[1] or found[3]}}}{{{found[2] or found[4]}}}"),
    (r"\\(vec|bar|hat|overline|tilde|widehat)\s+([A-Za-z])(?![A-Za-z])", r"\\\1{\2}"),
    (r"\\(angle|triangle)\s*\{([^{}]*)\}", r"\\\1 \2"),
    (r"\^(\\frac(?:\{[^{}]*\}|[0-9]){2})", r"^{\1}"),
    (r"\{\s*([^{}\\]{1,40}?)\s*\\choose\s*([^{}\\]{1,40}?)\s*\}", r"\\binom{\1}{\2}"),
    (r"\\textdollar(?:\{\}|(?![A-Za-z]))\s*|\\dollar(?![A-Za-z])\s*", r"\\$"),
    (r"(?<=[0-9])\s?\^\s?(?:\{\s?\\text\{\s?o\s?\}\s?\}|\\text\{\s?o\s?\}|\{\s?o\s?\}|o(?![A-Za-z]))", r"^\\circ"),
    (r"!=|\\not ?=", r"\\neq "),
    (r"<=", r"\\leq "),
    (r">=", r"\\geq "),
    (r"\+/-", r"\\pm "),
    (r"\\\{\s*\\\}", r"\\emptyset"),
    (r"\\mathbb\s*([A-Z])(?![A-Za-z])", r"\\mathbb{\1}"),
    (r"(\\in\s*)\\(?:mathbf|bold|mathrm)\s*\{\s*([RZQNC])\s*\}", r"\1\\mathbb{\2}"),
    (r"\^\s*\{\s*\\circ\s*\}|(?<=[0-9])\s*\\circ" + _END, r"^\\circ"),
    (r"\^\s*\{\s*\\prime\s*\\prime\s*\}", "''"),
    (rf"\^\s*(?:\{{\s*\\prime\s*\}}|\\prime{_END})", "'"),
    (r"\\(?:mathrm|text|textrm)\s*\{\s*([ei])\s*\}", r"\1"),
    (r"\\(?:text(?:bf|it|rm|sf|tt|sc|up|normal)|emph|[mh]box|math(?:rm|bf|it|sf|tt|normal)|boldsymbol|bm|pmb)\s*(?=\{)", r"\\text"),
    (r"\\(?:mathrm|mathbf|mathit|mathsf|boldsymbol|bm)\s+(?=[A-Za-z0-9])", ""),
    (rf"(?<![A-Za-z\\{{])(arcsin|arccos|arctan|{_TRIGONOMETRIC}|ln|log|sqrt|pi|infty){_END}", r"\\\1"),
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"(?<=[0-9A-Za-z)}])\*\*\s*(-?[0-9]+(?:\.[0-9]+)?|[A-Za-z]|\([^()]*\))", r"^{\1}"),
    (r"\^(-?[0-9]{2,})", r"^{\1}"),
    (r"\\text\s*\{\s*(\\[a-z]+)\s*\}", r"\1 "),
    (r"\\text\s*\{\s*([^{}]*?)\s*\}", lambda found: found[1] if _MATHEMATICAL.fullmatch(found[1]) else rf"\text{{{found[1]}}}"),
)  # fmt: skip
_MATHEMATICAL = re.compile(r"(?=[^0-9]*[0-9])[-+*/^=<>()\[\].,:0-9\s]+")

_WRAPPERS = _rules(
    (r"(?<!\\)\\+$", ""),
    (r"(?<![.,;:\s])\s?[.,;:]+$", ""),
    (r"^_([^_]+)_$", r"\1"),
    (r"^(\*\*\*|\*\*|__|\*|`+|\"|''|``)([^*`\"]*)(?:\1|'')$", r"\2"),
    (r"^(?:\\text(?=\{[^{}]*\\))?\{((?:[^{}\\]|\\.|\{(?:[^{}\\]|\\.)*\})*)\}$", r"\1"),
    (r"^(?:=|\\therefore|\\Rightarrow|:|\\text\{\s*\}|&)\s*", ""),
)
_DOTS_AT_END = re.compile(r"(?:\.\.\.|\\ldots)\s*$")

# Numbers ----------------------------------------------------------------------------------------------------------------------

_NUMBER = r"(?<![0-9.])[0-9]{1,30}(?:\.[0-9]{1,30})?"


def _recurring(whole: str, fixed: str, period: str) -> str:
    size = 10 ** len(fixed)
    value = Fraction(int((whole or "0") + fixed), size) + Fraction(int(period), size * (10 ** len(period) - 1))
    return _fraction(value)


def _fraction(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _dotted(found: re.Match[str]) -> str:
    """``0.1666...`` where the last digits repeat three times (a period of two digits or more: twice), else as it is."""
    digits = found[2]
    for fixed in range(min(5, len(digits))):
        for length in range(1, (len(digits) - fixed) // 2 + 1):
            period, rest = digits[fixed : fixed + length], digits[fixed:]
            if len(rest) >= length * (3 if length == 1 else 2) and (period * len(rest)).startswith(rest):
                return _recurring(found[1], digits[:fixed], period)
    return found[0]


def _degrees(found: re.Match[str]) -> str:
    value = Fraction(found[1]) + Fraction(found[2]) / 60 + Fraction(found[3] or 0) / 3600
    return _decimal(value) + r"^\circ"


def _decimal(value: Fraction) -> str:
    decimal = f"{float(value):.10g}"
    return decimal if Fraction(decimal) == value else _fraction(value)


_ORDINAL = "(?:st|nd|rd|th)"
_NUMBERS = _rules(
    (r"(?<![0-9.,'_])([0-9]{1,3})((?:[ '][0-9]{3}){1,20}|(?:_[0-9]{3}){1,20})(?![0-9'_])", lambda found: found[1] + re.sub("[ '_]", "", found[2])),
    (r"^-?[0-9]{1,3}(?:\.[0-9]{3}){2,9}$", lambda found: found[0].replace(".", "")),
    (r"^(-?[0-9]{1,9}) ([0-9]{1,4})/([0-9]{1,4})(?![0-9/.])", r"\1\\frac{\2}{\3}"),
    (r"(?<![0-9])([0-9]{1,20}\.[0-9]{3})((?: [0-9]{3}){1,20}(?: [0-9]{1,2})?)(?![0-9])", lambda found: found[1] + found[2].replace(" ", "")),
    (r"(?<![0-9])([0-9]{0,20})\.([0-9]{0,40})\\(?:overline|bar|overbar)\s*\{?\s*([0-9]{1,40})\s*\}?", lambda found: _recurring(*found.groups())),
    (r"(?<![0-9])([0-9]{0,20})\.([0-9]{0,40})\\dot\s*\{?([0-9])\}?(?:([0-9]{0,40})\\dot\s*\{?([0-9])\}?)?", lambda found: _recurring(found[1], found[2], found[3] + (found[4] or "") + (found[5] or ""))),
    (r"(?<![0-9])([0-9]{1,20})\.([0-9]{0,20})\(([0-9]{1,20})\)(?![0-9(^])", lambda found: _recurring(*found.groups())),
    (r"(?<![0-9])([0-9]{0,20})\.([0-9]{1,40})\s*(?:\.\.\.|\\ldots)", _dotted),
    (rf"([0-9])\s*(?:\^\s*\{{\s*(?:\\text\s*\{{\s*{_ORDINAL}\s*\}}|{_ORDINAL})\s*\}}|\^?\s*\\text\s*\{{\s*{_ORDINAL}\s*\}}|{_ORDINAL})(?![A-Za-z0-9])", r"\1"),
    (rf"([0-9}}])\s*(?:\\text\s*\{{\s*(?:degrees?|deg\.?)\s*\}}|degrees?{_END}|deg{_END})(?!\s*(?:[CFK]\b|Celsius|Fahrenheit))", r"\1^\\circ"),
    (rf"({_NUMBER})\s*\^\\circ\s*({_NUMBER})\s*'(?:\s*({_NUMBER})\s*(?:''|\"))?", _degrees),
    (r"(?<![0-9.A-Za-z}])\.(?=[0-9])", "0."),
    (r"^\+\s*(?=[0-9\\A-Za-z(])", ""),
    (r"^-\s+(?=[0-9\\])", "-"),
    (r"(?<=[,+-])\s*(?:\\text\{ ?infinity ?\}|infinity(?![A-Za-z]))", r" \\infty"),
    (r"^(?:[a-z] ?\\in ?)?\\mathbb\{R\}[_^]\{?(?:\+|> ?0)\}?$", r"(0,\\infty)"),
    (r"(\\mathbb\{[RZQNC]\}) ?[-/] ?(?=\\\{)", r"\1 \\setminus "),
    (r"^([a-z]) ?\\in ?\\mathbb\{R\} ?(?:,|:|\|) ?(?=\1 ?(?:[<>]|\\[lgn]eq))", ""),
    (r"^[A-Z](\((?=[^()]*[0-9])[^()]*,[^()]*\))$", r"\1"),
    (r"(?<=[0-9.]) ?x ?10 ?\^", r" \\times 10^"),
    (r"\s*;", ","),
    (r"^\](?=[^\[\](),]+,[^\[\](),]+[\[\]]$)", "("),
    (r"(?<=^[(\[])([^\[\](),]+,[^\[\](),]+)\[$", r"\1)"),
    (r"^\\\{\s*(\([^(){}]*\))\s*\\\}$", r"\1"),
)  # fmt: skip
_IN_RADIANS = re.compile(rf"({_NUMBER})\s*\^\\circ")
_OF_AN_ANGLE = re.compile(rf"\\(?:{_TRIGONOMETRIC}){_END}")

# Words ------------------------------------------------------------------------------------------------------------------------

_UNITS = (
    "mm|cm|dm|km|m|mg|kg|g|ml|mL|L|s|ms|min|h|hr|hrs|Hz|kHz|MHz|N|J|kJ|W|kW|V|A|K|Pa|kPa|atm|mol|eV|ft|in|yd|mi|lb|lbs|oz|mph|amps?|volts?|ohms?|watts?|"
    "met(?:er|re)s?|centimet(?:er|re)s?|millimet(?:er|re)s?|kilomet(?:er|re)s?|inch(?:es)?|feet|foot|yards?|miles?|seconds?|minutes?|hours?|days?|weeks?|months?|"
    "years?|grams?|kilograms?|lit(?:er|re)s?|gallons?|pounds?|ounces?|dollars?|cents?|euros?|units?|square units?|cubic units?|sq\\.? units?|radians?"
)
_COMPOUND = {"week": ("day", 7), "day": ("hour", 24), "hour": ("minute", 60), "hr": ("min", 60), "h": ("min", 60), "minute": ("second", 60),
             "min": ("s", 60), "year": ("month", 12), "feet": ("inches", 12), "foot": ("inches", 12), "ft": ("in", 12), "pound": ("ounce", 16)}  # fmt: skip
_UNIT_WORD = r"(?:\\text\{)? ?([a-z]+)(?: and|,)? ?\}?"
_STATING = r"(?:is|are|equals?|equal to|was|were|would be|should be|must be|becomes?)"
_PHRASES = {
    r"(?:the set of )?(?:all|any|every)(?: the)? (?:real numbers?|reals?)(?: x)?": r"\mathbb{R}",
    r"(?:the )?set of (?:all )?real numbers|(?:the )?real numbers": r"\mathbb{R}",
    r"(?:the set of )?(?:all|any|every)(?: the)? integers?": r"\mathbb{Z}",
    r"(?:the )?(?:empty|null) set": r"\emptyset",
    r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exists?)?": r"\emptyset",
    r"(?:positive |plus )?infinity": r"\infty",
    r"(?:negative |minus )infinity": r"-\infty",
    r"(?:the limit )?(?:does not exist|doesn't exist|d\.?n\.?e\.?)": r"\text{does not exist}",
    **{word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())},
}
_PHRASE = re.compile("|".join(f"({phrase})" for phrase in _PHRASES), re.IGNORECASE)
_WITHOUT_MATHEMATICS = re.compile(r"(?:\\text\s*\{[^{}]*\}|[^\W\d_]|[\s,;&.'-])+")
_NAME = re.compile(r"[^\W\d_][^\W\d_.'-]+(?: [^\W\d_.'-]+){0,3}")
_BETWEEN_NAMES = re.compile(r"\s*(?:,\s*and\b|,\s*or\b|,|;|&|\band\b|\bor\b)\s*")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")
_QUANTITY = re.compile(rf"(-?{_NUMBER}(?:/[0-9]+)?|-?\\frac\{{[0-9]+\}}\{{[0-9]+\}})\s*\.?({_UNITS})")


def _compounded(found: re.Match[str]) -> str:
    """``7 hours 30 minutes`` as ``7.5 hours``, where the second unit is the part of the first."""
    part, size = _COMPOUND.get(found[2].removesuffix("s"), ("", 1))
    if found[4] not in (part, part + "s", part.removesuffix("es")):
        return found[0]
    return _decimal(Fraction(found[1]) + Fraction(found[3]) / size) + rf" \text{{{found[2]}}}"


_COUNT = (
    "(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thir|fif|eigh|twen|for|teen|ty|hundred|thousand|million|and)"
)
_OR = rf",? ?(?:\\text\{{ ?or ?\}}|\\lor{_END}|or) ?"
_WORDS = _rules(
    (rf"^({_NUMBER}) ?([\u20ac\u00a3\u00a5\u20b9\u20bd])$", r"\2\1"),
    (rf"^(?:\\text\{{ ?)?(Rs|USD|EUR|INR|GBP|CNY)\.? ?\}}? ?({_NUMBER})$", r"\2 \\text{\1}"),
    (r"^\| ?[A-Z]+ ?(?:\\(?:cup|cap|setminus) ?[A-Z]+ ?){1,3}\| ?= ?(?=[^=]+$)", ""),
    (rf"(?<=[0-9]) ?\((?:\\text\{{)?(?:{_COUNT}[ -]?)+\}}?\)$", ""),
    (r"(?<=\S) ?\\text\{ ?[,(]? ?(?:since|because)\b.*$", ""),
    (r"^\\text\{([^{}]*[0-9][^{}]*)\}$", r"\1"),
    (r"(?<![^= -])([0-9]{1,3}(?:,[0-9]{3}){1,9})(?=(?:\.[0-9]+)?(?: ?\\text| [A-Za-z]))", lambda found: found[1].replace(",", "")),
    (r"\s*\\text\{\s*\((?:approx|about|roughly|or about|or approx|rounded|to the nearest|correct to|i\.e)[^{}]*\}[^{}\\]*(?:\\text\{\s*\)\s*\})?$", ""),
    (r"\s*\(\s*(?:\\text\{\s*)?(?:approx|about|roughly|or about|or approx|rounded|to the nearest|correct to|\\approx)[^()]*\)\s*\}?$", ""),
    (rf"^\\text\{{[^{{}}]*(?:\b{_STATING}|[:=])\s*\}}\s*(?=\S)|^\\text\{{ ?(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o|[Ee]xactly|[Aa]ns\.),? ?\}} ?(?=\S)|\s*\\text\{{ ?only ?\}}$", ""),
    (r"^(?:\\text\{ ?)?(?:negative|minus) ?\}? ?(?=[0-9\\])", "-"),
    (r"^([A-Za-z]) ?(?:\\text\{ ?(?:is|equals) ?\}|is|equals) ?(?=[-0-9\\])", r"\1 = "),
    (r"^((?:\\text\{ ?)?all real (?:numbers?|x)(?: x)?|\\mathbb\{R\}) ?(?:except|other than|but|excluding)(?: for)? ?\}? ?(?:x ?= ?)?([^A-Za-z]+)$", r"\\mathbb{R} \\setminus \\{\2\\}"),
    (r"(?<=[0-9}]) ?\((\\text\{ ?[A-Za-z/ ]{1,12}\}(?:\^\{?[0-9]\}?)?)\)$", r" \1"),
    (r"(?i)^(?:\\text\{\s*)?(?:the )?(?:final |correct |exact )?(?:answer|ans|result|solution)s?\s*(?:\}\s*)?[:=]\s*", ""),
    (r"^\\text\{\s*[A-Za-z][A-Za-z ]{2,}\}\s*=\s*(?=[^=]+$)", ""),
    (rf"({_NUMBER}) ?{_UNIT_WORD} ?(?:,|and|\\text\{{ *and *\}})? ?({_NUMBER}) ?{_UNIT_WORD}$", _compounded),
    (rf"^({_NUMBER})\s*(?:\\text\{{\s*to\s*\}}|to)\s*({_NUMBER})$", r"\1:\2"),
    (r"\s*(?:\\text\{\s*)?(?:或者?|和|与|及|以及|または|と)(?:\s*\})?\s*(?=\S)", ", "),
    (rf"^(?=.*\\infty)[\[(][^\[\]()]*[\])](?:{_OR}[\[(][^\[\]()]*[\])])+$", lambda found: re.sub(_OR, r" \\cup ", found[0])),
    (r"(?<=[0-9}])\s*([^\W\d_a-zA-Z][^\W\d_]*)(?=\s*$)", r" \\text{\1}"),
    (r"(?<=[0-9}])\s*\\text\s*(?=\{)", r" \\text"),
    (rf"(?<=[0-9}}])\s*({_UNITS})\.?(\^\{{?[23]\}}?)?$", lambda found: rf" \text{{{found[1]}}}{found[2] or ''}" if len(found[1]) > 1 else found[0]),
)  # fmt: skip


def _statement(text: str) -> str:
    """The value that ``The area of ABC is 5`` states, where nothing but mathematics or a quantity follows."""
    lead, found, value = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).rpartition(" is ")
    if not found:
        lead, found, value = text.rpartition(" are ")
    value = value.strip().rstrip(".").strip()
    if (
        not found
        or not value
        or not re.fullmatch(r"[A-Za-z][\w ,'$()\\{}^-]*", lead.strip())
        or not _PROSE.search(lead)
        or re.search(r"\b(?:is|are)\b", lead)
    ):
        return text
    return value if _QUANTITY.fullmatch(value) or not _PROSE.search(value) and re.search("[0-9]", value) else text


def _phrase(text: str) -> str:
    """The usual form of an answer in words: of a known phrase its sign, of names a list in alphabetical order."""
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    words = re.sub(r"\s+", " ", words).strip().rstrip(".").strip()
    known = _PHRASE.fullmatch(words)
    if known:
        return list(_PHRASES.values())[known.lastindex - 1]
    names = _BETWEEN_NAMES.split(words)
    if len(names) > 1 and all(map(_NAME.fullmatch, names)):
        return rf"\text{{{', '.join(sorted(names, key=str.casefold))}}}"
    if len(names) > 1 and len(set(names)) == len(names) and all(re.fullmatch("[A-Z]", name) for name in names):
        return "".join(sorted(names))
    return text


_DECIMAL_COMMA = re.compile(r"-?[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})(?: ?\\?%)?")
_LABELLED = re.compile(
    r"(?:(?:\\text\s*\{)?\(([A-J])\)\}?[.:]?|(?:\\text\s*\{)?([A-J])(?:[.)]|:(?=\s))\}?)(?=[\s\\0-9])\s*(?!\\text ?\{ ?(?:or|and|if|not)\b|\\ldots)([^\s,;^_+*/=<>].*)"
)
"""A label of a choice and the value that it stands for."""

# All of it --------------------------------------------------------------------------------------------------------------------

_USUAL = re.compile(
    r"(?![-+=,)\]} ]+[ +=,)\]}])(?![+=,)\]}*/ ])"
    r"(?:[0-9]+(?:\.[0-9]+(?!\())?(?![0-9.]| [0-9])|[a-z](?![A-Za-z]|10\^)|\\(?:frac|sqrt)\{|\\pi(?![A-Za-z ])|\^(?:[0-9a-np-z](?![0-9a-z])|\{(?!o\}))"
    r"| ?\\(?:cdot|times)(?: (?=[0-9a-z(\\])|(?=\\))"
    r"|\}\{?|[-+=(\[)\],]|/(?!-)| (?=[-+/=])|(?<=[-+/=,]) (?! ))+(?<=[0-9a-z)\]}])|[A-Za-z]"
)
"""Text that no rule changes: numbers, fractions, roots, single letters, brackets and signs."""
_USUAL_LOOKS = re.compile(r"\\(?:left|right)(?=[()\[\]])|(?<=\\)[dt](?=frac\{)")
"""What may be taken away before: ``\\left(``, ``\\dfrac{``."""


@lru_cache(maxsize=65_536)
def normalised(text: str) -> str:
    """An answer in the one notation that answers are compared in.

    Args:
        text: the content of a box, a stated answer, or a gold answer.

    Returns:
        The same answer without marks that only concern its looks, with numbers, lists and words in their usual form; the text
        itself where it is longer than ``READ_CHARS``.
    """
    if len(text) > READ_CHARS:
        return text
    usual = _USUAL_LOOKS.sub("", text) if "\\" in text else text
    return usual if _USUAL.fullmatch(usual) else _with_all_rules(text)


def _with_all_rules(text: str) -> str:
    text = listed(_spaced(plain_characters(text)))
    text = _spaced(_apply(_LOOKS, text))
    text = _unwrapped(listed(text))
    text = _unwrapped(_apply(_WORDS, _statement(_apply(_NUMBERS, text))))
    if _OF_AN_ANGLE.search(text):
        text = _IN_RADIANS.sub(r"\\frac{\1\\pi}{180}", text)
    if _WITHOUT_MATHEMATICS.fullmatch(text):
        return _phrase(text)
    return with_parameter(signs_written_out(text))


def readings(gold: str) -> tuple[str, ...]:
    r"""What may be answered for a gold answer: itself, and of a labelled one (``\text{(B)} 12``) the label and the value alone.

    Args:
        gold: a gold answer.

    Returns:
        Normalised answers, the whole one first.
    """
    whole = normalised(gold)
    labelled = _LABELLED.fullmatch(whole)
    return (whole, labelled[1] or labelled[2], normalised(labelled[3])) if labelled else (whole,)


def reading_for(answer: str, golds: tuple[str, ...]) -> str:
    r"""The normalised answer, with a decimal comma as the gold answer's point; of a labelled one (``\textbf{(B)} 12``, ``B. 12``) the part that the gold answers have.

    Args:
        answer: the content of a box, or a stated answer.
        golds: normalised gold answers.

    Returns:
        One normalised answer.
    """
    whole = normalised(answer)
    if _DECIMAL_COMMA.fullmatch(whole) and not any("," in gold for gold in golds):
        return whole.replace(",", ".")
    labelled = _LABELLED.fullmatch(whole)
    if not labelled or whole in golds:
        return whole
    label = labelled[1] or labelled[2]
    return label if any(gold.strip("()") == label or gold == rf"\text{{({label})}}" for gold in golds) else normalised(labelled[3])


def _unwrapped(text: str) -> str:
    for _ in range(_PASSES):
        before = text
        text = text.strip()
        text = text if _DOTS_AT_END.search(text) else _apply(_WRAPPERS, text)
        if text == before:
            break
    return " ".join(text.split())


def _spaced(text: str) -> str:
    """The text with one space or one line break for each run of them."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
