"""Where the answer stands, on text of every make."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luffy.rewards import Grader, Reason, grade, kind_for
from luffy.rewards.answer import after_thought, as_text, boxed_answer
from luffy.rewards.choice import choice_answer, choice_label
from luffy.rewards.settle import says_otherwise

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


# What is said around a number ---------------------------------------------------------------------------------------------------


def judged(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The rows (response, gold) that are right."""
    with Grader(workers=1, time_limit_s=30) as grader:
        return [row for row, verdict in zip(rows, grader.grade_batch(rows), strict=True) if verdict.correct]


def in_boxes(answers: list[str], gold: str) -> list[tuple[str, str]]:
    return [(rf"\boxed{{{answer}}}", gold) for answer in answers]


DENIED_IN_A_BOX = [
    r"\text{x is not equal to } 7", r"\text{greater than or equal to } 7", r"\text{It is false that the value is } 7", r"\text{not: } 7",
    r"\text{Wrong value} = 7", r"\text{Wrong answer: } 7", r"\text{not the answer} = 7", r"\text{anything but: } 7", r"\text{at most: } 7",
    r"\text{The value is never equal to } 7", r"\text{The value isn't equal to } 7", r"\text{more than: } 7", r"\text{if n is } 7",
    r"\text{For n} = 7", r"\text{No value is } 7", r"\text{x is not equal to } 7 \text{ cm}", "The value that it cannot be is 7",
    r"\text{fails for } n = 7", r"\text{except } x=7", r"\text{undefined at } x=7", r"\text{true unless } n=7", r"\text{holds for } x = 7",
    r"n = 7 \text{ fails}", r"\text{Undefined value} = 7 \text{ cm}",
]  # fmt: skip
STATED_IN_A_BOX = [
    r"\text{The answer is } 7", r"\text{Total cost} = 7", r"x = 7 \text{ cm}", r"\text{area} = 7", r"\text{The area of ABC is } 7",
    r"\text{The probability of at least one head is } 7", r"\text{The sum of the numbers greater than 1 is } 7", r"x \text{ equals } 7",
    r"\text{The least value is } 7", r"\text{Number of solutions: } 7", r"\text{let } x = 7", r"\text{Area of the smaller circle} = 7",
]  # fmt: skip


def test_words_before_a_number_that_deny_it() -> None:
    assert judged(in_boxes(DENIED_IN_A_BOX, "7")) == []
    assert judged(in_boxes(STATED_IN_A_BOX, "7")) == in_boxes(STATED_IN_A_BOX, "7")


OTHER_NUMBERS = (
    "squared; cubed; factorial; tenths; hundredths; thousandths; halves; thirds; sixths; eighths; sixteenths; quarters; millionths; quadrillion; "
    "lakh; crore; lakh rupees; million dollars; thousand miles; gross; score; per mille; times ten; divided by two; and a quarter; point two; "
    "inverse; reciprocal; repeating; impossible; fails; (wrong); incorrect; excluded; nope; anything; k; th root; to the power of; and counting"
).split("; ")  # fmt: skip
COUNTED = (
    "apples; ways; times; people; solutions; square units; squared units; two-digit numbers; wrong answers; points; ways to choose them; "
    "degrees of freedom; roots; false alarms; miles per hour; children; M; dB; MPa; Apples; th term"
).split("; ")  # fmt: skip


def test_words_behind_a_number_that_make_another_one_of_it() -> None:
    others = [rf"5\text{{ {words}}}" for words in OTHER_NUMBERS] + [r"5\text{ times } x", r"5\text{ to the power of } n", "5 squared", "5‰"]
    assert judged(in_boxes(others, "5")) == []
    assert judged(in_boxes([r"7\text{th root}", r"7^{\text{th}}\text{ root}", r"7^{\text{th}}\text{ power}"], "7")) == []
    assert judged(in_boxes([r"\$5k", r"\$5\text{k}", r"\$5K", r"\$5M", r"\$5\text{ bn}"], r"\$5")) == []
    counted = in_boxes([rf"5\text{{ {words}}}" for words in COUNTED], "5")
    assert judged(counted) == counted


def test_words_behind_a_number_as_its_value() -> None:
    rows = [
        *in_boxes([r"5\text{ per mille}", "5‰"], "0.005"), *in_boxes([r"5\text{ lakh}"], "500000"), *in_boxes([r"\$5k"], r"\$5{,}000"),
        *in_boxes([r"\$5M"], r"\$5\text{ million}"), *in_boxes([r"5\text{ squared meters}"], r"5\text{ m}^2"),
        *in_boxes([r"5\text{ squared units}"], r"5\text{ square units}"),
    ]  # fmt: skip
    assert judged(rows) == rows
    assert judged(in_boxes([r"5\text{ squared units}"], r"5\text{ units}") + in_boxes([r"5\text{ squared meters}"], r"5\text{ m}")) == []


def with_units(pairs: str) -> list[tuple[str, str]]:
    return [
        row
        for pair in pairs.split()
        for one, other in [pair.split("|")]
        for row in in_boxes([rf"5\text{{ {one}}}"], rf"5\text{{ {other}}}")
    ]


def test_case_of_units() -> None:
    others = "meV|MeV MeV|meV mPa|MPa mJ|MJ mM|MM mN|MN mW|MW mHz|MHz pF|PF Mg|mg mBq|MBq mSv|MSv MB|mB mWh|MWh mL|ML mA|MA ms|Ms GeV|MeV"
    same = "KG|kg Kg|kg CM|cm Cm|cm Meters|meters METERS|m Km/h|km/h KM|km KJ|kJ KHz|kHz FT|ft Hours|hours Men|men MBq|MBq KWH|kWh"
    assert judged(with_units(others)) == []
    assert judged(with_units(same)) == with_units(same)
    prefixed = in_boxes([r"5\text{ MeV}"], r"5000\text{ keV}") + in_boxes([r"5000\text{ mJ}"], r"5\text{ J}")
    assert judged(prefixed) == prefixed


SOMETHING_ELSE_OF_7 = [
    "The answer is not 7.", "The answer isn't 7", "The value cannot be 7", "It is at most 7.", "It is less than 7", "It can be anything but 7.",
    "Hence x > 7.", "Hence x ≠ 7", "So we get 7!", "So we get 7i", "7x", "so we get log 7", "So we get 7 million", "So we get $7$ million dollars.",
    "The value lies between 5 and 7.", "answer = not 7", "So 7 is not the answer.", "But 7 does not work.", "We get 7 x.", "We get 7 + x",
    "We get 7*x", "We get 7^n", "We get x - 7", "We get 7(x+1)", "We get 7_8", "We get 7π", "so it is not\n\n$$7$$", "The answer is not equal to:\n\n$7$",
    "We see that $7$ is not the answer.", "any number other than 7", "It is not 7. See [3].", r"It is not 7. We are done ($\clubsuit$).",
    "Suppose that x = 7.", "I doubt that it is 7.", "So the root 7 is extraneous", "The sum exceeds 7.", "It is a multiple of 7.", "It starts at 7:30",
    "The result is 7 tenths.", "so it isn't, as one may think, 7", "Since x is at most 7", "7 or more", "twice 7", r"so $x \equiv 3 \pmod 7$",
]  # fmt: skip
STILL_7 = [
    "So there are 7 ways.", "Thus the total is 7 dollars.", "= 7.", "we get $7$.", "Hence x = 7.", "It is not 8, but 7.", "So we get 7%",
    "Since x is not 3, there are 7 ways.", "Since $n$ is not even, there are $7$ ways.", "So there are 7 apples left.", "So there are **7** ways.",
    "So there are 7 integers that do not divide n.", "the total => 7", "The total is 7cm", "So it takes 7m.", "Hence the number is\n\n$$7$$",
    "Because 3 > 2, the sum is 7.", "I got 5 first, but that is not right. The total is 7.", "so we get 10 - 3", "So it is 7°", "- 7", "We get a total of 7.",
    "The answer is 7 (not 8).", "The final answer is 7, not 8.", "None of these fails, so 7", "It cannot be 8; hence 7.", "The answer is 7!",
    "We need at least 3 of them, so the total is 7.", "There are 7 (seven) of them", "The 7th", "7 people", "Then $x$ cannot be odd, so $x = 7$.",
]  # fmt: skip


def test_prose_that_says_something_else_of_its_last_number() -> None:
    assert judged([(text, "7") for text in SOMETHING_ELSE_OF_7]) == []
    assert judged([(text, "7") for text in STILL_7]) == [(text, "7") for text in STILL_7]
    assert grade("The answer is not 7.", "7").reason is Reason.NO_ANSWER


def test_prose_is_searched_in_little_time() -> None:
    start = time.process_time()
    for piece in ("$", "7 ", "a-", "not ", "7*", r"\(", "<a", "x + 7 - ", "so 7 is ", "answer 7", "1.", "7^", "(", ", so "):
        says_otherwise((piece * 1000)[:1000])
    assert time.process_time() - start < 1.5


def test_letters_and_numbers_in_other_spellings() -> None:
    letters = [
        (r"\varepsilon_0 A", r"\epsilon_0 A"),
        (r"\varphi(n)", r"\phi(n)"),
        (r"m g \ell (1-\cos\vartheta)", r"mgl(1-\cos\theta)"),
        (r"\frac{\ell}{2}", r"\frac{l}{2}"),
    ]
    words = [
        ("sixteen", "16"),
        ("twenty-five", "25"),
        ("one hundred", "100"),
        ("two hundred and five", "205"),
        ("one half", "0.5"),
        ("half", r"\frac12"),
        ("two thirds", r"\frac23"),
    ]
    rows = [row for answer, gold in letters + words for row in in_boxes([answer], gold)]
    assert judged(rows) == rows
    wrong = [
        ("twenty-fifteen", "35"),
        ("twenty-fifth", "25"),
        ("one two", "12"),
        ("not sixteen", "16"),
        ("two", r"\frac12"),
        (r"\ell n x", r"\ln x"),
        (r"\varphi", r"\theta"),
    ]
    assert judged([row for answer, gold in wrong for row in in_boxes([answer], gold)]) == []
