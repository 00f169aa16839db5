r"""Numbers with a unit: ``7 \text{ hours } 30 \text{ minutes}``, ``\$0.50``, ``3:45 \text{ p.m.}``, ``101_2``, ``12.5\%``.

A unit is never dropped where both sides have one: it is converted (km and m), or must be the same. Where one side has none, the
number alone is compared, as graders of MATH do; but not for words that change the number (million) or its sense (more, north).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

Measure = tuple[Fraction, dict[str, int]]
"""A factor to the base unit, and the powers of dimensions."""

_TABLE = """
length: m metre metres meter meters \u7c73 1; km kilometre kilometres kilometer kilometers \u5343\u7c73 \u516c\u91cc 1000; cm centimetre centimetres centimeter centimeters \u5398\u7c73 1/100;
 mm millimetre millimetres millimeter millimeters 1/1000; nm nanometers nanometres 1/1000000000; \u03bcm micrometers microns 1/1000000;
 in inch inches 127/5000; ft foot feet 381/1250; yd yard yards 1143/1250; mi mile miles 201168/125
time: s sec secs second seconds \u79d2 1; ms millisecond milliseconds 1/1000; min mins minute minutes \u5206\u949f 60; h hr hrs hour hours \u5c0f\u65f6 3600;
 day days \u5929 86400; week weeks 604800
month: month months 1; yr yrs year years 12
mass: g gram grams \u514b 1; kg kilogram kilograms \u5343\u514b \u516c\u65a4 1000; mg milligram milligrams 1/1000; lb lbs pound pounds 45359237/100000; oz ounce ounces 45359237/1600000; ton tons tonne tonnes 1000000
money: dollar dollars usd \\$ 1; cent cents \xa2 1/100
euro: euro euros \u20ac 1
sterling: \xa3 1
yen: \xa5 yen yuan \u5143 1
volume: l L liter liters litre litres 1; ml mL milliliter milliliters millilitre millilitres 1/1000; gallon gallons gal 473176473/125000000
angle: degree degrees deg \u00b0 \u5ea6 1; ' 1/60; '' 1/3600; radian radians rad radian
celsius: \u00b0C celsius centigrade 1
fahrenheit: \u00b0F fahrenheit 1
kelvin: K kelvin kelvins 1
current: A amp amps ampere amperes 1; mA 1/1000
voltage: V volt volts 1; kV 1000; mV 1/1000
resistance: ohm ohms \u03a9 1
power: W watt watts 1; kW 1000; MW 1000000
force: N newton newtons 1; kN 1000
energy: J joule joules 1; kJ 1000; eV electronvolts 801088317/5000000000000000000000000000
frequency: Hz hertz 1; kHz 1000; MHz 1000000
pressure: Pa pascal pascals 1; kPa 1000; atm 101325
amount: mol moles mole 1
charge: C coulomb coulombs 1
number: percent % pct 1/100; hundred 100; thousand 1000; million millions 1000000; billion billions 1000000000; trillion trillions 1000000000000; quadrillion quadrillions 1000000000000000;
 quintillion quintillions 1000000000000000000; dozen 12; lakh lakhs 100000; crore crores 10000000; permille \u2030 1/1000
unit: unit units 1
"""
_COMPOUND: dict[str, Measure] = {"mph": (Fraction(1397, 3125), {"length": 1, "time": -1}), "sqft": (Fraction(381, 1250) ** 2, {"length": 2}),
             "kmh": (Fraction(5, 18), {"length": 1, "time": -1}), "kph": (Fraction(5, 18), {"length": 1, "time": -1}), "rpm": (Fraction(1, 60), {"turn": 1, "time": -1})}  # fmt: skip
_SYMBOLS = "m g s A V W J N Pa Hz eV C mol L"
_PREFIXES = {"p": -12, "n": -9, "\u03bc": -6, "m": -3, "k": 3, "M": 6, "G": 9}
_IN_ANY_CASE = {name.lower(): name for name in "kg km cm kJ kW kV kN kHz kPa keV Hz ft in yd mi lb oz hr yr".split()}
"""Symbols that no other case gives another meaning: ``KG`` is kg, but ``mPa`` and ``MPa`` differ."""
_OF_MONEY = {"k": 1000, "K": 1000, "M": 1000000, "mn": 1000000, "bn": 1000000000, "B": 1000000000}
_ORDINALS = "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fifteenth sixteenth twentieth".split()
_FRACTIONS = [*_ORDINALS, "quarter", *(f"{size}th" for size in "hundred thousand million billion trillion".split())]
CHANGES_VALUE = frozenset(
    "half halves double twice hundred thousand million billion trillion quadrillion quintillion dozen lakh crore gross score squared cubed "
    "factorial inverse reciprocal repeating recurring divided multiplied raised permille".split()
) | {word for name in _FRACTIONS for word in (name, name + "s")}
"""Words behind a number that make another number of it."""
_CHANGES_SENSE = CHANGES_VALUE | frozenset(
    "more less least most than fewer greater smaller above below under over up down north south east west northeast northwest southeast "
    "southwest left right increase decrease increased decreased gain loss profit not no or except without negative "
    "minus plus positive per clockwise counterclockwise anticlockwise before after ago earlier later pair pairs but never neither nor "
    "cannot counting unless excluding".split()
)
_AS_WORD = frozenset("zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty".split())
"""Numbers that change one before them (``5 point two``), but not in a longer word (``5 two-digit numbers``)."""
_FIRST = frozenset("to k".split())
_LAST = frozenset(
    "wrong incorrect false impossible invalid excluded rejected extraneous undefined fail fails failed nope anything unknown".split()
)
"""What denies a number as the last word behind it, while ``5 wrong answers`` are 5."""
_NTH_ROOT = re.compile(r"\b(?:st|nd|rd|th) (?:root|power)\b")
_NO_UNIT = frozenset("sin cos tan cot sec csc log ln exp sqrt mod and or if for when where is are".split())
_IGNORED = frozenset("approximately approx about exactly only total altogether of a an the in each and".split())


def _unit_table() -> dict[str, Measure]:
    table = dict(_COMPOUND)
    for line in _TABLE.replace("\n ", " ").strip().splitlines():
        dimension, _, entries = line.partition(": ")
        for entry in entries.split(";"):
            *names, factor = entry.split()
            if factor == "radian":
                names, dimension, factor = [*names, factor], "radian", "1"
            table.update({name.replace("\\\\", "\\"): (Fraction(factor), {dimension: 1}) for name in names})
    return table


_UNITS = _unit_table()
_PREFIXED = {
    prefix + symbol: (_UNITS[symbol][0] * Fraction(10) ** power, _UNITS[symbol][1])
    for prefix, power in _PREFIXES.items()
    for symbol in _SYMBOLS.split()
}
"""Only where the case is that of the symbol, and only where a unit is certain: ``pm`` can be a time of day."""
_SHORT = "|".join(
    sorted((re.escape(name) for name in _UNITS if 2 <= len(name) <= 4 and name.isascii() and name.isalpha()), key=len, reverse=True)
)
_TEXT = r"\\(?:text|textrm|textbf|textit|mbox|hbox|mathrm|mathbf|mathit|operatorname|rm)\b\s*"
_PRODUCT, _COMMAND = re.compile(r"\\(?:cdot|times)(?![A-Za-z])"), re.compile(r"\\[A-Za-z]")
_POWER = r"\^\s*\{?\s*-?[0-9]\s*\}?"
_BETWEEN = rf"\\cdot|\\times|{_POWER}|\}}|[/*.\s()\-,]"
_INNER = r"(?:[^{}0-9]|\^-?[0-9])*"
_IN_TEXT = rf"{_TEXT}\{{(?P<first>{_INNER})\}}(?:{_TEXT}\{{{_INNER}\}}|{_BETWEEN}|[A-Za-z](?![A-Za-z]))*"
_BARE = rf"(?:(?<=[0-9}}])(?:{_SHORT})|(?<=\s)(?:{_SHORT}|sq|cu|[^\W\d_]{{3,}}|[mgshlLJNWVAKC](?=\s*/)))(?![^\W\d_])(?:\s*(?:{_POWER}|[/.]|\\cdot|[^\W\d_]+))*|(?<=[0-9}}])[^\W\d_a-zA-Z]+"
_SIGNED = r"(?:\\Omega(?![A-Za-z])|\\mu\s*\\text\s*\{\s*[A-Za-z]{1,3}\s*\}|\\?[%\u2030](?:\s*\\text\s*\{[^{}0-9]*\})?|\\?\u00b0\s*[CF]?|\^\s*\{?\s*\\circ\s*\}?\s*(?:\\text\{\s*)?[CF]?\s*\}?(?:elsius|ahrenheit)?)"
_QUANTITY = re.compile(rf"(?P<number>.*?[0-9A-Za-z)}}!\]])\s*(?P<unit>{_IN_TEXT}|{_BARE}|{_SIGNED})", re.DOTALL)
_UNITS_IN_TEXT = rf"(?:{_TEXT}\{{[^{{}}]*\}}(?:\^\{{?[0-9]\}}?)?\s*){{1,3}}"
_FRACTION_OF_UNITS = re.compile(rf"\\frac\s*\{{\s*({_UNITS_IN_TEXT})\}}\s*\{{\s*({_UNITS_IN_TEXT})\}}")
_POWER_IN_TEXT = re.compile(r"(\\(?:text|mathrm)\s*\{[^{}]*)\^\{(-?[0-9])\}")
_ARC = re.compile("(-?[0-9]+(?:\\.[0-9]+)?)('{1,2})")
_CURRENCY = re.compile(
    "(-?)\\s*(\\\\\\$|US\\$|\u20ac|\xa3|\xa5)\\s*(-?[0-9][0-9,.]*(?:\\s*\\\\times\\s*10\\^\\{?-?[0-9]+\\}?)?)(.*)", re.DOTALL
)
_PIECE = re.compile(
    rf"(?P<number>[0-9]+(?:\.[0-9]+)?(?:/[0-9]+|\s*\\frac\{{[0-9]+\}}\{{[0-9]+\}})?)\s*(?P<unit>(?:{_TEXT}\{{\s*)?[A-Za-z]+\s*\}}?)(?:\s*(?:,|\band\b|{_TEXT}\{{\s*,?\s*and\s*\}})?\s*)"
)
_CLOCK = re.compile(r"([0-9]{1,2})(?:\s*:\s*([0-9]{2}))?\s*(?:\\text\{\s*)?(?:([ap])\s*\.?\s*m\b\s*\.?)?\s*\}?", re.IGNORECASE)
_BASED = re.compile(
    rf"\(?([0-9][0-9A-Z]*)\)?\s*(?:_\s*\{{?\s*\(?(?:{_TEXT}\{{\s*)?([0-9]{{1,2}}|[a-z]+)\s*\}}?\)?\s*\}}?|(?:{_TEXT}\{{)?\s*\(?\s*(?:in )?base\s*\}}?[ -]?([0-9]{{1,2}}|[a-z]+)\s*\)?\s*\}}?)"
)
_UNIT_WORD = re.compile(
    r"\u00b0[\s{]*(?:[CF](?:elsius|ahrenheit)?)?|'+|[^\W\d_]+(?:-[^\W\d_]+)*|[%\u2030]|/|\^\s*\{?\s*(?P<power>-?[0-9])|[0-9]"
)
_POWER_BEHIND = {"squared": 2, "cubed": 3}
_POWER_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3} | _POWER_BEHIND
_SPELLED_OUT = {"sq": "square", "cu": "cubic"}
_SIZE_OF_MONEY = re.compile(r"\s*\{?\s*(k|K|M|mn|bn|B)(?![A-Za-z])")
_MANY = frozenset(name for name, (factor, dimension) in _UNITS.items() if "number" in dimension and factor != Fraction(1, 100))
_BASES = dict(zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True)) | {"sixteen": 16}


@dataclass(frozen=True)
class Unit:
    """What stands behind a number.

    Attributes:
        factor: of the number, to the base unit of its dimension.
        dimension: (name, power) pairs, sorted; empty for a pure number.
        label: words that are no known unit, in lower case but for the first letter of a symbol (``MBq``).
        multiplied: whether a word for a number (million) is part of the factor.
    """

    factor: Fraction
    dimension: tuple[tuple[str, int], ...]
    label: str
    multiplied: bool = False

    @property
    def changes_sense(self) -> bool:
        """Whether the number alone would say something else."""
        if self.multiplied or not self.dimension and self.factor not in (1, Fraction(1, 100)):
            return True
        words = self.label.split()
        if not words:
            return False
        whole = not _AS_WORD.isdisjoint(words) or words[0] in _FIRST or words[-1] in _LAST
        return whole or bool(_NTH_ROOT.search(self.label)) or not _CHANGES_SENSE.isdisjoint(re.split(r"[\s-]+", self.label))

    def agrees(self, other: Unit) -> bool:
        """Whether both measure the same, so that factors convert one to the other."""
        return self.dimension == other.dimension and (
            self.label == other.label or not self.changes_sense and not other.changes_sense and "" in (self.label, other.label)
        )


def split_quantity(text: str) -> tuple[str, Unit] | None:
    """The number's text and the unit of a text that is nothing else; None where there is no unit, or something behind it."""
    if money := _CURRENCY.fullmatch(text):
        unit = parse_unit(money[4], first=_UNITS[money[2].removeprefix("US")])
        return (money[1] + money[3], unit) if unit else None
    if arc := _ARC.fullmatch(text):
        unit = parse_unit(arc[2])
        return (arc[1], unit) if unit else None
    if text[:1].isdigit() and (whole := _compound(text)):
        return whole
    text = _FRACTION_OF_UNITS.sub(r"\1/\2", text)
    while (plain := _POWER_IN_TEXT.sub(r"\1^\2", text)) != text:
        text = plain
    found = _QUANTITY.fullmatch(text)
    if not found or not _is_amount(found["number"], found["unit"]):
        return None
    if found["first"] is not None and re.fullmatch(r"\s*(?:and|or|,|;|if|for|when|where|to|mod)?\s*", found["first"]):
        return None
    unit = parse_unit(found["unit"])
    return (found["number"].strip(), unit) if unit else None


def _is_amount(number: str, unit: str) -> bool:
    said = re.search(r"[0-9]|\\pi", number) or unit.endswith("%")
    return bool(said) and not re.search(rf"{_TEXT}\{{|[=<>,;]|\\[lg]eq?\b|\\pm|[_^]$", number)


def parse_unit(text: str, first: Measure | None = None) -> Unit | None:
    """The unit that a text behind a number names (after ``first``, one before the number); None for one that is none."""
    text = re.sub(r"\\mu\s*(?:\\text\s*\{)?\s*", "\u03bc", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\?\u00b0|degrees?\s+(?=[CF])", "\u00b0", re.sub(_TEXT, " ", text))
    text = re.sub(
        r"\bcent(?:i)?metr", "centimetr", text.replace("\\%", "%").replace("per cent", "percent").replace("per mille", "permille")
    )
    text = _PRODUCT.sub(" ", text.replace("\\Omega", "\u03a9"))
    if _COMMAND.search(text):
        return None
    factor, dimension = (first[0], dict(first[1])) if first else (Fraction(1), {})
    size, last = factor, next(iter(dimension), "")  # of the unit that a power behind it belongs to
    if money := _SIZE_OF_MONEY.match(text) if first else None:
        factor, text = factor * _OF_MONEY[money[1]], text[money.end() :]
    words: list[str] = []
    sign, before, waiting = 1, 1, ""
    multiplied = bool(money)
    for token in _UNIT_WORD.finditer(text):
        word = re.sub(r"[\s{]", "", token[0])[:2] if token[0][0] == "\u00b0" else token[0]
        lower = word.lower()
        known = _known(word)
        behind = int(token["power"]) if token["power"] else _POWER_BEHIND.get(lower, 0) if dimension else 0
        if token["power"] or behind:
            if dimension and before == 1:
                dimension[last] += sign * (behind - 1)
                factor *= size ** (sign * (behind - 1))
        elif word in ("/", "per"):
            sign = -1
        elif lower in _POWER_BEFORE:
            before, waiting = _POWER_BEFORE[lower], _SPELLED_OUT.get(lower, lower)
        elif known and not (words and len(word) == 1):
            size, last = known[0], next(iter(known[1]))
            for name, power in known[1].items():
                dimension[name] = dimension.get(name, 0) + power * sign * before
            factor *= size ** (sign * before)
            before = 1
            multiplied = multiplied or lower in _MANY
        elif word.isdigit():
            return None
        elif lower not in _IGNORED:
            product = len(word) == sign == 1 and words and (words[-1] == "time" or word not in _UNITS)  # 5 times x, but not 5 lm/W
            words += ["multiplied", word] if product else [_label(word)]
    if not _NO_UNIT.isdisjoint(words):
        return None
    if before != 1:
        words.append(waiting)
    dimension.pop("number", None)
    if dimension.get("unit") == 1:
        del dimension["unit"]
    return Unit(factor, tuple(sorted((name, power) for name, power in dimension.items() if power)), " ".join(words), multiplied)


def _known(word: str) -> Measure | None:
    """What a unit measures; words and symbols in any case, but for a symbol that is another one in another case."""
    lower = word.lower()
    return _UNITS.get(word) or _PREFIXED.get(word) or _UNITS.get(_IN_ANY_CASE.get(lower, lower if len(word) > 2 else word))


def _label(word: str) -> str:
    """A word that is no known unit, without case and plural; of what may be a symbol with a prefix the case of that stays."""
    lower = word.lower()
    if word[0] in "mMpP" and (len(word) == 2 or len(word) == 3 and word[1].isupper()):
        return word[0] + lower[1:]
    return lower.removesuffix("s") if len(lower) > 3 and lower not in _CHANGES_SENSE else lower


def _compound(text: str) -> tuple[str, Unit] | None:
    """``7 hours 30 minutes`` as a sum in the first unit."""
    pieces: list[tuple[str, Unit]] = []
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        unit = parse_unit(piece["unit"]) if piece else None
        if not piece or not unit or unit.label or not unit.dimension:
            return None
        pieces.append((re.sub(r"\s*\\frac\{([0-9]+)\}\{([0-9]+)\}", r" \1/\2", piece["number"]), unit))
        place = piece.end()
    if len(pieces) < 2 or len({unit.dimension for _, unit in pieces}) > 1:
        return None
    first = pieces[0][1]
    total = Fraction(sum(sum(map(Fraction, number.split())) * unit.factor for number, unit in pieces)) / first.factor
    return rf"\frac{{{total.numerator}}}{{{total.denominator}}}", first


def clock_time(text: str) -> tuple[int, str] | None:
    """Minutes since midnight (or noon) and ``a``, ``p`` or nothing, of a time of day; None for anything else."""
    found = _CLOCK.fullmatch(text)
    if not found or not (found[2] or found[3]):
        return None
    hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").lower()
    if minute > 59 or hour > (12 if half else 23):
        return None
    return (hour % 12 if half else hour) * 60 + minute, half


def same_time(one: tuple[int, str], other: tuple[int, str]) -> bool:
    """Whether two times of day are one; a time without a.m. or p.m. may be either, or one of 24 hours."""
    if one[1] and other[1]:
        return one == other
    mine, its = ({minutes + 720 * (half == "p"), minutes or 720, minutes} if half else {minutes} for minutes, half in (one, other))
    return not mine.isdisjoint(its)


def based_number(text: str) -> tuple[str, int] | None:
    """The digits and the base of a number that names one, as ``101_2``; None for anything else."""
    found = _BASED.fullmatch(text)
    if not found:
        return None
    name = found[2] or found[3]
    base = int(name) if name.isdigit() else _BASES.get(name, 0)
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in found[1]):
        return None
    return found[1].lstrip("0") or "0", base
