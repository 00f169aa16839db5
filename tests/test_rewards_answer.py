"""Where the answer stands, on text of every make."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from luffy.rewards import Reason, grade, kind_for
from luffy.rewards.answer import after_thought, as_text, boxed_answer
from luffy.rewards.choice import choice_answer

PIECES = st.sampled_from(
    ["\\boxed{", "\\fbox{", "{", "}", "\\{", "\\}", "\\", "3", " and ", ", ", "$", "box", "</think>", "\n", "word " * 9]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@given(TEXTS, st.sampled_from(["7", r"\frac{1}{2}", r"\{1, 2\}", r"\left\{ x \right.", "{{4}}"]))
def test_a_last_box_is_found_behind_any_text(text: str, answer: str) -> None:
    assert boxed_answer(f"{text} . So \\boxed{{{answer}}}.") == answer


@given(TEXTS)
def test_reading_never_fails_and_few_late_boxes_are_enough(text: str) -> None:
    answer = boxed_answer(text)
    assert answer is None or answer == answer.strip()
    assert boxed_answer("box " * 50 + text) == answer  # the words move where the search begins
    choice_answer(text)


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_characters_become_text_that_can_be_stored(text: str) -> None:
    as_text(text).encode("utf-8")
    assert as_text(as_text(text)) == as_text(text)


def test_ends_of_long_responses_are_read() -> None:
    assert grade("x" * 1_000_000 + r"\boxed{3}", "3").reason is Reason.CORRECT
    assert after_thought("a</think>b</think>c") == "c"


def test_many_boxes() -> None:
    listed = ", ".join(rf"\boxed{{{number}}}" for number in range(40))
    assert boxed_answer(listed) == ", ".join(map(str, range(8, 40)))  # the last 32
    assert boxed_answer(r"\boxed{1}" + r"\boxed{" * 50) == "1"


def test_backslashes_before_a_box() -> None:
    assert boxed_answer(r"x = 3 \\\boxed{3}") == "3"  # a line break, then a box
    assert boxed_answer(r"\\boxed{3}") is None  # a line break, then a word


def test_positions_of_named_boxes() -> None:
    assert boxed_answer(r"$x = \boxed{2}$ and $y = \boxed{3}$") == "x = 2, y = 3"
    assert boxed_answer(r"$x_1 = \boxed{2}$ and $x_2 = \boxed{3}$") == "2, 3"  # one unknown
    assert boxed_answer(r"(\boxed{2}, \boxed{3})") == "(2, 3)"


def test_kind_for() -> None:
    sources = ("luffy_tiny", "arc_c", "gpqa", "TIGER-Lab/MMLU-Pro", "GPQA-Diamond", "math", "aime25", "openr1")
    assert [kind_for(source) for source in sources] == ["tiny", *["choice"] * 4, *["math"] * 3]


def test_tiny_kind() -> None:
    right = "2+9=11,1+1=02;2+4=06,6+1=07,7+7=14;4+7=11,1+7=08,>1267418"
    assert grade(right, "1267418", kind="tiny").correct
    assert grade(right[:-1], "1267418", kind="tiny").reason is Reason.WRONG
    assert grade("nothing", "1267418", kind="tiny").reason is Reason.NO_ANSWER


def test_exact_kind() -> None:
    assert grade("<think>hm</think> yes \n", "yes", kind="exact").correct
    assert grade("<think>hm</think> yes!", "yes", kind="exact").reason is Reason.WRONG
