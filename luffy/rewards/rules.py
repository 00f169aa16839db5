r"""Tables of patterns that bring an answer into one notation: ``\textbf{12}^{\text{th}}.`` is ``12``.

Pairs of (pattern, replacement), applied in order. Only what never changes the value is taken away: a unit, a base, a sign and
the direction of an inequality stay. Alternatives that a pattern repeats begin with different characters, so that no text is
matched in many ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def rules(*pairs: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


def applied(table: tuple[Rule, ...], text: str) -> str:
    for pattern, replacement in table:
        text = pattern.sub(replacement, text)
    return text


# Looks ------------------------------------------------------------------------------------------------------------------------

_END = r"(?![A-Za-z])"
TRIGONOMETRIC = "sinh|cosh|tanh|coth|sin|cos|tan|cot|sec|csc"
_FUNCTIONS = rf"arcsin|arccos|arctan|arccot|{TRIGONOMETRIC}|ln|log|lg|exp|gcd|max|min|det"
_ROMAN = r"\\(?:operatorname\*?|mathrm|text|textrm)\s*\{\s*"
_SAME = {
    "le": "leq", "leqslant": "leq", "leqq": "leq", "ge": "geq", "geqslant": "geq", "geqq": "geq", "ne": "neq",
    "varnothing": "emptyset", "empty": "emptyset", "O": "emptyset", "infin": "infty", "dfrac": "frac", "tfrac": "frac",
    "cfrac": "frac", "nicefrac": "frac", "sfrac": "frac", "xfrac": "frac", "R": "mathbb{R}", "Z": "mathbb{Z}", "Q": "mathbb{Q}",
    "N": "mathbb{N}", "reals": "mathbb{R}", "Reals": "mathbb{R}", "lbrace": "{", "rbrace": "}", "tg": "tan", "ctg": "cot",
    "cotg": "cot", "arctg": "arctan", "arcctg": "arccot", "lg": "log_{10}", "degree": "circ", "textdegree": "circ",
    "leftarrow": "gets", "implies": "Rightarrow", "Bbb": "mathbb", "dbinom": "binom", "tbinom": "binom", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots",
    "surd": "sqrt", "overrightarrow": "vec", "backslash": "setminus", "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "varrho": "rho",
}  # fmt: skip
_AS_SIGN = {"lt": "<", "gt": ">", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "colon": ":", "langle": "(", "rangle": ")",
            "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "ell": "{l}"}  # fmt: skip

_MATHEMATICAL = re.compile(r"(?=[^0-9]*[0-9])[-+*/^=<>()\[\].,:0-9\s]+")


def _arrangements(found: re.Match[str]) -> str:
    """``A_5^2``, the arrangements of 2 of 5 things, as in Chinese books; a power of a_n where that many are not there."""
    return rf"\frac{{{found[1]}!}}{{({found[1]}-{found[2]})!}}" if int(found[2]) <= int(found[1]) <= 99 else found[0]


LOOKS = rules(
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
    (r"(?<![A-Za-z\\])A_\{?([0-9]+)\}?\^\{?([0-9]+)\}?", _arrangements),
    (r"\\(vec|bar|hat|overline|tilde|widehat)\s+([A-Za-z])(?![A-Za-z])", r"\\\1{\2}"),
    (r"\\(angle|triangle)\s*\{([^{}]*)\}", r"\\\1 \2"),
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
    (rf"(?<![A-Za-z\\{{])(arcsin|arccos|arctan|{TRIGONOMETRIC}|ln|log|sqrt|pi|infty){_END}", r"\\\1"),
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"\\sqrt\s*(\[[0-9a-z]\])?\s*([0-9]{2,}(?:\.[0-9]+)?)", lambda found: rf"\sqrt{found[1] or ''}{{{found[2]}}}"),
    (r"(?<=[0-9A-Za-z)}])\*\*\s*(-?[0-9]+(?:\.[0-9]+)?|[A-Za-z]|\([^()]*\))", r"^{\1}"),
    (r"\^(-[0-9]+|[0-9]{2,})", r"^{\1}"),
    (r"\\text\s*\{\s*(\\[a-z]+)\s*\}", r"\1 "),
    (r"\\text\s*\{\s*([^{}]*?)\s*\}", lambda found: found[1] if _MATHEMATICAL.fullmatch(found[1]) else rf"\text{{{found[1]}}}"),
)  # fmt: skip

WRAPPERS = rules(
    (r"(?<!\\)\\+$", ""),
    (r"(?<![.,;:\s])\s?[.,;:]+$", ""),
    (r"^_([^_]+)_$", r"\1"),
    (r"^(\*\*\*|\*\*|__|\*|`+|\"|''|``)([^*`\"]*)(?:\1|'')$", r"\2"),
    (r"^(?:\\text(?=\{[^{}]*\\))?\{((?:[^{}\\]|\\.|\{(?:[^{}\\]|\\.)*\})*)\}$", r"\1"),
    (r"^(?:=|\\therefore|\\Rightarrow|:|\\text\{\s*\}|&)\s*", ""),
)

# Numbers ----------------------------------------------------------------------------------------------------------------------

NUMBER = r"(?<![0-9.])[0-9]{1,30}(?:\.[0-9]{1,30})?"


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
_NTH_POWER = r"(?:[\s^{}]|\\text)*(?:st|nd|rd|th)(?:[\s{}-]|\\text)*(?:roots?|powers?)(?![a-z])"
NUMBERS = rules(
    (r"(?<![0-9.,'_])([0-9]{1,3})((?:[ '][0-9]{3}){1,20}|(?:_[0-9]{3}){1,20})(?![0-9'_])", lambda found: found[1] + re.sub("[ '_]", "", found[2])),
    (r"^-?[0-9]{1,3}(?:\.[0-9]{3}){2,9}$", lambda found: found[0].replace(".", "")),
    (r"^(-?[0-9]{1,9}) ([0-9]{1,4})/([0-9]{1,4})(?![0-9/.])", r"\1\\frac{\2}{\3}"),
    (r"(?<![0-9])([0-9]{1,20}\.[0-9]{3})((?: [0-9]{3}){1,20}(?: [0-9]{1,2})?)(?![0-9])", lambda found: found[1] + found[2].replace(" ", "")),
    (r"(?<![0-9])([0-9]{0,20})\.([0-9]{0,40})\\(?:overline|bar|overbar)\s*\{?\s*([0-9]{1,40})\s*\}?", lambda found: _recurring(*found.groups())),
    (r"(?<![0-9])([0-9]{0,20})\.([0-9]{0,40})\\dot\s*\{?([0-9])\}?(?:([0-9]{0,40})\\dot\s*\{?([0-9])\}?)?", lambda found: _recurring(found[1], found[2], found[3] + (found[4] or "") + (found[5] or ""))),
    (r"(?<![0-9])([0-9]{1,20})\.([0-9]{0,20})\(([0-9]{1,20})\)(?![0-9(^])", lambda found: _recurring(*found.groups())),
    (r"(?<![0-9])([0-9]{0,20})\.([0-9]{1,40})\s*(?:\.\.\.|\\ldots)", _dotted),
    (rf"([0-9])(?!{_NTH_POWER})\s*(?:\^\s*\{{\s*(?:\\text\s*\{{\s*{_ORDINAL}\s*\}}|{_ORDINAL})\s*\}}|\^?\s*\\text\s*\{{\s*{_ORDINAL}\s*\}}|{_ORDINAL})(?![A-Za-z0-9])", r"\1"),
    (rf"([0-9}}])\s*(?:\\text\s*\{{\s*(?:degrees?|deg\.?)\s*\}}|degrees?{_END}|deg{_END})(?!\s*(?:[CFK]\b|Celsius|Fahrenheit))", r"\1^\\circ"),
    (rf"({NUMBER})\s*\^\\circ\s*({NUMBER})\s*'(?:\s*({NUMBER})\s*(?:''|\"))?", _degrees),
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

# Words ------------------------------------------------------------------------------------------------------------------------

_UNITS = (
    "mm|cm|dm|km|m|mg|kg|g|ml|mL|L|s|ms|min|h|hr|hrs|Hz|kHz|MHz|N|J|kJ|W|kW|V|A|K|Pa|kPa|atm|mol|eV|ft|in|yd|mi|lb|lbs|oz|mph|amps?|volts?|ohms?|watts?|"
    "met(?:er|re)s?|centimet(?:er|re)s?|millimet(?:er|re)s?|kilomet(?:er|re)s?|inch(?:es)?|feet|foot|yards?|miles?|seconds?|minutes?|hours?|days?|weeks?|months?|"
    "years?|grams?|kilograms?|lit(?:er|re)s?|gallons?|pounds?|ounces?|dollars?|cents?|euros?|units?|square units?|cubic units?|sq\\.? units?|radians?"
)
_STATING = r"(?:is|are|equals?|equal to|was|were|would be|should be|must be|becomes?)"
DENIES = (
    r"(?i:\b(?:not|never|none|neither|nor|cannot|false|wrong|incorrect|untrue|impossible|except|unless|fails?|failed|undefined|contradiction|"
    r"excluded|rejected|invalid|extraneous)\b|n't\b|\b(?:anything|everything|all|any) but\b|\bother than\b|\bdifferent from\b)"
)
"""Words that say that what follows or precedes is not the value."""
CONDITION = r"(?i:if|when|suppose|assume|let|for|at|where|no)\b"
_NO_STATEMENT = rf"(?![^{{}}]*{DENIES}| ?{CONDITION}[^{{}},]*\}}|[^{{}}]*\b(?:or equal to|than|at least|at most|up to) ?:?\}})"
"""What a text that leads to a value does not hold: a denial, a condition without a conclusion, or a comparison."""
QUANTITY = re.compile(rf"(-?{NUMBER}(?:/[0-9]+)?|-?\\frac\{{[0-9]+\}}\{{[0-9]+\}})\s*\.?({_UNITS})")


_COUNT = (
    "(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thir|fif|eigh|twen|for|teen|ty|hundred|thousand|million|and)"
)
_OR = rf",? ?(?:\\text\{{ ?or ?\}}|\\lor{_END}|or) ?"
_COMPLEMENT = r"\\complement ?_? ?\{? ?[A-Z] ?\}? ?"
_SET = rf"\(?(?:{_COMPLEMENT})?[A-Z]\)?"
_INSIDE = r"(?:[^=<>{}(),]|\{[^{}]*\}|\([^()]*\))*"
_OPERATION = (
    r"(?:\\(?:max|min|sup|inf|lim|gcd|det|deg|sum|prod|int)(?![A-Za-z])|\\text\{ ?(?:lcm|gcd|max|min) ?\}|\\operatorname ?\{[a-z]+\}|\\?#"
    r"|n ?(?=\([^()]*\\c[au]p)|P ?(?=\([^()]*\|))"
)
"""What a value is of: an operation, the number of elements of a set, a conditional probability."""
WORDS = rules(
    (rf"^({NUMBER}) ?([\u20ac\u00a3\u00a5\u20b9\u20bd])$", r"\2\1"),
    (rf"^(?:\\text\{{ ?)?(Rs|USD|EUR|INR|GBP|CNY)\.? ?\}}? ?({NUMBER})$", r"\2 \\text{\1}"),
    (r"^\| ?[A-Z]+ ?(?:\\(?:cup|cap|setminus) ?[A-Z]+ ?){1,3}\| ?= ?(?=[^=]+$)", ""),
    (rf"^(?:{_SET} ?\\(?:cup|cap|setminus) ?{_SET}|{_COMPLEMENT}{_SET}|{_COMPLEMENT}\({_SET} ?\\(?:cup|cap) ?{_SET}\)) ?= ?(?=\\\{{|[^=]+$)", ""),
    (r"(?<=[0-9}]) ?\\(?:lor|vee)(?![A-Za-z]) ?(?=[A-Za-z] ?=)", r" \\text{or} "),
    (rf"(?<=[0-9]) ?(?:\((?:\\text\{{)?(?:{_COUNT}[ -]?)+\}}?\)|\\text\{{ ?\((?:{_COUNT}[ -]?)+\) ?\}})$", ""),
    (r"(?<=\S) ?\\text\{ ?[,(]? ?(?:since|because)\b.*$", ""),
    (r"^\\text\{([^{}]*[0-9][^{}]*)\}$", r"\1"),
    (r"(?<![^= -])([0-9]{1,3}(?:,[0-9]{3}){1,9})(?=(?:\.[0-9]+)?(?: ?\\text| [A-Za-z]))", lambda found: found[1].replace(",", "")),
    (r"\s*\\text\{\s*\((?:approx|about|roughly|or about|or approx|rounded|to the nearest|correct to|i\.e)[^{}]*\}[^{}\\]*(?:\\text\{\s*\)\s*\})?$", ""),
    (r"\s*\(\s*(?:\\text\{\s*)?(?:approx|about|roughly|or about|or approx|rounded|to the nearest|correct to|\\approx)[^()]*\)\s*\}?$", ""),
    (rf"^\\text\{{{_NO_STATEMENT}[^{{}}]*(?:\b{_STATING}|[:=])\s*\}}\s*(?=\S)|^\\text\{{ ?(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o|[Ee]xactly|[Aa]ns\.),? ?\}} ?(?=\S)|\s*\\text\{{ ?only ?\}}$", ""),
    (r"^(?:\\text\{ ?)?(?:negative|minus) ?\}? ?(?=[0-9\\])", "-"),
    (r"^([A-Za-z]) ?(?:\\text\{ ?(?:is|equals) ?\}|is|equals) ?(?=[-0-9\\])", r"\1 = "),
    (r"^((?:\\text\{ ?)?all real (?:numbers?|x)(?: x)?|\\mathbb\{R\}) ?(?:except|other than|but|excluding)(?: for)? ?\}? ?(?:x ?= ?)?([^A-Za-z]+)$", r"\\mathbb{R} \\setminus \\{\2\\}"),
    (r"(?<=[0-9}]) ?\((\\text\{ ?[A-Za-z/ ]{1,12}\}(?:\^\{?[0-9]\}?)?)\)$", r" \1"),
    (r"(?i)^(?:\\text\{\s*)?(?:the )?(?:final |correct |exact )?(?:answer|ans|result|solution)s?\s*(?:\}\s*)?[:=]\s*", ""),
    (rf"^\\text\{{{_NO_STATEMENT}\s*[A-Za-z][A-Za-z ]{{2,}}\}}\s*(?:\\triangle ?)?[A-Z]{{0,6}}\s*=\s*(?=[^=]+$)", ""),
    (rf"^(?!.*\\[lgn]eq{_END})(?:{_INSIDE}_ ?\{{? ?(?:\\text\{{ ?)?\\?(?:max|min) ?\}}? ?\}}?|{_OPERATION}{_INSIDE}) ?= ?(?=[^=<>,;]+$)", ""),
    (rf"^({NUMBER})\s*(?:\\text\{{\s*to\s*\}}|to)\s*({NUMBER})$", r"\1:\2"),
    (r"\s*(?:\\text\{\s*)?(?:或者?|和|与|及|以及|または|と)(?:\s*\})?\s*(?=\S)", ", "),
    (rf"^(?=.*\\infty)[\[(][^\[\]()]*[\])](?:{_OR}[\[(][^\[\]()]*[\])])+$", lambda found: re.sub(_OR, r" \\cup ", found[0])),
    (r"(?<=[0-9}])\s*([^\W\d_a-zA-Z][^\W\d_]*)(?=\s*$)", r" \\text{\1}"),
    (r"(?<=[0-9}])\s*\\text\s*(?=\{)", r" \\text"),
    (rf"(?<=[0-9}}])\s*({_UNITS})\.?(\^\{{?[23]\}}?)?$", lambda found: rf" \text{{{found[1]}}}{found[2] or ''}" if len(found[1]) > 1 else found[0]),
)  # fmt: skip
