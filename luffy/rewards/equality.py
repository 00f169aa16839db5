"""When two mathematical objects are equal: what replaces Math-Verify's own rules for numbers, equations, symbols and sets.

Math-Verify rounds to 6 decimals and takes numbers below 1e-15 as zero, so that all tiny numbers are equal; it takes equations
without solutions as equal, ignores the case of letters, and reads 0 = 1 as 1. Here numbers are compared exactly where both are
exact, and by their written precision or a relative tolerance where not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import math_verify.grader as library
from latex2sympy2_extended.logic import And
from sympy import Basic, Expr, Function, MatrixBase, MatrixExpr, Poly, PolynomialError, S, Symbol, Tuple
from sympy import FiniteSet as PlainFiniteSet
from sympy.core.function import AppliedUndef, expand
from sympy.core.relational import Eq, GreaterThan, Ne, Relational, StrictGreaterThan, StrictLessThan
from sympy.polys import cancel, together
from sympy.sets import Complement, Intersection, Set, Union
from sympy.simplify import fraction, simplify
from sympy.solvers import solve

from luffy.rewards.values import constant_factor, named_functions, same_value

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
    factor = constant_factor(mine, its)
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
    zeros = named_functions((gold.lhs - gold.rhs).doit(), (answer.lhs - answer.rhs).doit())
    if zeros[0].free_symbols != zeros[1].free_symbols or not zeros[0].free_symbols:
        return False
    if constant_factor(*zeros) is not None:
        return True
    numerators = [_numerator(each) for each in zeros]
    if constant_factor(*numerators) is not None:
        return all(each.free_symbols for each in map(expand, numerators))
    return _same_roots(*numerators)


def _numerator(expression: Expr) -> Expr:
    """What is zero where an expression is: without the factors that it divides by, too, as it has no value there."""
    numerator, denominator = together(expression).as_numer_denom()
    return fraction(cancel(expression))[0] if denominator.free_symbols else numerator


def _same_roots(one: Expr, other: Expr) -> bool:
    symbols = sorted(one.free_symbols, key=str)
    try:
        polynomials = [Poly(each, *symbols, extension=True) for each in (one, other)]
    except PolynomialError:
        return len(symbols) == 1 and _same_solution_lists(*(solve(each, symbols[0]) for each in (one, other)))
    if any(each.is_ground for each in polynomials):
        return False
    if constant_factor(*(each.sqf_part().as_expr() for each in polynomials)) is not None:
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
    return _matched(mine, its, _same_member if one.args[1] == Symbol(r"\mathbb{Z}") else _library_says)


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
