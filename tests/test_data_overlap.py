"""A training prompt whose problem is in an evaluation set is found: whole, within instructions, or nearly."""

from __future__ import annotations

import json
import time

import pytest
from data_sets import read_rows, run_script, trace, write_lines

from luffy.data.overlap import EvaluationPrompts

pytestmark = pytest.mark.usefixtures("shared_grader")

LONG = (
    "A rectangular garden of 24 meters by 36 meters is surrounded by a path of equal width. If the area of the path is 496 "
    "square meters, how wide is the path?"
)
LATEX = "Let $f(x) = \\frac{3x-2}{x-2}$. What is the value of $f(-2) + f(-1) + f(0)$? Express your answer as a common fraction."
SHORT = "Compute $\\sin 45^\\circ$."
AFTER = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
BEFORE = "Solve the following math problem step by step.\n\n"


@pytest.fixture(scope="module")
def prompts() -> EvaluationPrompts:
    evaluation = EvaluationPrompts()
    for question, name in [(LONG, "garden"), (LATEX, "latex"), (SHORT, "short"), ("1+1=", "sums")]:
        evaluation.add(question, name)
    return evaluation


FOUND = {
    "exact": [(LONG, "exact: garden"), (f" {SHORT}\n", "exact: short"), ("1+1=", "exact: sums")],
    "normalised": [
        (LONG.replace(" ", "  "), "normalised: garden"),
        (LONG.replace(". ", ".\n\n").upper(), "normalised: garden"),
        (LONG.replace(" of ", "\u00a0of\u2009"), "normalised: garden"),
        (LATEX.replace("\\frac", "\\dfrac").replace("$", ""), "normalised: latex"),
        (LONG.replace(" ", "\u200b "), "normalised: garden"),
        (LONG.replace("24", "２４").replace(",", "，").replace("?", "？"), "normalised: garden"),
        (LONG.replace("24 meters", "$24\\text{ meters}$").replace("36 ", "36~"), "normalised: garden"),
        (LATEX.replace("-", "\u2212").replace("\\frac", "\\cfrac"), "normalised: latex"),
        (LATEX.replace("f(", "\\mathrm{f}("), "normalised: latex"),
        (SHORT.replace("^\\circ", "°"), "normalised: short"),
        (SHORT.replace("^\\circ", "^{\\circ}"), "normalised: short"),
        (LATEX.replace("$f(x)", "\\(f(x)").replace(" = ", "=").replace(" + ", "\\, +\\;"), "normalised: latex"),
    ],
    "contained": [
        (BEFORE + LONG, "contained: garden"),
        (LONG + AFTER, "contained: garden"),
        (BEFORE + LATEX.replace(" ", "  ") + AFTER, "contained: latex"),
        (f"Question: {LATEX} Answer:", "contained: latex"),
        (f"<problem>{LONG}</problem>", "contained: garden"),
        (
            f"You are a careful mathematician. {LONG} Show your work. The answer must be an integer.",
            "contained: garden",
        ),
        (BEFORE + SHORT, "contained: short"),
        (f"**{SHORT}**", "contained: short"),
        (f"{SHORT} Let's think step by step.", "contained: short"),
    ],
    "near": [
        (LONG.replace("garden", "field"), "near: garden"),
        (LONG.replace("surrounded", "surounded").replace("rectangular", "rectangluar"), "near: garden"),
        (BEFORE + LONG.replace("how wide is the path", "find the width of the path") + AFTER, "near: garden"),
        (LONG.replace("meters", "metres"), "near: garden"),
        (LATEX.partition(" Express")[0], "near: latex"),
        (LATEX.replace("f(", "g("), "near: latex"),
    ],
    "": [
        (LONG.replace("36", "38"), ""),
        (LONG.replace("496", "49"), ""),
        (LONG.replace("496", "-496"), ""),
        (LATEX.replace("3x-2", "3x+2"), ""),
        ("1 + 1 =", ""),
        ("Compute $\\sin 45^\\circ + \\cos 30^\\circ$.", ""),
        ("A garden has a path. How wide is it?", ""),
        ("What is the value of $f(0)$?", ""),
        ("How many integers lie between $3$ and $9$, if the area of the path is what it is?", ""),
        ("", ""),
        ("\ud83d" * 50, ""),
    ],
}


@pytest.mark.parametrize(("question", "place"), [pair for pairs in FOUND.values() for pair in pairs], ids=lambda text: text[:40])
def test_what_overlaps(prompts: EvaluationPrompts, question: str, place: str):
    found = prompts.find(question)
    assert (found.place if found else "") == place


def test_a_near_problem_says_how_near_and_to_which(prompts: EvaluationPrompts):
    detail = prompts.find(LONG.replace("garden", "field")).detail
    share, _, like = detail.partition(" like ")
    assert 0.9 < float(share) < 1 and like == repr(LONG[:60] + "...")


@pytest.mark.parametrize("number", ["1200", "1,200", "1{,}200", "1\\,200"])
def test_numbers_of_thousands_are_the_same_in_every_spelling(number: str):
    evaluation = EvaluationPrompts()
    evaluation.add("A town of $1,200$ people grows by a tenth in each year. How many live there after three years?", "town")
    assert evaluation.find(f"A town of ${number}$ people grows by a tenth in each year. How many live there after three years?")
    assert not evaluation.find("A town of 1,300 people grows by a tenth in each year. How many live there after three years?")


def test_the_threshold_decides():
    strict, lenient = EvaluationPrompts(0.99), EvaluationPrompts(0.5)
    for evaluation in (strict, lenient):
        evaluation.add(LONG, "garden")
    changed = LONG.replace("garden", "field").replace("surrounded by", "inside of")
    assert strict.find(changed) is None
    assert lenient.find(changed).kind == "near"
    assert strict.find(BEFORE + LONG).kind == "contained"
    assert strict.fingerprint() != lenient.fingerprint()


def test_an_evaluation_set_with_instructions_is_found_without_them():
    evaluation = EvaluationPrompts()
    evaluation.add(BEFORE + LONG + AFTER, "garden")
    assert evaluation.find(LONG).place == "normalised: garden"
    assert evaluation.find("Work it out: " + LONG).place == "contained: garden"


def test_the_cost_of_a_prompt_is_small():
    evaluation = EvaluationPrompts()
    for number in range(1600):
        evaluation.add(f"{LONG} This is variant number {number} of the problem.", "garden")
    start = time.process_time()
    for number in range(200):
        assert evaluation.find(f"{LONG} This is variant number {number + 5000} of the problem.") is None
    assert time.process_time() - start < 2  # 46 000 of them: below 8 minutes on a machine that is ten times too busy


def test_the_command_lists_names_and_drops(monkeypatch, tmp_path, capsys):
    questions = [LONG.replace("garden", "field"), BEFORE + LATEX, "Something else entirely, with 7 apples?"]
    source = write_lines(tmp_path / "a.jsonl", [{"problem": q, "generations": [trace("2")], "answer": "2"} for q in questions])
    sets = write_lines(tmp_path / "e.jsonl", [{"problem": q, "answer": "1"} for q in (LONG, LATEX)])
    output = tmp_path / "t.parquet"
    command = ["prepare_train.py", "--source", source, "--output", output, "--eval-files", sets, "--num-workers", 1]
    assert run_script(monkeypatch, *command) == 2
    assert "2 prompts are in the evaluation sets (contained: e 1, near: e 1)" in capsys.readouterr().err
    assert run_script(monkeypatch, *command, "--on-overlap", "drop") == 0
    listed = [json.loads(line) for line in (tmp_path / "t_report" / "dropped.jsonl").read_text().splitlines()]
    assert [drop["detail"][:12] for drop in listed] == ["near: e (0.9", "contained: e"]
    assert len(read_rows(output)) == 1
    assert run_script(monkeypatch, *command, "--overlap-threshold", 1, "--on-overlap", "drop") == 0
    assert len(read_rows(output)) == 2
