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
from luffy.rewards.choice import choice_answer, choice_label

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


GIVEN = (
    r"\boxed{B}",
    "Answer: B",
    "**Answer: B**",
    "The answer is (B).",
    "The correct answer is B.",
    "<answer>B</answer>",
    "正确答案是B。",
)
IN_PASSING = (
    "Note that hepatitis A is most likely transmitted by food.", "I don't think option A is correct because it ignores friction.",
    "If we choose A, the momentum is not conserved.", "(If we pick A, we get 3.)", "Some might think A is correct, but it ignores friction.",
    "Without friction the answer would be A.", "Had the sign been positive, the answer would be A.", "If friction was ignored, the answer would be A.",
    "Suppose friction is ignored; then the answer would be A.", "For a closed system, the answer is A.", "The answer could be A in vacuum.",
    "At first I thought the answer was A.", "At first glance, the answer is A.", "Initially, I thought option A was correct.",
    "My initial answer: A.", "The tempting answer is A.", "It is tempting to say A is the answer.", "It would be wrong to say that A is correct.",
    "It is a mistake to believe the answer is A.", "Vitamin A is best absorbed with fat.", "Influenza A is the most likely pathogen in winter.",
    "Point A is right of the origin.", "So A is right out.", "While A is plausible, it is not supported.", "Option A is correct for gases.",
    "A is best for large n.", "If the temperature were constant, A would be correct.", "Only statement A is correct.", "We think A, C are distractors.",
    "No other option fits. Option A is correct on paper.", "如果选A，动量不守恒。", "不选A。",
)  # fmt: skip
CORRECTIONS = (
    "Wait, actually the answer is C.", "Answer: C", r"So it is \boxed{C}.", "No, that ignores friction. So option C is correct.", "On second thought, I choose C.",
    "Let me double-check the units. Therefore, option C is correct.", "Hmm, wait. C is correct.", "That is not right, so the answer is C.",
    "It is not that, so the answer is C.", "I made a mistake: the correct choice is (C).", "If we recompute, option C is wrong? No, the answer is C.",
)  # fmt: skip


@pytest.mark.parametrize("given", GIVEN)
def test_a_given_answer_stays_behind_remarks_and_yields_to_a_correction(given: str) -> None:
    before = (given + "\n\n", given + " " if given.endswith((".", "。")) else given + ". ")
    assert [start + remark for start in before for remark in IN_PASSING if choice_answer(start + remark) != "B"] == []
    assert [start + more for start in before for more in CORRECTIONS if choice_answer(start + more) != "C"] == []
    assert [remark for remark in IN_PASSING if choice_answer(f"{remark} {given}") != "B"] == []


@pytest.mark.parametrize(
    "text",
    [
        "It would be wrong to say that A is correct.", "It would be wrong to say option A is correct.", "I don't think option A is correct.",
        "If we choose A, the momentum is not conserved.", "If B is true, then A is correct.", "Without friction the answer would be A.",
        "Influenza A is the most likely pathogen.", "Vitamin A is best.", "A is most likely anaemic.", "A is correct for gases.",
        "Neither B nor A is correct.", "Either (B) or (A) is correct.", "Option B or option A is correct.",
        "The answer is (A) if n is odd and (B) if n is even.",
    ],
)  # fmt: skip
def test_a_remark_alone_is_no_answer(text: str) -> None:
    assert choice_answer(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Option A would be correct.", "The correct answer would be A.", "It isn't B, so option A is correct.", "It is not B, so the answer is A.",
        "If we add these up we get 12, so the answer is A.", "Assuming an ideal gas, the answer is A.", "For an elastic collision, option A is correct.",
        "Without loss of generality x > y, so the answer is A.", "Although B is tempting, the answer is A.", "I think A is correct.",
        "This means that A is the correct answer.", "**A** is correct.", "Option **A** is the most appropriate management.", "A is most likely, since B fails.",
        "My original calculation was wrong, so the answer is A.", "Statement C is false. A is the best choice.", "不难得出答案是A。",
        "正确答案不是B，而是A。", "答案是A，不选B。", r"\textbf{(A)}\ 12",
    ],
)  # fmt: skip
def test_a_statement_alone_is_an_answer(text: str) -> None:
    assert choice_answer(text) == "A"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is (a) or (b).", "The answer is a, b, and c.", "the answer is (a), (b)", "The answer is **a** and **b**.", "a) or b)",
        "Answer: 1, 2", "Answer: (1), (2)", "Answer: 2 and 4", "Answer: 1. 2. 3.", "(A) (B) (C) (D)", "A) B) C) D)", "(A) 5 (B) 6", "(A) 5 or (B) 6",
        "A: 5, B: 6, C: 7, D: 8", "A: 5; C: 7", "A. 5 B. 6 C. 7", "a. 5 b. 6", "Answer: A. B. C. D.", "Answer: A: 5, B: 6, C: 7", "Answer: A) 5 B) 6",
        "Answer: A. 5 B. 6 C. 7", "Answers:\nA) 5\nB) 6\nC) 7", "Answer: A (or B)", "Answer: A, or perhaps B", r"\boxed{A. B. C. D.}", r"\boxed{a. b.}",
        r"\boxed{A. 5 B. 6}", r"\boxed{\text{A) 5 B) 6}}", r"\boxed{a:b}", r"\boxed{a: b}", r"\boxed{a:2}", r"\boxed{A:B}", r"\boxed{E - mgh}",
        r"\boxed{E - qvB}", r"\boxed{E - mass \cdot g}", "E - mgh", "The answer is E - mgh.", "The answer is $E - V$.", "The answer is A - D.",
    ],
)  # fmt: skip
def test_several_labels_and_formulas_are_no_label(text: str) -> None:
    assert len(choice_answer(text) or "none") > 1


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B. 12 cm", "B"), ("(B) 5", "B"), ("(B) 5 g.", "B"), ("B. 5 J.", "B"), ("B. 12 cm, not (C)", "B"), ("B) f(c) = 3", "B"), ("B. hepatitis B.", "B"),
        ("A: the text of option A", "A"), ("The answer is (C) because (A) and (B) are wrong", "C"), ("The answer is (A). (B) and (C) are wrong.", "A"),
        ("The answer is B) the wall. A) is wrong, and C) is wrong.", "B"), ("Answer: C.\nA. too small\nB. too big", "C"), ("(D) both (A) and (B)", "D"),
        (r"\boxed{\text{(D) both (A) and (B)}}", "D"), (r"\boxed{B. \text{Mitochondria}}", "B"), (r"\boxed{b. mitochondria}", "B"), (r"\boxed{b: the wall}", "B"),
        (r"\boxed{\textbf{(D)}\ 12}", "D"), (r"\boxed{B: x}", "B"), (r"\boxed{B - Paris}", "B"), (r"\boxed{B - DNA}", "B"), (r"\boxed{B - the cell}", "B"), ("B - Paris", "B"),
        ("Answer: B - it expands", "B"), ("Answer: B — a safe choice", "B"), ("Answer: B - 12 cm", "B"), ("Answer: 2. 5", "2"), ("the answer is c, i.e. the third", "C"),
    ],
)  # fmt: skip
def test_a_label_with_its_text_is_one(text: str, letter: str) -> None:
    assert choice_answer(text) == letter


def test_a_denial_ends_with_its_clause() -> None:
    text = "The answer is 2. That is not right, so the answer is 3."
    assert grade(text, "3").correct and not grade(text, "2").correct
    assert not grade("The answer is 2. It is not true that the answer is 3.", "3").correct


def test_a_gold_letter_may_be_wrapped() -> None:
    assert {choice_label(gold) for gold in (r"\text{D}", r"\mathrm{D}", r"\textbf{(D)}", "$D$", r"\text{(D) }12")} == {"D"}
    assert grade(r"\textbf{(D)}\ 12", r"\text{D}", kind="choice").correct


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
