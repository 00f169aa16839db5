"""When two numbers, or two expressions in letters, have one value.

Numbers are compared exactly where both are exact, by the precision that a decimal was written with, or else in thousands of digits;
expressions at samples of their letters. Imported by worker processes only.
"""

from __future__ import annotations

from sympy import Basic, ComplexRootOf, Expr, Function, I, MatrixBase, MatrixExpr, Max, Min, Mod, NumberSymbol, Pow, Rational, Symbol
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.function import AppliedUndef, expand
from sympy.core.numbers import ImaginaryUnit, nan, oo, zoo
from sympy.functions import Abs, ceiling, exp, factorial2, floor, im, log, re, sign
from sympy.functions.elementary.hyperbolic import HyperbolicFunction, InverseHyperbolicFunction
from sympy.functions.elementary.trigonometric import InverseTrigonometricFunction, TrigonometricFunction
from sympy.simplify import simplify

from luffy.rewards.mends import half_unit

_DIGITS, _CLOSE = 60, Rational(1, 10**40)
_MORE_DIGITS, _MOST_DIGITS, _LOST_DIGITS = 400, 4000, 100
"""Digits that tell apart what is alike in the first 60: 2^2024 and 2^2024 + √2 differ behind the 609th. Functions that take seconds
for thousands of digits (gamma, roots by number, integrals) get fewer. By so many digits a value may be less precise than asked for."""
_QUICK = (
    TrigonometricFunction, InverseTrigonometricFunction, HyperbolicFunction, InverseHyperbolicFunction, exp, log, Abs, floor, ceiling, Mod,
    Min, Max, re, im, sign,
)  # fmt: skip
Samples = tuple[tuple[Rational, ...], ...]
_SAMPLES: Samples = tuple(
    tuple(map(Rational, sample.split()))
    for sample in (
        "3 5 7 11 13 17 19 23",
        "13/10 17/7 5/13 23/9 3/11 31/8 2/7 7/5",
        "-2 -5/3 9/7 -11/4 3/8 -4 6/5 -3",
        "-1/3 4 -8/5 2 -3 1/6 -7 9",
        "6 2 4 3 8 5 9 7",
        "1/4 2/9 -3/5 -1/7 4/3 -5/6 1/9 -2/3",
    )
)
"""Values of the symbols, in alphabetical order, where two expressions are compared: on both sides of 0 and of 1, whole and not."""
_WHOLE_SAMPLES = (_SAMPLES[0], _SAMPLES[4])
_LOOKED_AT_CLOSELY = 3
"""Samples at which values that agree are compared in thousands of digits."""
_MANY_SAMPLES = tuple(tuple(map(Rational, (first, first + 3, first + 4, first + 11))) for first in range(1, 50))
"""For functions with steps."""


def same_value(one: Basic | MatrixBase, other: Basic | MatrixBase) -> bool:
    """Whether two expressions or matrices have one value for all values of their symbols; without a value (0/0) only if written alike."""
    if one == other:
        return True
    if isinstance(one, (MatrixBase, MatrixExpr)) or isinstance(other, (MatrixBase, MatrixExpr)):
        return _same_matrix(one, other)
    if not isinstance(one, Expr) or not isinstance(other, Expr):
        return False
    if one.has(oo, -oo, zoo, nan) or other.has(oo, -oo, zoo, nan):
        return one.doit() == other.doit() and not one.doit().has(nan, zoo)
    named = one.free_symbols or other.free_symbols or one.has(AppliedUndef) or other.has(AppliedUndef)
    return _same_expression(one, other) if named else _same_number(one, other)


def _same_matrix(one: Basic | MatrixBase, other: Basic | MatrixBase) -> bool:
    one, other = (each.doit() if hasattr(each, "doit") else each for each in (one, other))
    if not isinstance(one, MatrixBase) or not isinstance(other, MatrixBase) or one.shape != other.shape:
        return bool(one == other)
    return all(same_value(mine, its) for mine, its in zip(one.flat(), other.flat(), strict=True))


def _same_number(one: Expr, other: Expr) -> bool:
    one, other = one.doit(), other.doit()
    if one == other:
        return True
    if one.is_Rational and other.is_Rational:
        return _rounds_to(one, other) or _rounds_to(other, one)
    values = one.evalf(_DIGITS), other.evalf(_DIGITS)
    if not all(value.is_number and value.is_finite for value in values):
        return False
    if any(each.is_Rational and value.is_real and _rounds_to(each, value) for each, value in ((one, values[1]), (other, values[0]))):
        return True
    if not _close(*values, _CLOSE) and all(abs(value) > _CLOSE for value in values):
        return False
    digits = _many_digits(one, other)
    return _close(one.evalf(digits), other.evalf(digits), _tolerance(digits)) or bool(simplify(one - other).is_zero)


def _many_digits(*expressions: Expr) -> int:
    quick = all(isinstance(call, _QUICK) for each in expressions for call in each.atoms(Function))
    return _MOST_DIGITS if quick and not any(each.has(ComplexRootOf, ExprWithLimits) for each in expressions) else _MORE_DIGITS


def _tolerance(digits: int) -> Rational:
    return Rational(1, 10 ** (digits - _LOST_DIGITS))


def _rounds_to(written: Expr, value: Expr) -> bool:
    half = half_unit(written)
    return half is not None and bool(abs(written - value) <= half)


def _close(one: Expr, other: Expr, tolerance: Rational) -> bool:
    if one.is_Rational and other.is_Rational:
        return bool(one == other)
    return bool(abs(one - other) <= tolerance * max(abs(one), abs(other)))


def _same_expression(one: Expr, other: Expr) -> bool:
    one, other = named_functions(one, other)
    samples = _WHOLE_SAMPLES if one.has(factorial2) or other.has(factorial2) else _SAMPLES
    samples += _MANY_SAMPLES if any(each.has(floor, ceiling, Mod) or _turns_sign(each) for each in (one, other)) else ()
    agreeing = _agreeing(one, other, samples, _DIGITS, _CLOSE)
    if agreeing is None:
        return False
    if len(agreeing) > 1:
        digits = _many_digits(one, other)
        return _exact(one, other) or _agreeing(one, other, agreeing[:_LOOKED_AT_CLOSELY], digits, _tolerance(digits)) is not None
    difference = simplify(one - other)
    return bool(difference.is_zero) or bool(expand(difference) == 0)


def _exact(*expressions: Expr) -> bool:
    """Whether the values at samples are fractions."""
    powers = set().union(*(each.atoms(Pow) for each in expressions))
    return all(power.exp.is_Integer for power in powers) and not any(
        each.atoms(Function, NumberSymbol, ImaginaryUnit) for each in expressions
    )


def _turns_sign(expression: Expr) -> bool:
    """Whether a negative number has a power that is not known, as (-1)^(n(n-1)/2), which is real at few of the other samples."""
    return any(each.base.is_negative and each.exp.free_symbols for each in expression.atoms(Pow))


def _agreeing(one: Expr, other: Expr, samples: Samples, digits: int, tolerance: Rational) -> Samples | None:
    """The samples where both have one value; None where at any they have not."""
    found, real = [], not one.has(I) and not other.has(I)
    for sample in samples:
        mine, its = _at(sample, one, other, digits=digits)
        if mine is None or its is None or (real and not (mine.is_real and its.is_real)):
            continue
        if not _close(mine, its, tolerance):
            return None
        found.append(sample)
    return tuple(found)


def named_functions(*expressions: Expr) -> list[Expr]:
    """The expressions with f(x) as a symbol."""
    return [each.xreplace({call: Symbol(str(call), real=True) for call in each.atoms(AppliedUndef)}) for each in expressions]


def _at(sample: tuple[Rational, ...], *expressions: Expr, digits: int) -> list[Expr | None]:
    """The expressions' values at a sample; None where one has none."""
    symbols = sorted(set().union(*(each.free_symbols for each in expressions)), key=str)
    values = {symbol: sample[place % len(sample)] + place // len(sample) for place, symbol in enumerate(symbols)}
    return [_number_at(each, values, digits) for each in expressions]


def _number_at(expression: Expr, values: dict[Symbol, Rational], digits: int) -> Expr | None:
    try:
        found = expression.subs(values).doit()
        found = found if found.is_Rational else found.evalf(digits)
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, RecursionError):
        return None
    return found if found.is_number and found.is_finite else None


def constant_factor(one: Expr, other: Expr) -> Expr | None:
    """The number, not zero, that one is of the other at every sample; None where there is none."""
    one, other = named_functions(one, other)
    factor, digits = _factor_at(_SAMPLES, one, other, _DIGITS, _CLOSE), _many_digits(one, other)
    if factor is None or _exact(one, other):
        return factor
    return _factor_at(_SAMPLES[:_LOOKED_AT_CLOSELY], one, other, digits, _tolerance(digits))


def _factor_at(samples: Samples, one: Expr, other: Expr, digits: int, tolerance: Rational) -> Expr | None:
    factor, agreeing = None, 0
    for sample in samples:
        mine, its = _at(sample, one, other, digits=digits)
        if mine is None or its is None:
            continue
        zero = [each == 0 or not each.is_Rational and abs(each) < tolerance for each in (mine, its)]
        if any(zero):
            if not all(zero):
                return None
            continue
        if factor is not None and not _close(mine / its, factor, tolerance):
            return None
        factor, agreeing = mine / its, agreeing + 1
    return factor if agreeing > 1 else None
