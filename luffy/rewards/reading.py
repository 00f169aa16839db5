r"""An answer read as a whole: as mathematics, as words, or not at all.

Nothing is taken out of what cannot be read: ``n \equiv 3 \pmod{7}`` without its grammar is neither 3 nor 7. Imported by worker
processes only; nothing here limits time or memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from latex2sympy2_extended.logic import And
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from latex2sympy2_extended.sets import FiniteSet
from sympy import Basic, Derivative, Eq, Expr, Float, Function, I, MatrixBase, Mod, Rational, S, Symbol, Tuple, factorial2
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.sets import Intersection, Interval, Range, Set, Union

from luffy.rewards.equality import FAMILY, solutions
from luffy.rewards.families import FAMILY as FAMILY_TEXT
from luffy.rewards.mends import Precisions, precisions, scaled_number
from luffy.rewards.quantity import Unit, based_number, clock_time, split_quantity
from luffy.rewards.rules import DENIES, applied, rules
from luffy.rewards.values import same_value

_NORMALISATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        text: the answer without what only concerns its looks, for comparison as text.
        value: the mathematical object, or None.
        words: the words of an answer in words, in lower case unless they are names of points; or None.
        unit: of a quantity.
        clock: minutes and half of the day, of a time of day.
        based: digits and base, of a number that names its base.
        precisions: of its decimals.
    """

    text: str
    value: Basic | MatrixBase | None = None
    words: str | None = None
    unit: Unit | None = None
    clock: tuple[int, str] | None = None
    based: tuple[str, int] | None = None
    precisions: Precisions = field(default_factory=dict, compare=False)

    @property
    def understood(self) -> bool:
        """Whether it was read as a whole, as mathematics or as words."""
        return self.value is not None or self.words is not None


_RELATION = re.compile(r"[=<>,;]|\\[lgn]eq?(?![a-z])|\\begin")


@lru_cache(maxsize=2048)
def read(text: str) -> Reading:
    """What an answer in the notation of ``normalised`` says; without value and words where the text as a whole is neither."""
    with precisions() as found:
        return replace(_read(text), precisions=found)


def _read(text: str) -> Reading:
    text = _UNIT_AS_FUNCTION.sub(r"\\text{\1}", text)
    bare = bare_text(text)
    if based := based_number(text):
        return Reading(bare, S(int(*based)), based=based)
    clock = clock_time(text)
    of_day = clock if clock and clock[1] else None
    before, _, amount = text.rpartition("=")
    name = "" if _RELATION.search(before) else before.strip()
    quantity = None if of_day else split_quantity(amount.strip() if name else text)
    if quantity:
        value = _mathematics(f"{name} = {quantity[0]}" if name else quantity[0])
        if name and "%" in amount and isinstance(value, Symbol):
            return Reading(bare, _last_side(name, re.sub(r"\s*\\?%", " / 100", amount)))
        if value is not None:
            return Reading(bare, value, unit=quantity[1], clock=clock)
    words = in_words(text)
    if words is not None:
        return Reading(bare, words=words)
    if of_day:
        return Reading(bare, S(of_day[0]), clock=of_day)
    value = _mathematics(text)
    if name and isinstance(value, Symbol) and not value.is_real:
        value = _last_side(name, amount) or value
    return Reading(bare, value, clock=clock)


def _last_side(left: str, right: str) -> Basic | None:
    """The right side of ``\\frac{1}{5} = 20 / 100``, where both are the same number, but not written alike."""
    one, other = _parsed(left), _parsed(right)
    if one is None or other is None or one.free_symbols or bare_text(left) == bare_text(right):
        return None
    return other if same_value(one, other) else None


# Text -------------------------------------------------------------------------------------------------------------------------

_WRAPPER = re.compile(
    r"\\(?:text|textrm|textbf|textit|textsf|texttt|textnormal|mbox|hbox|mathrm|mathbf|mathit|mathsf|rm|bf|displaystyle|left|right|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z])"
)
_UNIT_AS_FUNCTION = re.compile(r"(?<=[0-9}])\s*\\(min|sec)$")
_SPACE = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|~|\s+")
_DOTS = re.compile(r"\\(?:ldots|cdots|dots[cbmio]?|vdots|ddots)(?![A-Za-z])|\.\.\.+|\u2026")


def bare_text(text: str) -> str:
    """A text without what only concerns its looks: wrappers, spaces, dollar signs, braces that group one character."""
    text = _DOTS.sub("\u2026", _WRAPPER.sub("", _TEXT.sub(r"\1", text.replace("$", ""))))
    text = re.sub(r"(\\[A-Za-z]+)\s+(?=[A-Za-z])", r"\1{}", text)
    text = re.sub(r"(?<=[0-9])\s+(?=[0-9])", "_", text)
    return re.sub(r"(?<!\\)\{([0-9A-Za-z])\}", r"\1", _SPACE.sub("", text)).replace("{}", " ").rstrip(".,;")


_LETTERS = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_ONLY_WORDS = re.compile(r"(?:[^\W\d_]|[\s.,;:'\"\u2019&!?()\u3001-])+")
_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|textsf|mbox|hbox|mathrm|mathbf|mathit|mathsf|operatorname)\s*\{([^{}]*)\}")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt max min gcd lcm det mod frac pi".split()
)
_POINTS = re.compile(
    r"\\(?:angle|measuredangle|triangle|square|overline|overrightarrow|vec|odot|widehat|overarc)\s*\{?\s*[A-Z](?:['_0-9\s]*[A-Z])+['_0-9]*\s*\}?"
)
_MANY_WORDS = 3
_WORD_LETTERS = 4


def in_words(text: str) -> str | None:
    """The words of an answer in words, in one spelling; None for mathematics.

    Letters that stand together are a word where they are set as text, where there are four or more with a vowel among them, or
    where they are names of points (two capitals or more); else they are a product.
    """
    if _POINTS.fullmatch(text):
        return bare_text(text)
    inner = _TEXT.sub(r" \1 ", text).replace("$", "").strip()
    if not _ONLY_WORDS.fullmatch(inner) or inner.startswith("-"):
        return None
    found = _LETTERS.findall(inner)
    if not found or not _FUNCTIONS.isdisjoint(found):
        return None
    set_as_text = _TEXT.sub("", text).strip(" .,;:") == "" and len(max(found, key=len)) > 1
    if len(found) == 1 and len(found[0]) > 1 and found[0].isupper():
        return found[0] if found[0] not in ("YES", "NO", "TRUE", "FALSE") else found[0].lower()
    if not (set_as_text or any(map(_is_word, found))):
        return None
    return " ".join(word.lower() for word in found if word.lower() not in ("the", "a", "an") or len(found) == 1)


def _is_word(letters: str) -> bool:
    if sum(map(str.isupper, letters)) > 1 or not letters.isascii():
        return len(letters) > 1 or not letters.isascii()
    lower = letters.lower()
    return lower in ("yes", "no", "odd") or (
        len(lower) >= _WORD_LETTERS and not set(lower).isdisjoint("aeiouy") and list(lower) != sorted(set(lower))
    )


# Mathematics ------------------------------------------------------------------------------------------------------------------

_MODULUS = re.compile(
    r"\\pmod\s*\{?\s*([0-9]+)\s*\}?|\(?\s*\\?b?mod\s*\{?\s*([0-9]+)\s*\}?\s*\)?|\(?\s*\\text\s*\{\s*\(?\s*mod(?:ulo)?\s*\}?\s*([0-9]+)\s*\)?\s*\}?\)?"
)
CONGRUENT, UNNAMED = Function("congruent"), Symbol("unnamed")
_BUILDER = re.compile(
    r"\\?\{\s*([a-zA-Z])\s*(?:\\in\s*(\\mathbb\{?[RZNQ]\}?|\\[RZNQ](?![A-Za-z])))?\s*(?:\\mid|\||\\vert|:|\\colon)\s*(.+?)\\?\}", re.DOTALL
)
_OR = re.compile(r"\\text\s*\{\s*,?\s*or\s*\}|\\(?:lor|vee)(?![A-Za-z])|(?<![A-Za-z])or(?![A-Za-z])")
_AND = re.compile(r"\\text\s*\{\s*,?\s*(?:and|,)\s*\}|\\(?:land|wedge)(?![A-Za-z])|\\?&|(?<![A-Za-z])and(?![A-Za-z])|,")
_INEQUALITY = re.compile(r"[<>]|\\(?:leq?|geq?|neq?)(?![a-z])")
_LISTED = 1000
_DOMAINS = {"R": S.Reals, "Z": S.Integers, "N": S.Naturals, "Q": S.Rationals}
_UNREADABLE = re.compile(
    r"\\text\s*\{(?!\s*,?\s*(?:and|or)\s*\})[^{}]*[A-Za-z]{2}[^{}]*\}\s*-?[0-9]|"
    r"\\text\s*\{(?!\s*,?\s*(?:and|or|let|so|then|thus|hence)\s*\})[^{}]*[A-Za-z]{2}[^{}]*\}\s*-?[A-Za-z]|"
    rf"\\text\s*\{{[^{{}}]*{DENIES}|"
    r"\\text\s*\{\s*,?\s*(?i:not|if|iff|when|where|for|with|unless|otherwise|provided|such that)\b|\\(?:pmod|forall|exists|Rightarrow|iff|implies|to|mapsto|gets|rightarrow)(?![A-Za-z])|[0-9]_\{?[0-9]|\?"
)
_APART = re.compile(r"(?<![A-Za-z}_^\\])[0-9.]*[0-9]\s+[0-9]")
_WORD, _NAMED = re.compile(r"(?<![\\A-Za-z])[a-z]{3,}"), re.compile(r"\\(?:begin|end|operatorname|mathbb)\s*\{[^{}]*\}")
_POWER = re.compile(
    r"(?<![A-Za-z\\_])([a-df-zA-DF-Z]|\\(?:pi|theta|omega|alpha|beta|lambda|mu|sigma|rho|phi))\^(\{[0-9]+\}|[0-9])(?![0-9]*\s*(?:\\left\s*)?\()"
)
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])")
_COMMON = ("\\text{gcd}", "\\text{lcm}")


def _common(found: re.Match[str]) -> str:
    """``\\gcd`` and ``\\lcm`` as functions that nobody computes where a letter is among their arguments: of letters the library takes 1."""
    depth, text = 0, found.string[found.end() :]
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and sign == ")":
            return rf"\text{{{next(filter(None, found.groups()))}}}" if _LETTER.search(text[:place]) else found[0]
    return found[0]


_FOR_THE_LIBRARY = rules(
    (r"(?:\\operatorname\s*\{(gcd|lcm)\}|\\mathrm\s*\{(gcd|lcm)\}|\\?(?<![A-Za-z{])(gcd|lcm))(?=\s*(?:\\left\s*)?\()", _common),
    # T as a power is a number's name, but after a matrix: the library leaves every ^T out of numbers, as if they were matrices
    (r"(?<!matrix\})\s*\^\s*(?:T|\{\s*(?:T|\\top|\\intercal)\s*\}|\\(?:top|intercal)(?![A-Za-z]))", r"^{1 T}"),
    (r"^(?:\\approx|\\simeq|=|\\therefore)\s*", ""),
    (r"(?<![A-Za-z\\])(?:np|numpy|math)\.(?=\\?[a-z])", ""),
    (r"(?<![A-Za-z\\])(arc(?:sin|cos|tan)|sinh|cosh|tanh|sin|cos|tan|log|ln|exp)(?=\s*[({\\])", r"\\\1"),
    (r"([A-Za-z}])('+|\u2032+)", lambda found: found[1] + r"^{\prime" + r"\prime" * (len(found[2]) - 1) + "}"),
    (r"(?<![\\A-Za-z{_])(?!(?:sqrt|infinity)(?![A-Za-z]))[A-Za-z]{4,}(?![A-Za-z}])", r"\\text{\g<0>}"),
    # products of numbers and of what stands in parentheses, with their sign, since the library reads 2(3) as 2 + 3
    (r"(?<![A-Za-z_^}])([0-9])\s*(\\left)?\((?=[^(),;]*\))", r"\1 \\cdot \2("),
    (r"(?<![\w/.}])([0-9]+)/([0-9]+)\s+(?=[A-Za-z\\])", r"\\frac{\1}{\2} "),
    (r"(?<==)\s*-?[0-9]{1,3}(?:,[0-9]{3})+$", lambda found: found[0].replace(",", "")),
    (r"^[^,;]*$", lambda found: re.sub(r"\)\s*(?=\(|[0-9])", r") \\cdot ", found[0])),
    (r"([0-9])\s*([0-9.]*\\(?:pi|sqrt)(?![A-Za-z]))", r"\1\2"),
    (r"([0-9]+|(?<![A-Za-z])[A-Za-z])\s*!!(?!!)", r"f_{twofold}(\1)"),
    (r"(?<![A-Za-z\\])([eE])(?=\s*_)", r"\\text{\1}"),
    (r"(?<=[0-9])\.(?=\s*[/*)])", ""),
    (r"_\s*\{\s*\\([A-Za-z]+)\s*\}", r"_{\1}"),
    (r"\\([gG]am)ma(?![A-Za-z({])", r"\\text{\1}"),
    # the same to the library, but many times faster: its grammar takes x^2 for a function without argument first
    (r"(?s)^(?!.*\\text).*", lambda found: _POWER.sub(r"{\1}^\2", found[0])),
)


def _mathematics(text: str) -> Basic | MatrixBase | None:
    """What a text says in mathematics; None where it cannot be read as a whole."""
    if _DOTS.search(text) or not re.search(r"[\w\\]", text):
        return None
    if (r"\equiv" in text and _MODULUS.search(text)) or r"\pmod" in text:
        return _congruence(text)
    builder, family = _BUILDER.fullmatch(text), FAMILY_TEXT.fullmatch(text)
    if builder:
        return _built_set(*builder.groups())
    if family and (value := _parsed(family[1])) is not None:
        return FAMILY(value, Symbol(family[2]))
    several = _INEQUALITY.search(text) and (_OR.search(text) or _AND.search(text.replace(",", "")))
    if several and (condition := _condition(text)) is not None:
        return condition
    if _UNREADABLE.search(text) or len(_WORD.findall(_NAMED.sub("", text))) >= _MANY_WORDS:
        return None
    ratio = _ratio(text)
    return _parsed(text) if ratio is None else ratio


def _parsed(text: str) -> Basic | MatrixBase | None:
    text = normalize_latex(applied(_FOR_THE_LIBRARY, text.strip()), _NORMALISATION)
    if "!!" in text or _APART.search(text):
        return None
    try:
        return as_meant(latex2sympy(text, is_real=True, normalization_config=None, conversion_config=_CONVERSION))
    except Exception:  # noqa: BLE001  the library raises plain Exceptions on what it cannot read
        last = re.split(r"(?<![\\<>!])=", text)[-1]
        return _parsed(last) if text.count("=") > 1 and "," not in text and ";" not in text else None


def as_meant(value: object) -> Basic | MatrixBase | None:
    """What the library read, with i imaginary, and I, derivatives and false equations as names; None for what is no object."""
    if isinstance(value, MatrixBase):
        return value.applyfunc(as_meant)
    if not isinstance(value, Basic):
        return None
    if isinstance(value, FiniteSet):
        return FiniteSet(*map(as_meant, value._unsorted_args))
    known = {I: Symbol("I", real=True), Symbol("i", real=True): I, Symbol("i"): I, Symbol("imath", real=True): I}
    known |= {number: Rational(str(number)) for number in value.atoms(Float)}
    known |= {each: Symbol(str(each), real=True) for each in value.atoms(Derivative)}
    known |= {each: factorial2(*each.args) for each in value.atoms(AppliedUndef) if each.func.__name__ == "f_{twofold}"}
    known |= {each: Symbol(str(each), real=True) for each in value.atoms(AppliedUndef) if not each.free_symbols and each not in known}
    known |= {each: each.func(*sorted(each.args, key=str)) for each in value.atoms(AppliedUndef) if each.func.__name__ in _COMMON}
    known = {old: new for old, new in known.items() if value.has(old)}
    if known:
        value = And(*(_renamed(part, known) for part in value._unsorted_args)) if isinstance(value, And) else _renamed(value, known)
    return _closed(value)


def _renamed(value: Basic, names: dict[Basic, Basic]) -> Basic:
    if isinstance(value, Relational):  # evaluated, x = i would be false for a real x
        return value.func(*(side.xreplace(names) for side in value.args), evaluate=False)
    return value.xreplace(names)


def _closed(value: Basic) -> Basic:
    """An equation of numbers as its last side if it is true, else as a name that equals itself alone; an identity likewise."""
    relations = list(value._unsorted_args) if isinstance(value, And) else [value]
    if not all(isinstance(each, Eq) for each in relations):
        return value
    for each in relations:
        if isinstance(each.lhs, (Set, Tuple)) or isinstance(each.rhs, (Set, Tuple)):
            return value
        if each.lhs == each.rhs or not each.free_symbols and not each.has(AppliedUndef) and not same_value(each.lhs, each.rhs):
            return Symbol(f"equation {value}")
        if each.free_symbols and not isinstance(each.lhs, Symbol) and same_value(each.lhs, each.rhs):
            return Symbol(f"identity {value}")
    if isinstance(value, Eq) and isinstance(value.rhs, Symbol) and not value.lhs.free_symbols:
        return Eq(value.rhs, value.lhs, evaluate=False)
    return value if value.free_symbols else relations[-1].rhs


def _congruence(text: str) -> Basic | None:
    """``n \\equiv 1, 3 \\pmod{7}``, also with modulus and letter at each rest, as a name of letter, rests and modulus."""
    moduli = {int(next(filter(None, found.groups()))) for found in _MODULUS.finditer(text)}
    left, lefts, rests = UNNAMED, set(), set()
    for part in re.split(r",|;|\\text\{\s*(?:,?\s*(?:or|and))\s*\}|(?<![a-z])(?:or|and)(?![a-z])", _MODULUS.sub("", text)):
        before, found, rest = part.rpartition(r"\equiv")
        left = _parsed(before) if found else left
        value = _parsed(rest.strip())
        if left is None or not isinstance(value, Expr) or len(moduli) != 1 or not max(moduli):
            return None
        lefts.add(left)
        rests.add(Mod(value, max(moduli)))
    return CONGRUENT(lefts.pop(), Tuple(*sorted(rests, key=str)), max(moduli)) if len(lefts) == 1 else None


def _condition(text: str) -> Eq | Symbol | None:
    """What ``x < 1 \\text{ or } 2 < x \\leq 3`` says of its letter: that it is in a set; None for what is no such condition.

    One that never holds is a name that equals itself alone, for the reason of :func:`_closed`.
    """
    letters, alternatives = set(), []
    for alternative in _OR.split(text):
        parts = _AND.split(alternative)
        read = [solutions(value) for part in parts if (value := _parsed(part.strip(" ,"))) is not None]
        found = [each for each in read if each and each[0] is not None]
        letters |= {letter for letter, _ in found}
        if len(found) != len(parts) or len(letters) != 1:
            return None
        alternatives.append(Intersection(*(values for _, values in found)))
    held = Union(*alternatives)
    return Symbol(f"never {text}") if held.is_empty else Eq(letters.pop(), held, evaluate=False)


def _built_set(letter: str, domain: str | None, condition: str) -> Set | None:
    """The set of all letters that a condition on that letter alone is true of."""
    found = _condition(condition)
    if not isinstance(found, Eq) or found.lhs != Symbol(letter, real=True):
        return None
    kind = next(sign for sign in domain or "R" if sign in _DOMAINS)
    result = found.rhs if kind == "R" else _DOMAINS[kind].intersect(found.rhs)
    return FiniteSet(*result) if isinstance(result, Range) and result.size.is_finite and result.size < _LISTED else result


def _ratio(text: str) -> Tuple | None:
    """Three numbers or more with colons between them, as multiples of the first that is not zero."""
    parts = re.split(r"\s*:\s*", text)
    if len(parts) < 3 or re.search(r"[,;=\[\]<>|]", text):
        return None
    values = [_parsed(part) for part in parts]
    if any(value is None or isinstance(value, (Set, Tuple, Interval)) for value in values):
        return None
    first = next((value for value in values if value != 0), None)
    return None if first is None else Tuple(Symbol("ratio"), *(value / first for value in values))


def scaled(value: Basic, factor: Rational) -> Basic:
    """A value, or what an equation gives as a value, times a number."""
    if isinstance(value, Eq):
        return Eq(value.lhs, scaled(value.rhs, factor), evaluate=False)
    if isinstance(value, FiniteSet):
        return FiniteSet(*(scaled(part, factor) for part in value._unsorted_args))
    return scaled_number(value, factor) if isinstance(value, Expr) else value
