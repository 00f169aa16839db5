"""When two mathematical objects are equal: what replaces Math-Verify's own rules for numbers, equations, symbols and sets.

Math-Verify rounds to 6 decimals and takes numbers below 1e-15 as zero, so that all tiny numbers are equal; it takes equations
without solutions as equal, ignores the case of letters, and reads 0 = 1 as 1. Here numbers are compared exactly where both are
exact, and by their written precision or a relative tolerance where not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import math_verify.grader as library
from latex2sympy2_extended.logic import And
from sympy import (
    Basic,
    ComplexRootOf,
    Expr,
    Function,
    I,
    MatrixBase,
    MatrixExpr,
    Max,
    Min,
    Mod,
    NumberSymbol,
    Poly,
    PolynomialError,
    Pow,
    Rational,
    S,
    Symbol,
    Tuple,
)  # fmt: skip
from sympy import FiniteSet as PlainFiniteSet
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.function import AppliedUndef, expand
from sympy.core.numbers import ImaginaryUnit, nan, oo, zoo
from sympy.core.relational import Eq, GreaterThan, Ne, Relational, StrictGreaterThan, StrictLessThan
from sympy.functions import Abs, ceiling, exp, factorial2, floor, im, log, re, sign
from sympy.functions.elementary.hyperbolic import HyperbolicFunction, InverseHyperbolicFunction
from sympy.functions.elementary.trigonometric import InverseTrigonometricFunction, TrigonometricFunction
from sympy.polys import cancel, together
from sympy.sets import Complement, Intersection, Set, Union
from sympy.simplify import fraction, simplify
from sympy.solvers import solve

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
_MATCHED = 64
"""Largest set whose elements are matched one by one."""
FAMILY = Function("family")
"""Of a value and a domain: the value for every k of the domain."""


def replace_equality() -> None:
    """Make Math-Verify compare with the rules of this module, in this process.

    Raises:
        AttributeError: when the library below has no such function any more.
    """
    for name, function in REPLACED.items():
        getattr(library, name)
        setattr(library, name, function)


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
    one, other = _named_functions(one, other)
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


def _named_functions(*expressions: Expr) -> list[Expr]:
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


# Relations --------------------------------------------------------------------------------------------------------------------


def _compare_relations(gold: Basic, answer: Basic, *unused: int) -> bool:
    """In place of ``sympy_compare_relational``."""
    golds, answers = (list(each._unsorted_args) if isinstance(each, And) else [each] for each in (gold, answer))
    if not all(isinstance(each, Relational) for each in (*golds, *answers)):
        return False
    if len(golds) == len(answers) and _matched(golds, answers, _same_relation):
        return True
    if all(isinstance(each, Eq) for each in (*golds, *answers)):
        return False
    return same_solutions(gold, answer)


def _same_relation(gold: Relational, answer: Relational) -> bool:
    if isinstance(gold, (Eq, Ne)) or isinstance(answer, (Eq, Ne)):
        return type(gold) is type(answer) and _same_equation(gold, answer)
    strict = (StrictLessThan, StrictGreaterThan)
    if isinstance(gold, strict) != isinstance(answer, strict):
        return False
    mine, its = (
        each.lhs - each.rhs if isinstance(each, (GreaterThan, StrictGreaterThan)) else each.rhs - each.lhs for each in (gold, answer)
    )
    factor = _constant_factor(mine, its)
    return factor is not None and bool(factor.is_real) and factor > 0


def _same_equation(gold: Relational, answer: Relational) -> bool:
    """Whether one is a nonzero multiple of the other, or both have the same solutions and at least one."""
    if any(isinstance(side, (Set, Tuple)) for each in (gold, answer) for side in each.args):
        return _library_says(gold.lhs, answer.lhs) and _library_says(gold.rhs, answer.rhs)
    sides = [gold.lhs, gold.rhs, answer.lhs, answer.rhs]
    if any(isinstance(side, (MatrixBase, MatrixExpr)) for side in sides):
        return same_value(gold.lhs, answer.lhs) and same_value(gold.rhs, answer.rhs)
    name, call = sorted((gold.lhs, answer.lhs), key=lambda each: isinstance(each, AppliedUndef))
    if isinstance(name, AppliedUndef):  # f(t) for f(x)
        if gold.lhs.func == answer.lhs.func and gold.lhs.free_symbols.isdisjoint(answer.free_symbols):
            answer = answer.xreplace(dict(zip(answer.lhs.args, gold.lhs.args, strict=False)))
    elif isinstance(name, Symbol) and isinstance(call, AppliedUndef):  # y for f(x)
        if name not in gold.rhs.free_symbols | answer.rhs.free_symbols | call.free_symbols:
            return same_value(gold.rhs, answer.rhs)
    zeros = _named_functions((gold.lhs - gold.rhs).doit(), (answer.lhs - answer.rhs).doit())
    if zeros[0].free_symbols != zeros[1].free_symbols or not zeros[0].free_symbols:
        return False
    if _constant_factor(*zeros) is not None:
        return True
    numerators = [_numerator(each) for each in zeros]
    if _constant_factor(*numerators) is not None:
        return all(each.free_symbols for each in map(expand, numerators))
    return _same_roots(*numerators)


def _numerator(expression: Expr) -> Expr:
    """What is zero where an expression is: without the factors that it divides by, too, as it has no value there."""
    numerator, denominator = together(expression).as_numer_denom()
    return fraction(cancel(expression))[0] if denominator.free_symbols else numerator


def _constant_factor(one: Expr, other: Expr) -> Expr | None:
    """The number, not zero, that one is of the other at every sample; None where there is none."""
    one, other = _named_functions(one, other)
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


def _same_roots(one: Expr, other: Expr) -> bool:
    symbols = sorted(one.free_symbols, key=str)
    try:
        polynomials = [Poly(each, *symbols, extension=True) for each in (one, other)]
    except PolynomialError:
        return len(symbols) == 1 and _same_solution_lists(*(solve(each, symbols[0]) for each in (one, other)))
    if any(each.is_ground for each in polynomials):
        return False
    if _constant_factor(*(each.sqf_part().as_expr() for each in polynomials)) is not None:
        return True
    return len(symbols) == 1 and _same_solution_lists(*(solve(each.as_expr(), symbols[0]) for each in polynomials))


def _same_solution_lists(one: list, other: list) -> bool:
    return 0 < len(one) == len(other) and _matched(one, other, same_value)


def same_solutions(gold: Basic, answer: Basic) -> bool:
    """Whether two conditions on one symbol (an inequality, several, a set, a symbol in a set) hold the same numbers, and at least one."""
    one = solutions(gold)
    other = solutions(answer) if one else None
    if not one or not other or len({one[0], other[0]} - {None}) > 1:
        return False
    mine, its = one[1], other[1]
    return not mine.is_empty and bool(mine == its or _compare_any_sets(mine, its, 6, 15))


def solutions(value: Basic) -> tuple[Symbol | None, Set] | None:
    """The symbol that a condition is on (None for a set) and the numbers that it is true of; None for what is no condition.

    Of several inequalities all hold, or any where all cannot.
    """
    if isinstance(value, Eq) and isinstance(value.lhs, Symbol) and isinstance(value.rhs, Set):
        return value.lhs, value.rhs
    if isinstance(value, Set) and not isinstance(value, PlainFiniteSet):
        return None, value
    parts = list(value.args) if isinstance(value, PlainFiniteSet) else [value]
    if len(value.free_symbols) != 1 or not all(isinstance(each, (Relational, And)) and not isinstance(each, Eq) for each in parts):
        return None
    try:
        sets = [each.as_set() for each in parts]
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None
    all_hold = Intersection(*sets)
    return next(iter(value.free_symbols)), Union(*sets) if all_hold.is_empty else all_hold


# Symbols and sets -------------------------------------------------------------------------------------------------------------


def _compare_symbols(gold: Basic, answer: Basic) -> bool:
    """In place of ``sympy_compare_symbols``: names by their letters, in their case."""
    if isinstance(gold, Symbol) and isinstance(answer, Symbol):
        return gold.name == answer.name
    return same_value(gold, answer)


_compare_ordered, _compare_any_sets = library.sympy_deep_compare_set_and_tuple, library.sympy_compare_sets


def _compare_finite(gold: PlainFiniteSet | Tuple, answer: PlainFiniteSet | Tuple, *precision: int) -> bool:
    """In place of ``sympy_deep_compare_set_and_tuple``: elements of sets are matched, not sorted."""
    assigned = [_assigns_apart(each) for each in (gold, answer)]
    sets = isinstance(gold, PlainFiniteSet) and isinstance(answer, PlainFiniteSet)
    if not sets and True not in assigned:
        return _compare_ordered(gold, answer, *precision)
    if len(gold) != len(answer) or len(gold) > _MATCHED:
        return False
    if assigned[0] == assigned[1]:
        return _matched(gold.args, answer.args, lambda mine, its: library.sympy_expr_eq(mine, its, *precision))
    mine, its = (list(getattr(each, "_unsorted_args", each.args)) for each in (gold, answer))
    return len(mine) == len(its) and all(library.sympy_expr_eq(one, other, *precision) for one, other in zip(mine, its, strict=True))


def _compare_sets(gold: Basic, answer: Basic, *precision: int) -> bool:
    """In place of ``sympy_compare_sets``: finite sets by their elements, before any operation on sets, which takes SymPy long."""
    sides = [PlainFiniteSet(each) if not isinstance(each, (Set, Tuple)) else each for each in (gold, answer)]
    finite = [isinstance(each, (PlainFiniteSet, Tuple)) or each is S.EmptySet for each in sides]
    if all(finite):
        return sides[0] == sides[1] or S.EmptySet not in sides and _compare_finite(*sides, *precision)
    if any(finite) and not any(isinstance(each, (Union, Intersection, Complement)) for each in sides):
        points = sides[finite.index(True)]
        if S.EmptySet in sides or len(points) != 2:
            return False
    return _compare_any_sets(gold, answer, *precision)


def _assigns_apart(values: PlainFiniteSet | Tuple) -> bool:
    """Whether all are equations that give different unknowns a value: then the order tells which value is whose."""
    return (
        all(isinstance(each, Eq) and isinstance(each.lhs, (Symbol, AppliedUndef)) for each in values)
        and len({each.lhs for each in values}) == len(values) > 1
    )


def same_family(one: Basic, other: Basic) -> bool:
    """Whether two families have the same values: over the integers also where k is shifted or has the other sign."""
    if one.args[1] != other.args[1]:
        return False
    mine, its = (list(each.args[0].args) if isinstance(each.args[0], PlainFiniteSet) else [each.args[0]] for each in (one, other))
    return _matched(mine, its, _same_member if one.args[1] == Symbol("Z") else _library_says)


def _library_says(one: Basic, other: Basic) -> bool:
    return bool(library.sympy_expr_eq(one, other, 6, 15))


def _same_member(one: Basic, other: Basic) -> bool:
    k = Symbol("k", real=True)
    if not isinstance(one, Expr) or not isinstance(other, Expr):
        return _library_says(one, other)
    steps = [expand(each).coeff(k, 1) for each in (one, other)]
    rests = [expand(each - step * k) for each, step in zip((one, other), steps, strict=True)]
    if any(rest.has(k) for rest in rests) or steps[0] == 0 or steps[0] not in (steps[1], -steps[1]):
        return same_value(one, other)
    return bool(simplify((rests[0] - rests[1]) / steps[0]).is_integer)


def _matched(ones: Iterable[Basic], others: Iterable[Basic], same: Callable[[Basic, Basic], bool]) -> bool:
    """Whether each has a partner of its own."""
    left = list(others)
    for one in ones:
        partner = next((place for place, other in enumerate(left) if same(one, other)), None)
        if partner is None:
            return False
        del left[partner]
    return not left


REPLACED: dict[str, Callable[..., bool]] = {
    "sympy_numeric_eq": lambda gold, answer, *unused: same_value(gold, answer),
    "sympy_symbolic_eq": lambda gold, answer: False,  # the one above has decided
    "sympy_compare_relational": _compare_relations,
    "sympy_compare_symbols": _compare_symbols,
    "sympy_deep_compare_set_and_tuple": _compare_finite,
    "sympy_compare_sets": _compare_sets,
}
"""Functions of ``math_verify.grader`` and what takes their place."""
