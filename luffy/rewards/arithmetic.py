"""Numbers and plain arithmetic such as ``3*(1/2)^2``, read without evaluating anything as Python.

SymPy turns every string, even a number, into an object by ``eval`` (``parse_expr``), and Math-Verify gives it strings of
the response. Workers put :func:`read_arithmetic` in its place.
"""

from __future__ import annotations

import ast
import re

import math_verify.parser
import sympy.parsing.sympy_parser
import sympy.physics.units
from sympy import Add, Expr, Float, Integer, Mul, Pow

_MINUS_ONE = Integer(-1)
_INTEGER = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def replace_sympy_eval() -> None:
    """Make SymPy and Math-Verify read strings with :func:`read_arithmetic`, in this process."""
    sympy.parsing.sympy_parser.parse_expr = read_arithmetic
    math_verify.parser.parse_expr = read_arithmetic


def read_arithmetic(text: str, *unused: object, **also_unused: object) -> Expr:
    """The SymPy object of a number, or the unevaluated one of numbers, ``+ - * / **`` and parentheses.

    Args:
        text: the arithmetic, with ``**`` for powers.
        unused: what else ``parse_expr`` takes; nothing here depends on it.
        also_unused: likewise.

    Returns:
        The expression, with nothing computed.

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
    if isinstance(node, ast.Constant):
        number = _number(ast.get_source_segment(text, node) or "")
        if number is not None:
            return number
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_convert(node.operand, text)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_convert(node.left, text), _convert(node.right, text))
    raise ValueError("not plain arithmetic")


def _subtract(left: Expr, right: Expr) -> Expr:
    return Add(left, Mul(_MINUS_ONE, right, evaluate=False), evaluate=False)


def _divide(left: Expr, right: Expr) -> Expr:
    return Mul(left, Pow(right, _MINUS_ONE, evaluate=False), evaluate=False)


_BINARY = {
    ast.Add: lambda left, right: Add(left, right, evaluate=False),
    ast.Sub: _subtract,
    ast.Mult: lambda left, right: Mul(left, right, evaluate=False),
    ast.Div: _divide,
    ast.Pow: lambda left, right: Pow(left, right, evaluate=False),
}
