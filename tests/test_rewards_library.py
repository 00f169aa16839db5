"""What the verifier replaces in Math-Verify and below: an upgrade that changes it fails here, with its name."""

from __future__ import annotations

import inspect
import subprocess
import sys

import math_verify.grader
import pytest
from latex2sympy2_extended.antlr_parser import PSParser
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig

PARAMETERS = {
    "sympy_numeric_eq": ["a", "b", "float_rounding", "numeric_precision"],
    "sympy_symbolic_eq": ["a", "b"],
    "sympy_compare_relational": ["gold", "pred", "float_rounding", "numeric_precision"],
    "sympy_compare_symbols": ["gold", "pred"],
    "sympy_compare_sets": ["gold", "pred", "float_rounding", "numeric_precision"],
    "sympy_deep_compare_set_and_tuple": ["gold", "pred", "float_rounding", "numeric_precision"],
    "sympy_expr_eq": ["gold", "pred", "float_rounding", "numeric_precision", "allow_set_relation_comp", "strict"],
}
PLAIN = "from math_verify import parse; print(parse(r'\\boxed{50\\%}')[0])"
MENDED = "from luffy.rewards.reading import read; from luffy.rewards.mends import mend_libraries; mend_libraries(); print(read(r'20\\%, 30\\%').value.doit())"


def printed(code: str) -> str:
    """What a Python process of its own prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.mark.parametrize("name", PARAMETERS)
def test_functions_that_are_replaced_or_called(name: str) -> None:
    assert list(inspect.signature(getattr(math_verify.grader, name)).parameters) == PARAMETERS[name]


def test_the_replaced_functions_are_these() -> None:
    code = "from luffy.rewards import equality; print(sorted(equality.REPLACED))"
    assert printed(code) == str(sorted(set(PARAMETERS) - {"sympy_expr_eq"}))


def test_the_parser_has_what_is_set() -> None:
    assert list(inspect.signature(_Latex2Sympy.parse_number).parameters) == ["self", "text"]
    assert ConversionConfig().lowercase_symbols  # the verifier turns it off
    assert not NormalizationConfig().units  # the verifier keeps units
    assert hasattr(PSParser.AtomContext, "PERCENT_NUMBER")


def test_the_percent_mend_is_still_needed_and_still_works() -> None:
    assert printed(PLAIN) == r"50\%"  # text, not 50*(1/100): once it is that, drop the mend
    assert printed(MENDED) == "{1/5, 3/10}"
