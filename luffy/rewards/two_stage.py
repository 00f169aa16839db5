"""A faster first attempt for Math-Verify's LaTeX parser, which gives the same trees.

ANTLR predicts which rule applies either by the local context (SLL) or, several times slower, by the full one (LL, the
default). Where the local prediction finds a parse, it is the parse of the full one; otherwise it reports a syntax error
(ANTLR's documentation of ``PredictionMode.SLL``), and the parse is repeated with the full one.
"""

from __future__ import annotations

from typing import Any

from antlr4 import PredictionMode
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy


def parse_in_two_stages() -> None:
    """Let Math-Verify's parser try the local prediction first, in this process."""
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
