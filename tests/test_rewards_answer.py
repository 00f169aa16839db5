"""Where the answer stands, on text of every make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
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


def printed_beside_a_package(folder: Path, code: str) -> list[str]:
    """Lines that a process prints beside an installed package that registers the kind ``poems``."""
    installed = folder / "poetry_judge-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: poetry-judge\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[luffy.answers]\npoems = poetry_judge:last_line\nbroken = poetry_judge:nothing\n")
    (folder / "poetry_judge.py").write_text("def last_line(text): return text.splitlines()[-1] if text.strip() else None\n")
    code = "from luffy.rewards import Grader, grade, kind_for\n" + code
    environment = {"PATH": "", "PYTHONPATH": f"{folder}:{Path(__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr).splitlines()


def test_a_package_registers_a_kind(tmp_path: Path) -> None:
    code = """
print(kind_for("poems"), kind_for("me/Luffy_Poems"), kind_for("luffy_tiny"), kind_for("arc_c"), kind_for("math"))
print(*(grade(text, "a rose", kind="poems").reason for text in ("<think>x</think>red is\\na rose", "a rose, a rose", "", "\\n \\n")), sep=", ")
grade("x", "x", kind="broken")
"""
    said = printed_beside_a_package(tmp_path, code)
    assert said[:2] == ["poems poems tiny choice math", "correct, wrong, no answer found, no answer found"]
    assert "kind 'broken' cannot be read: poetry_judge:nothing does not load" in said[-1]


def test_a_reader_that_fails_is_an_error_of_that_verdict(tmp_path: Path) -> None:
    printed_beside_a_package(tmp_path, "")
    (tmp_path / "poetry_judge.py").write_text("def last_line(text): return text[3]\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from luffy.rewards import grade; print(*(grade(t, 'e', kind='poems').reason for t in ('x', 'rose')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "error correct\n"


def test_an_unknown_source_is_mathematics_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert [kind_for("riddles of mine"), kind_for("riddles of mine"), kind_for("aime25"), kind_for("me/MATH-hard")] == ["math"] * 4
    (record,) = caplog.records
    assert record.getMessage().startswith("data source 'riddles of mine' is not known: its answers are judged as mathematics")


def test_the_verifier_does_not_know_the_miniature() -> None:
    code = "import sys; from luffy.rewards import grade; grade('x', 'y', kind='exact'); print('miniature' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    assert [file.name for file in (Path(__file__).parents[1] / "luffy").rglob("*.py") if "import miniature" in file.read_text()] == []


def test_exact_kind() -> None:
    assert grade("<think>hm</think> yes \n", "yes", kind="exact").correct
    assert grade("<think>hm</think> yes!", "yes", kind="exact").reason is Reason.WRONG
