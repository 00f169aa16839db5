"""Text that encodes data is read where there is one way to read it; words that stand for no answer give none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import run_script, trace, write_lines

from luffy.data import prepare
from luffy.data.gold import is_sentinel, read_gold
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import KEEP, NONE, system_rewriter
from luffy.data.text import decoded
from luffy.errors import InputError

pytestmark = pytest.mark.usefixtures("shared_grader")

CHAT = [{"role": "user", "content": 'It\'s "1+1"?\nSay.'}, {"role": "assistant", "content": "\\boxed{2}"}]

# What writers make of lists and chats, and what it says.
ENCODED = {
    "json": (json.dumps(CHAT), CHAT),
    "json with raw line breaks": ('["a\nb"]', ["a\nb"]),
    "python": (repr(CHAT), CHAT),
    "numpy strings": (str(np.array(["a b", "it's"], dtype=object)), ["a b", "it's"]),
    "numpy messages": (str(np.array(CHAT, dtype=object)), CHAT),
    "numpy, adjoining": ("['a''b']", ["a", "b"]),
    "missing in python": ("[None, 'a', nan]", [None, "a", None]),
    "missing in json": ('["a", null]', ["a", None]),
    "empty": ("[]", []),
    "lists in a list": ("[['a'], ['b']]", [["a"], ["b"]]),
    "an object": ('{"ground_truth": "1", "style": "rule"}', {"ground_truth": "1", "style": "rule"}),
    "spaces around": (' \n["a"]\n', ["a"]),
    "escaped text": ('"two\\nlines"', "two\nlines"),
    "a list in a text": (json.dumps(json.dumps(["a"])), ["a"]),
    "a tuple of text": ("('a',)", ["a"]),
    "arrays in an object": (
        repr({"ground_truth": np.array(["1"], dtype=object), "style": "rule"}),
        {"ground_truth": ["1"], "style": "rule"},
    ),
    "arrays with their type": (repr(np.array(["a", "b"])), ["a", "b"]),
    "an array of numbers": (repr(np.array([1, 2])), [1, 2]),
    "latex, escaped": (r'["\\boxed{\\frac{1}{2}}"]', [r"\boxed{\frac{1}{2}}"]),
}
# What begins like data and is none: mathematics, code, prose.
PLAIN = [
    "What is 1+1?", "[1, 2]", "[[1, 0], [0, 1]]", "[[a, b], [c, d]]", "[5)", "[x] + [y]", "[asy]draw((0,0));[/asy]",
    '["a", "b"] is a list. How long is it?', "['a'] + ['b'] is what in Python?", "{1, 2, 3}", "{x : x > 0}", '{"a", "b"}',
    '"quoted"', '"To be" and "not to be"', "[[x]] is the floor", "", "[", "{", "(1, 2)", "[1] Find $x$.",
    "array([1, 2]) is what in numpy?", "array", "(\"To be\" he said)", "('a', 'b') is a tuple.", "(\"cut",
]  # fmt: skip
# What was data once, and cannot be read any more.
BROKEN = [
    '[{"role": "user", "content": "cut o', "[{'content': 'cut', 'role", '["first trace", "second tr', '{"ground_truth": "1"',
    '["\\boxed{1}"]', "['\\frac{1}{2}']", "['\\(x\\)']", "['it's']", "[" * 100_000 + '"a"' + "]" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_encoded_text_is_read(name: str):
    text, value = ENCODED[name]
    assert decoded(text) == value


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_left_alone(text: str):
    assert decoded(text) == text


@pytest.mark.parametrize("text", BROKEN)
def test_broken_data_is_refused(text: str):
    with pytest.raises(InputError):
        decoded(text)


SENTINELS = [
    "proof", "Proof.", "(proof)", "\\text{proof}", "**Proof**", "notfound", "not found", "Answer not found", "None", "none.",
    "null", "NULL", "N/A", "n/a", "N.A.", "#N/A", "<NA>", "nan", "NaN", "see solution", "See the solution above.",
    "Please see the solution", "refer to the proof", "see explanation below", "no answer", "No answer provided", "unknown",
    "Not available", "not applicable", "TBD", "QED", "q.e.d.", "to be proved", "omitted", "-", "--", "?", "...", "#REF!",
    "$\\text{None}$", '"None"', " proof ", "\\boxed{\\text{proof}}", "$\\boxed{\\mathrm{N/A}}$", "Answer: N/A", "The final answer is none.",
    "not_found", "NO-ANSWER", "N / A", "N. A.", "n\\a", "\\(N/A\\)", "Ｎ／Ａ", "\u200bNone", "<none>", "-nan", "none given", "unavailable",
    "solution not available", "to be added", "answers may vary", "<answer>", "[answer]", "your answer here", "$ $", "\\boxed{}", "\\text{ }",
    "—", "…", "？", "■", "$\\blacksquare$", "\\square", "Proof-based question", "a proof of the theorem", "Show that $a > b$.", "Hence proved.",
    "see attached figure", "as shown above", "证明题", "略", "见解析", "无", "暂无答案", "証明略", "なし", "解説参照", "증명", "풀이 참조", "доказательство",
    "нет ответа", "см. решение", "siehe Lösung", "Beweis", "voir la solution", "démonstration", "ver solución", "demostración", "dimostrazione",
]  # fmt: skip
ANSWERS = [
    "0", "-1", "no solution", "undefined", "does not exist", "\\emptyset", "\\varnothing", "\\ldots", "n", "na", "NA", "nil^2",
    "proofreading", "x = none", "\\text{no real solutions}", "-x", "n/2", "A", "None of these", "All of the above", "unknown x",
    "\\infty", "1/0", "...5", "cannot be determined", "{}", "()", "∅", "<", "无解", "нет решений", "keine Lösung", "无数个", "n-a", "$n a$",
    "\\frac{n}{a}", "XXX", "no real roots", "answer sheet 5",
]  # fmt: skip


@pytest.mark.parametrize("text", SENTINELS)
def test_words_for_no_answer_are_none(text: str):
    assert is_sentinel(text)
    gold = read_gold(text, "answer")
    assert gold.text == "" and "stands for no answer" in gold.note


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_that_look_like_none_stay(text: str):
    assert not is_sentinel(text)
    assert read_gold(text, "answer").text == text


GOLDS: list[tuple[Any, str]] = [
    ("7", "7"), (7, "7"), (7.5, "7.5"), ('["7"]', "7"), ("['7']", "7"), (["7"], "7"), ([7], "7"), ({"ground_truth": "7"}, "7"),
    ({"ground_truth": '["7"]', "style": "rule"}, "7"), ('{"ground_truth": "7", "style": "rule"}', "7"),
    ("{'style': 'rule', 'ground_truth': 7}", "7"), ('"7"', "7"), ('"\\frac{1}{2}"', "\\frac{1}{2}"), ("[1, 2]", "[1, 2]"),
    ("\\boxed{7}", "7"), ("so\n#### 1,200", "1,200"), ("so\n#### 7\nThe answer is: 7", "7"),
    ("It adds up. The answer is: $\\frac{1}{2}$", "$\\frac{1}{2}$"), ("The final answer is 7. I hope it is correct.", "7"),
    ("The answer is: 3.5.", "3.5"), ("<think>\n\\boxed{3}\n</think>\nIt is \\boxed{7}", "7"),
    (float("nan"), ""), (float("inf"), ""), (None, ""), ("", ""), ([], ""), ("[]", ""), ("['None']", ""), ({"ground_truth": None}, ""),
    ("9" * 5000, "9" * 5000), (["7", "7"], "7"), (["7", None], "7"), ("np.float64(7.5)", "7.5"), ("Decimal('7')", "7"), ("array(['7'], dtype=object)", "7"),
    ("('7',)", "7"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), GOLDS, ids=lambda value: repr(value)[:40])
def test_gold_answers(value: Any, text: str):
    assert read_gold(value, "answer").text == text


@pytest.mark.parametrize(
    "value", ["[7]", "[ -7.5 ]", "array([1, 2])", '["1", "2"]', ["1", "2"], {"score": 1}, '{"score": 1}', True, b"7", '["7'], ids=repr
)
def test_golds_that_could_mean_two_things_are_refused(value: Any):
    with pytest.raises(InputError):
        read_gold(value, "answer")


def test_a_solution_without_a_marked_answer_is_no_gold():
    assert read_gold("It is seven.", "solution", solution=True).text == ""
    assert read_gold("It is seven.", "answer").text == "It is seven."
    assert read_gold("So \\boxed{7}.", "solution", solution=True).text == "7"
    assert read_gold(" $\\frac{1}{2}$ ", "solution", solution=True).text == "$\\frac{1}{2}$"  # as s1K's, which are answers


def read(path: Path) -> list:
    source = open_source(SourceSpec(location=str(path), teacher="r1"), system=system_rewriter(NONE))
    return [source.layout.read(row, "row") for batch in source.batches(source.files[0], 9) for row in batch.rows()]


QUESTION = "What is one plus one?"
USER = [{"role": "user", "content": QUESTION}]
MESSAGES = [*USER, {"role": "assistant", "content": trace("2")}]
# One row of each layout, all of them the same problem.
ROWS: dict[str, dict[str, Any]] = {
    "plain": {"problem": QUESTION, "generations": [trace("2")], "answer": "2"},
    "traces as json": {"problem": QUESTION, "generations": json.dumps([trace("2")]), "answer": "2"},
    "traces as python": {"problem": QUESTION, "generations": repr([trace("2")]), "answer": "2"},
    "a trace as an escaped text": {"problem": QUESTION, "solution": json.dumps(trace("2")), "answer": "2"},
    "prompt as json": {"prompt": json.dumps(USER), "response": trace("2"), "answer": "2"},
    "prompt as python": {"prompt": repr(USER), "response": trace("2"), "answer": "2"},
    "prompt in a list": {"prompt": [QUESTION], "response": trace("2"), "answer": "2"},
    "prompt as one message": {"prompt": USER[0], "response": trace("2"), "answer": "2"},
    "messages as text": {"messages": json.dumps(MESSAGES), "answer": "2"},
    "conversations as text": {
        "conversations": repr([{"from": "human", "value": QUESTION}, {"from": "gpt", "value": trace("2")}]), "answer": "2",
    },
    "target as text": {"prompt": USER, "target": json.dumps(MESSAGES[1:]), "reward_model": {"ground_truth": "2"}},
    "target as text of one message": {"prompt": USER, "target": repr(MESSAGES[1]), "answer": "2"},
    "reward_model as text": {"prompt": USER, "target": MESSAGES[1:], "reward_model": '{"ground_truth": "2", "style": "rule"}'},
    "reward_model as python": {"prompt": USER, "target": MESSAGES[1:], "reward_model": "{'ground_truth': ['2']}"},
    "ground truth as text": {"prompt": USER, "target": MESSAGES[1:], "reward_model": {"ground_truth": '["2"]'}},
    "alpaca": {"instruction": "What is one", "input": "plus one?", "output": trace("2"), "answer": "2"},
    "alpaca, no input": {"instruction": QUESTION, "input": "", "output": trace("2"), "answer": "2"},
    "metamath": {"query": QUESTION, "response": f"{trace('2')}\nThe answer is: 2"},
    "gsm8k": {"question": QUESTION, "solution": trace("2"), "answer": "It is 2.\n#### 2"},
    "deepmath": {"question": QUESTION, "final_answer": "2", "r1_solution_1": trace("2"), "r1_solution_2": trace("2", "or"),
                 "r1_solution_3": None},
    "reasoning apart": {
        "messages": [*USER, {"role": "assistant", "reasoning_content": "so", "content": "\\boxed{2}"}], "answer": "2",
    },
    "parts of a message": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}, MESSAGES[1]], "answer": "2",
    },
    "traces as messages": {"problem": QUESTION, "generations": [MESSAGES[1]], "answer": "2"},
    "traces as texts of messages": {"problem": QUESTION, "generations": [json.dumps(MESSAGES[1])], "answer": "2"},
    "s1K": {"question": QUESTION, "solution": "2", "thinking_trajectories": ["so"], "attempt": "\\boxed{2}"},
    "a thought beside its response": {"question": QUESTION, "reasoning": "so", "response": "\\boxed{2}", "answer": "2"},
    "a teacher's thought": {"problem": QUESTION, "deepseek_reasoning": "so", "deepseek_solution": "\\boxed{2}", "ground_truth_solution": "\\boxed{2}"},
    "a thought of each": {"problem": QUESTION, "reasoning": "['so']", "completion": ["\\boxed{2}"], "answer": "2"},
    "objects with text": {"problem": QUESTION, "generations": [{"text": trace("2")}], "answer": "2"},
    "other names of roles": {"conversations": [{"from": "Human", "value": QUESTION}, {"from": "Assistant", "value": trace("2")}], "answer": "2"},
    "a trace as a chat": {"problem": QUESTION, "response": MESSAGES, "answer": "2"},
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_every_layout_says_the_same(tmp_path: Path, name: str):
    (example,) = read(write_lines(tmp_path / "x.jsonl", [ROWS[name]]))
    assert " ".join(example.question.split()) == QUESTION
    assert example.gold == "2"
    assert len(example.traces) == (2 if name == "deepmath" else 1)
    assert example.traces[0].text.count("\\boxed{2}") == 1 and example.traces[0].text.startswith("<think>\nso\n</think>")
    assert not example.traces[0].text.startswith(("[", "{", '"'))


def test_input_of_a_later_row_is_read_as_well(tmp_path: Path):
    rows = [
        {"instruction": QUESTION, "output": "t", "answer": "2"},
        {"instruction": "Add.", "input": "1, 1", "output": "t", "answer": "2"},
    ]
    assert [example.question for example in read(write_lines(tmp_path / "x.jsonl", rows))] == [QUESTION, "Add.\n\n1, 1"]


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_message_of_its_own_column_is_kept(tmp_path: Path, column: str):
    own, chat = {"role": "system", "content": "Be brief."}, [{"role": "system", "content": "Be long."}, *USER]
    rows = [{"prompt": prompt, "response": "t", "answer": "2", column: "Be brief."} for prompt in (QUESTION, USER, chat)]
    source = open_source(SourceSpec(location=str(write_lines(tmp_path / "x.jsonl", rows))), system=system_rewriter(KEEP))
    found = [source.layout.read(row, "row").prompt[0] for batch in source.batches(source.files[0], 9) for row in batch.rows()]
    assert found == [own, own, chat[0]]


HALF = "\\ud83d"
GOOD = json.dumps(ROWS["plain"])
# Lines that no row can be made of, each for another reason.
BAD_LINES = {
    "half a character in the prompt": GOOD.replace("plus", HALF),
    "half a character in a trace": GOOD.replace("so", HALF),
    "half a character in the answer": GOOD.replace('"answer": "2"', f'"answer": "{HALF}"'),
    "half a character as bytes": GOOD.replace("plus", "\udce2"),
    "half a character in a role": json.dumps({"problem": [{"role": "\ud83d", "content": "q"}], "generations": [], "answer": "2"}),
    "a cut chat": json.dumps({"prompt": '[{"role": "user", "con', "generations": [], "answer": "2"}),
    "a cut list": json.dumps({"problem": "q", "generations": '["<think>a', "answer": "2"}),
    "several answers": json.dumps({"problem": "q", "generations": [], "answer": '["1", "2"]'}),
    "a number as prompt": json.dumps({"problem": 17, "generations": [], "answer": "2"}),
    "cut off": GOOD[:40],
    "deep": '{"problem": "q", "generations": ' + "[" * 600 + "]" * 600 + ', "answer": "2"}',
    "deeper": '{"problem": "q", "generations": ' + "[" * 100_000 + "]" * 100_000 + ', "answer": "2"}',
    "no object": '["a"]',
    "a column twice": GOOD[:-1] + ', "answer": "3"}',
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_row_is_one_line_or_dropped_and_counted(monkeypatch, tmp_path, capsys, name):
    source, output = tmp_path / "x.jsonl", tmp_path / "t.parquet"
    line = BAD_LINES[name].replace('"prompt":', '"problem":').encode("utf-8", "surrogateescape")
    source.write_bytes(GOOD.encode() + b"\n" + line + b"\n")
    arguments = ["prepare_train.py", "--source", source, "--output", output, "--no-verify"]
    assert run_script(monkeypatch, *arguments) == 2
    (error,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert "x.jsonl" in error and ("row 1" in error or "line 2" in error) and "--drop-malformed" in error
    assert run_script(monkeypatch, *arguments, "--drop-malformed") == 0
    assert pq.read_metadata(output).num_rows == 1
    assert '"malformed": 1' in (tmp_path / "t_report" / "report.json").read_text()


def test_parts_made_with_dropped_rows_are_not_used_without(monkeypatch, tmp_path, capsys):
    rows = [ROWS["plain"] | {"problem": f"What is {n} plus one?"} for n in range(9)]
    source = write_lines(tmp_path / "x.jsonl", [*rows, ROWS["plain"] | {"problem": 17}])
    arguments = ["prepare_train.py", "--source", source, "--output", tmp_path / "t.parquet", "--no-verify"]
    monkeypatch.setattr(prepare, "write_merged", lambda *_, **__: (_ for _ in ()).throw(InputError("stopped")))
    assert run_script(monkeypatch, *arguments, "--drop-malformed") == 2
    assert run_script(monkeypatch, *arguments) == 2
    assert "row 9: column 'problem' holds int" in capsys.readouterr().err


def test_a_bad_first_row_and_a_short_csv_row_are_dropped_as_well(monkeypatch, tmp_path):
    (tmp_path / "x.jsonl").write_text("{broken\n" + GOOD + "\n")
    (tmp_path / "y.csv").write_text(f'problem,generations,answer\nq,t\nWhat is 1+1?,"{trace("2")}",2\n')
    for name in ("x.jsonl", "y.csv"):
        output = tmp_path / f"{name}.parquet"
        command = [
            "prepare_train.py",
            "--source",
            tmp_path / name,
            "--output",
            output,
            "--no-verify",
            "--drop-malformed",
        ]
        assert run_script(monkeypatch, *command) == 0
        assert pq.read_metadata(output).num_rows == 1


@pytest.mark.parametrize("answer", ["9" * 5000, "NaN", "Infinity", "1e5000", "-" + "9" * 5000, "0." + "3" * 5000])
def test_no_number_is_a_traceback(monkeypatch, tmp_path, answer):
    (tmp_path / "x.jsonl").write_text(GOOD + "\n" + GOOD.replace('"2"', answer).replace("one plus", "five plus") + "\n")
    output = tmp_path / "t.parquet"
    assert (
        run_script(
            monkeypatch,
            "prepare_train.py",
            "--source",
            tmp_path / "x.jsonl",
            "--output",
            output,
            "--num-workers",
            1,
            "--time-limit",
            1,
        )
        == 0
    )
    assert pq.read_metadata(output).num_rows == 1


def test_text_that_is_no_utf_8_in_a_parquet_file_is_its_row(monkeypatch, tmp_path, capsys):
    bad = pa.array([b"What is 1+1?", b"half \xed\xa0\xbd"], pa.binary()).view(pa.string())
    table = pa.table({"problem": bad, "generations": [[trace("2")]] * 2, "answer": ["2", "2"]})
    pq.write_table(table, tmp_path / "x.parquet")
    command = [
        "prepare_train.py",
        "--source",
        tmp_path / "x.parquet",
        "--output",
        tmp_path / "t.parquet",
        "--no-verify",
    ]
    assert run_script(monkeypatch, *command) == 2
    assert "x.parquet row 1 cannot be read" in capsys.readouterr().err
    assert run_script(monkeypatch, *command, "--drop-malformed") == 0
    assert pq.read_metadata(tmp_path / "t.parquet").num_rows == 1
