"""When texts are the same, and what is wrong with think tags."""

from __future__ import annotations

import pytest
from data_sets import ROOT

from luffy.benchmarks.prepare import PREPARED
from luffy.data.faults import MEANINGS
from luffy.data.lengths import TokenCounter
from luffy.data.overlap import EvaluationPrompts
from luffy.data.schema import KINDS
from luffy.data.text import normalised, prompt_key
from luffy.traces import Trace, think_tag_fault, trace_tokens
from miniature.tokenizer import build_tokenizer

SAME = [
    ("Find $x$.", "find \\(x\\)"),
    ("$\\dfrac{1}{2}$", "$\\frac{1}{2}$"),
    ("\\left( 3,\\, 4 \\right)", "(3,4)"),
    ("What is 2 + 2?", "What is 2+2 ?"),
    ("caf\u00e9", "cafe\u0301"),
    ("x \u2212 \u00bd", "x - \\frac{1}{2}"),
    ("x\u00b2", "x^{2}"),
    ("5\u200b\u2009\\text{cm}", "$5~\\mathrm{cm}$"),
    ("\\cfrac12", "\\frac{1}{2}"),
    ("1{,}000", "1\\,000"),
    ("\uff13\uff0b\uff14", "3+4"),
    ("the end. Then", "the end Then"),
    ("$\\int f\\!x\\;dx$", "\\int fx dx"),
]
DIFFERENT = [
    ("3+4", "3-4"),
    ("3.5", "35"),
    ("n!", "n"),
    ("x^2", "x2"),
    ("x\u00b2", "x2"),
    ("(1,2]", "(1,2)"),
    ("\\leftarrow", "arrow"),
    ("\\frac{1}{23}", "\\frac{12}{3}"),
    ("x^{12}", "x^12"),
    ("f(1,234)", "f(1234)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_typesetting_does_not_make_another_problem(one, other):
    assert normalised(one) == normalised(other)
    assert prompt_key(one) == prompt_key(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_meaning_makes_another_problem(one, other):
    assert normalised(one) != normalised(other)


def test_overlap_says_how_and_where():
    prompts = EvaluationPrompts()
    prompts.add("How many integers lie between $3$ and $9$?", "amc")
    prompts.add("1+1=", "sums")
    assert prompts.find(" How many integers lie between $3$ and $9$?\n").place == "exact: amc"
    assert prompts.find("how many integers lie between 3 and 9").place == "normalised: amc"
    assert prompts.find("How many integers lie between $3$ and $8$?") is None
    assert prompts.find("1+1=").place == "exact: sums"
    assert prompts.find("1 + 1 =") is None  # too short to be the same by anything but chance


TAGS = [
    ("<think>a</think>b", {}, None),
    ("a</think>b", {}, "think_tags_missing"),
    ("a</think>b", {"prompt_opens": True}, None),
    ("<think>a", {}, "think_tags_missing"),
    ("ab", {}, "think_tags_missing"),
    ("ab", {"required": False}, None),
    ("<think>a", {"required": False}, "think_tags_missing"),
    ("</think><think>", {}, "think_tags_missing"),
    ("<think><think>a</think>", {}, "think_tags_doubled"),
    ("<think>a</think></think>", {"required": False}, "think_tags_doubled"),
]


@pytest.mark.parametrize(("text", "options", "fault"), TAGS)
def test_think_tags(text, options, fault):
    assert think_tag_fault(text, **options) == fault


def test_batched_lengths_are_the_trainers_tokens():
    tokenizer = build_tokenizer()
    texts = ["<think>\na</think>\\boxed{1}", "plain", "<think>b", ""] * 20
    prompts = ["...<think>\n", "user\n", "<think>", "x"] * 20
    expected = [len(trace_tokens(Trace(text=text), tokenizer, prompt_ends_with=end)) for text, end in zip(texts, prompts, strict=True)]
    assert TokenCounter(tokenizer).count_traces(texts, prompts) == expected
    assert expected[0] == len("a</think>\\boxed{1}") + 1  # one token a byte, the doubled tag gone, EOS


def test_the_page_on_data_names_every_reason_column_and_benchmark():
    page = (ROOT / "docs" / "data.md").read_text()
    columns = [column.name for layout in KINDS.values() for column in layout]
    for name in (*MEANINGS, *columns, *PREPARED, *(source.hub for source in PREPARED.values())):
        assert name in page, name
