"""What is mended in SymPy, latex2sympy2 and Math-Verify, in a worker process: how strings and decimals are read, and how fast.

SymPy turns every string, even a number, into an object by ``eval`` (``parse_expr``), and Math-Verify gives it strings of the response;
:func:`read_arithmetic` takes its place. Decimals become exact fractions that know how precisely they were written.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import math_verify.parser
import sympy.parsing.sympy_parser
import sympy.physics.units  # loaded before workers are forked
from antlr4 import PredictionMode
from latex2sympy2_extended.antlr_parser import PSParser
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
from sympy import Add, Basic, Expr, Float, Integer, Mul, Pow, Rational

_INTEGER = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ROUNDED_DIGITS = 6
"""Fewest significant digits of a decimal that stands for the number that it is the rounding of."""
Precisions = dict[Rational, Rational]
"""Half a unit in the last place of each decimal of at least ``_ROUNDED_DIGITS`` digits, by its size."""
_precisions: Precisions = {}
"""Those of what is read or compared now: another answer's 1.00000 does not make this one's 1 a rounded number."""


def mend_libraries() -> None:
    """Make the libraries read strings, decimals and percent signs with the functions of this module, in this process.

    Raises:
        AttributeError: when a library has changed, so that a mend no longer fits.
    """
    for module in (sympy.parsing.sympy_parser, math_verify.parser):
        module.parse_expr  # noqa: B018  it must exist
        module.parse_expr = read_arithmetic
    _Latex2Sympy.parse_number  # noqa: B018  likewise
    _Latex2Sympy.parse_number = _read_decimal
    if not hasattr(PSParser.AtomContext, "FUNC_GAMMA"):  # the grammar for ANTLR 4.9 lacks what the visitor asks each atom for
        PSParser.AtomContext.FUNC_GAMMA = lambda self: None
    _parse_in_two_stages()


def _parse_in_two_stages() -> None:
    """Let the LaTeX parser try a faster prediction first, which gives the same trees.

    ANTLR predicts which rule applies either by the local context (SLL) or, several times slower, by the full one (LL, the default).
    Where the local prediction finds a parse, it is the parse of the full one; otherwise it reports a syntax error (ANTLR's
    documentation of ``PredictionMode.SLL``), and the parse is repeated with the full one.
    """
    create_parser, parse = _Latex2Sympy.create_parser, _Latex2Sympy.parse

    def create_with_mode(self: Any, latex: str) -> Any:
        parser = create_parser(self, latex)
        parser._interp.predictionMode = self.prediction_mode
        return parser

    def parse_twice(self: Any, latex: str) -> Any:
        self.prediction_mode = PredictionMode.SLL
        try:
            return parse(self, latex)
        except Exception:  # noqa: BLE001  syntax errors are plain Exceptions there; the second attempt raises what is one
            self.prediction_mode = PredictionMode.LL
            return parse(self, latex)

    _Latex2Sympy.create_parser, _Latex2Sympy.parse = create_with_mode, parse_twice


# Strings ----------------------------------------------------------------------------------------------------------------------


def read_arithmetic(text: str, *unused: object, **also_unused: object) -> Expr:
    """The SymPy object, with nothing computed, of a number or of numbers with ``+ - * / **`` and parentheses; never by ``eval``.

    Raises:
        ValueError: on anything else (a name, a call, an attribute, a string).
        SyntaxError: on text that is no expression.
    """
    text = text.strip()
    number = _number(text)
    return _convert(ast.parse(text, mode="eval").body, text) if number is None else number


def _number(text: str) -> Expr | None:
    if _INTEGER.fullmatch(text):
        return Integer(int(text))
    return Float(text) if _DECIMAL.fullmatch(text) else None


def _convert(node: ast.expr, text: str) -> Expr:
    number = _number(ast.get_source_segment(text, node) or "") if isinstance(node, ast.Constant) else None
    if number is not None:
        return number
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_convert(node.operand, text)
    if not isinstance(node, ast.BinOp) or type(node.op) not in _BINARY:
        raise ValueError("not plain arithmetic")
    function, change = _BINARY[type(node.op)]
    return function(_convert(node.left, text), change(_convert(node.right, text)), evaluate=False)


_BINARY: dict[type[ast.operator], tuple[Any, Any]] = {
    ast.Add: (Add, lambda right: right),
    ast.Sub: (Add, lambda right: Mul(Integer(-1), right, evaluate=False)),
    ast.Mult: (Mul, lambda right: right),
    ast.Div: (Mul, lambda right: Pow(right, Integer(-1), evaluate=False)),
    ast.Pow: (Pow, lambda right: right),
}
"""Of each operator: the SymPy function, and what its right side becomes."""

# Decimals ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def precisions(*known: Precisions) -> Iterator[Precisions]:
    """The precisions of one answer or one comparison: those that are known, and what the body reads."""
    global _precisions
    outside, _precisions = _precisions, {size: half for each in known for size, half in each.items()}
    try:
        yield _precisions
    finally:
        _precisions = outside


def _read_decimal(self: _Latex2Sympy, text: str) -> Rational:
    """In place of the library's reader of numbers: exactly, and with the precision that a decimal was written with."""
    text = text.replace(",", "")
    value = Rational(text)
    whole, point, decimals = text.partition(".")
    if point and len((whole + decimals).strip("-").lstrip("0")) >= _ROUNDED_DIGITS:
        _precisions[abs(value)] = Rational(1, 2 * 10 ** len(decimals))
    return value


def half_unit(value: Basic) -> Rational | None:
    """Half a unit in the last place of a number that was written as a decimal; None for others, and for ones of few digits."""
    return _precisions.get(abs(value)) if value.is_Rational else None


def scaled_number(value: Expr, factor: Rational) -> Expr:
    """A value times a number, as precise as it was written."""
    half = half_unit(value)
    if half is not None:
        _precisions[abs(value * factor)] = half * abs(factor)
    return value * factor
