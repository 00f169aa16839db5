"""Samples of other programs and of broken-off runs: read where their meaning is clear, else refused in one line."""

import json
from pathlib import Path

import pytest

from luffy.errors import InputError
from luffy.evaluation.manifest import GENERATION, PLAN, claim, note, note_environment, read_manifest
from luffy.evaluation.report import ReportRequest, plot_lengths, plot_pass_at_k, write_report
from luffy.evaluation.results import merge, read_result
from luffy.evaluation.samples import read_rows
from luffy.evaluation.scoring import Scoring, score
from luffy.evaluation.tables import make_tables, to_csv, to_markdown

pytestmark = pytest.mark.usefixtures("shared_grader")

SCORED = {
    "benchmark": "math500", "problem": 0, "sample": 0, "prompt": "q", "response": "\\boxed{3}", "gold": "3", "answer": "3",
    "correct": True, "reason": "correct", "length": 5, "finish_reason": "stop",
}  # fmt: skip
GENERATED = {name: SCORED[name] for name in ("benchmark", "problem", "sample", "response", "gold")}


def write(path: Path, rows: list[dict], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + end)
    return path


def result_of(path: Path, *, model: str | None = None, rows: list[dict] | None = None, **generation) -> Path:
    if model is not None:
        parameters = {"model": model, "temperature": 0.6, **generation}
        claim(path, GENERATION, parameters, results=path.with_name("none"), overwrite=False)
    return write(path, rows or [SCORED])


def without(name: str) -> dict:
    return {key: value for key, value in SCORED.items() if key != name}


@pytest.mark.parametrize(
    ("value", "right"),
    [(True, 1), (False, 0), ("True", 1), ("true", 1), (" TRUE ", 1), ("False", 0), ("false", 0), ("FALSE", 0)]
    + [(1, 1), (0, 0), (1.0, 1), (0.0, 0), ("1", 1), ("0", 0)],
)
def test_verdicts_in_usual_spellings(tmp_path, value, right):
    result = read_result(write(tmp_path / "a.jsonl", [{**SCORED, "correct": value}]))
    assert result.benchmarks["math500"].accuracy().value == right


@pytest.mark.parametrize("value", ["maybe", "", "yes and no", 0.5, 2, -1, float("nan"), [], [True], {"a": 1}])
def test_verdicts_that_are_not_clear(tmp_path, value):
    with pytest.raises(InputError, match=r"a.jsonl: line 2: 'correct' is .*; write true or false"):
        read_result(write(tmp_path / "a.jsonl", [SCORED, {**SCORED, "sample": 1, "correct": value}]))


@pytest.mark.parametrize("row", [without("correct"), {**SCORED, "correct": None}])
def test_a_row_without_a_verdict_is_not_scored(tmp_path, row):
    with pytest.raises(InputError, match="line 1: its samples are not scored"):
        read_result(write(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": "five"}, "line 1: 'length' is 'five'; it must be a number of tokens"),
        ({"length": -1}, "'length' is -1"),
        ({"length": float("nan")}, "'length' is nan"),
        ({"length": 10**400}, "'length' is 1000"),
        ({"finish_reason": 3}, "'finish_reason' is 3; it must be text"),
        ({"reason": ["a"]}, "'reason' is .*; it must be text"),
        ({"benchmark": None}, "'benchmark' is None; it must be text"),
        ({"benchmark": ""}, "'benchmark' is ''"),
        ({"benchmark": "a\nb"}, r"'benchmark' is 'a\\nb'; it must be text on one line"),
        ({"benchmark": "\ud800"}, "it must be text on one line"),
        ({"problem": "aime-3"}, "line 1: 'problem' and 'sample' must be whole numbers"),
        ({"problem": 1.5}, "must be whole numbers"),
        ({"sample": True}, "must be whole numbers"),
    ],
)
def test_values_of_other_types(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_result(write(tmp_path / "a.jsonl", [{**SCORED, **change}]))


@pytest.mark.parametrize("name", ["length", "finish_reason", "reason", "answer", "prompt", "response", "gold"])
def test_what_is_not_there_is_not_known_and_not_nothing(tmp_path, name):
    (table,) = make_tables([read_result(write(tmp_path / "a.jsonl", [without(name)]))])
    cell = table.rows[0].cells["math"]
    assert cell.accuracy.value == 100.0
    assert (cell.truncated is None, cell.unanswered is None) == (name == "finish_reason", name == "answer")
    assert ("| – |" in to_markdown([table])) == (name in ("finish_reason", "answer"))


def test_a_figure_without_any_lengths_is_not_drawn(tmp_path):
    result = read_result(write(tmp_path / "a.jsonl", [without("length")]))
    assert not plot_lengths([result], tmp_path / "lengths") and not plot_pass_at_k([result], tmp_path / "pass")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("reason", ["length", "LENGTH", "max_tokens", "max_new_tokens", "max_length", "truncated"])
def test_every_programs_word_for_a_cut_is_one(tmp_path, reason):
    rows = [{**SCORED, "finish_reason": reason}, {**SCORED, "sample": 1, "finish_reason": "eos"}]
    result = read_result(write(tmp_path / "a.jsonl", rows))
    assert result.benchmarks["math500"].truncated == 0.5
    score(write(tmp_path / "b.decoded.jsonl", [{**GENERATED, "response": "so", "finish_reason": reason}]), Scoring(workers=1))
    assert [row["reason"] for row in read_rows(tmp_path / "b.jsonl")] == ["truncated"]


@pytest.mark.parametrize("answer", [None, "", " ", float("nan")])
def test_an_empty_answer_is_none(tmp_path, answer):
    result = read_result(write(tmp_path / "a.jsonl", [{**SCORED, "answer": answer}, {**SCORED, "sample": 1, "answer": 0}]))
    assert result.benchmarks["math500"].unanswered == 0.5


@pytest.mark.parametrize("column", ["model", "model_name", "model_path", "model_id"])
def test_lines_of_two_models_are_two_results(tmp_path, column):
    rows = [{**SCORED, column: "A"}, {**SCORED, "problem": 1, column: "B"}]
    with pytest.raises(InputError, match=f"line 2: '{column}' is 'B', 'A' before: these are results of two models"):
        read_result(write(tmp_path / "a.jsonl", rows))
    assert read_result(write(tmp_path / "b.jsonl", rows[:1])).benchmarks["math500"].total == 1


def test_names_that_look_the_same_are_the_same(tmp_path):
    files = [result_of(tmp_path / name / "r.jsonl", model=name) for name in "AB"]
    with pytest.raises(InputError, match="'m' names .* which are of two models"):
        write_report(ReportRequest(results=files, names=["m", " m"], output_dir=tmp_path / "report"))


@pytest.mark.parametrize(
    ("line", "what"), [('{"doc_id": 0, "target": "3"}', "no 'problem'"), ("[1]", "no object"), ("{", "no JSON"), ('"a"', "no object")]
)
def test_lines_of_other_programs_say_what_a_sample_has(tmp_path, line, what):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(InputError) as error:
        read_result(tmp_path / "a.jsonl")
    assert f"line 1 is not a sample ({what})" in str(error.value) and "'benchmark', 'problem' and 'sample'" in str(error.value)


def test_scores_are_never_those_of_other_responses(tmp_path):
    """A file of samples that took another one's place: its scores are not there, whatever the manifest knows."""
    decoded = write(tmp_path / "a.decoded.jsonl", [GENERATED, {**GENERATED, "problem": 1}])
    score(decoded, Scoring(workers=1))
    score(write(decoded, [GENERATED, {**GENERATED, "problem": 1}, {**GENERATED, "problem": 2}]), Scoring(workers=1))
    assert len(list(read_rows(tmp_path / "a.jsonl"))) == 3  # it goes on
    before = (tmp_path / "a.jsonl").read_bytes()
    for rows in ([{**GENERATED, "response": "\\boxed{4}"}], [{**GENERATED, "gold": "4"}], [GENERATED]):
        with pytest.raises(InputError, match="a.jsonl: holds the score of another response .*--overwrite"):
            score(write(decoded, rows), Scoring(workers=1))
        assert (tmp_path / "a.jsonl").read_bytes() == before
    score(write(decoded, [{**GENERATED, "response": "\\boxed{4}"}]), Scoring(workers=1), overwrite=True)
    assert [row["correct"] for row in read_rows(tmp_path / "a.jsonl")] == [False]


def test_a_number_of_5000_digits_is_read(tmp_path):
    (tmp_path / "a.decoded.jsonl").write_text(json.dumps({**GENERATED, "gold": 0}).replace('"gold": 0', '"gold": ' + "9" * 5000))
    score(tmp_path / "a.decoded.jsonl", Scoring(workers=1))
    assert [row["gold"] for row in read_rows(tmp_path / "a.jsonl")] == ["9" * 5000]


def test_a_sample_twice_is_two_results_in_one_file(tmp_path):
    with pytest.raises(InputError, match="line 2: problem 0 has sample 0 twice"):
        read_result(write(tmp_path / "a.jsonl", [SCORED, {**SCORED, "correct": False}]))
    with pytest.raises(InputError, match="line 2: problem 0 has sample 0 twice"):
        score(write(tmp_path / "a.decoded.jsonl", [GENERATED, GENERATED]), Scoring())


def test_problems_may_be_numbered_in_each_benchmark(tmp_path):
    result = read_result(write(tmp_path / "a.jsonl", [SCORED, {**SCORED, "benchmark": "aime24", "correct": False}]))
    assert [each.accuracy().value for each in result.benchmarks.values()] == [1.0, 0.0]


def test_two_spellings_of_a_benchmark_are_one_column(tmp_path):
    rows = [{**SCORED, "benchmark": "MATH-500"}, {**SCORED, "benchmark": "HuggingFaceH4/MATH-500", "correct": False}]
    (table,) = make_tables([read_result(write(tmp_path / "a.jsonl", rows))])
    assert [entry.title for entry in table.benchmarks] == ["MATH-500"]
    assert (table.rows[0].cells["math"].problems, table.rows[0].cells["math"].accuracy.value) == (2, 50.0)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", '\n{"benchmark": "ma'])
def test_a_whole_last_line_counts_with_or_without_its_end(tmp_path, end):
    rows = [GENERATED, {**GENERATED, "problem": 1}]
    score(write(tmp_path / "a.decoded.jsonl", rows, end=end), Scoring(workers=1))
    assert [row["correct"] for row in read_rows(tmp_path / "a.jsonl")] == [True, True]
    result = read_result(write(tmp_path / "b.jsonl", [SCORED, {**SCORED, "problem": 1}], end=end))
    assert result.benchmarks["math500"].total == 2


def test_generated_rows_of_other_programs_are_scored(tmp_path):
    score(write(tmp_path / "a.decoded.jsonl", [GENERATED]), Scoring(workers=1))
    (row,) = read_rows(tmp_path / "a.jsonl")
    assert (row["correct"], row["length"], row["finish_reason"], row["prompt"]) == (True, None, None, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response": None}, "line 1: 'response' is None; it must be text"),
        ({"response": ["a"]}, "'response' is .*; it must be text"),
        ({"gold": None}, "line 1: no gold answer"),
        ({"gold": ""}, "no gold answer"),
        ({"gold": float("nan")}, "no gold answer"),
        ({"gold": True}, "no gold answer"),
        ({"benchmark": 7}, "'benchmark' is 7"),
        ({"length": "x"}, "'length' is 'x'"),
    ],
)
def test_generated_rows_that_cannot_be_scored_leave_nothing_behind(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        score(write(tmp_path / "a.decoded.jsonl", [{**GENERATED, **change}]), Scoring())
    assert [path.name for path in tmp_path.iterdir()] == ["a.decoded.jsonl"]


def test_results_of_two_models_are_never_one_row(tmp_path):
    a = result_of(tmp_path / "a" / "results.jsonl", model="A", model_fingerprint="1")
    b = result_of(tmp_path / "b" / "results.jsonl", model="B", model_fingerprint="2", rows=[{**SCORED, "benchmark": "aime24"}])
    for name in (None, "m"):
        with pytest.raises(InputError, match=r"results.jsonl and .*of two models \(A and B\); name each with --names"):
            merge([read_result(a, name=name), read_result(b, name=name)])
    assert [each.name for each in merge([read_result(a, name="a"), read_result(b, name="b")])] == ["a", "b"]


def test_two_models_at_two_temperatures_are_not_a_sweep(tmp_path):
    files = [result_of(tmp_path / f"{t}.jsonl", model=f"M{t}", temperature=t) for t in (0.2, 1.0)]
    with pytest.raises(InputError, match="of two models"):
        merge([read_result(path, name="m") for path in files])


def test_one_model_under_two_paths_is_one_row(tmp_path):
    a = result_of(tmp_path / "a" / "r.jsonl", model="/here", model_fingerprint="1")
    b = result_of(tmp_path / "b" / "r.jsonl", model="/there", model_fingerprint="1", rows=[{**SCORED, "benchmark": "aime24"}])
    (merged,) = merge([read_result(a), read_result(b)])
    assert merged.benchmarks.keys() == {"math500", "aime24"}


def test_one_row_of_files_asked_in_different_ways_is_said(tmp_path, caplog):
    other = [{**SCORED, "benchmark": "aime24"}]
    a = result_of(tmp_path / "a" / "r.jsonl", model="A", template="own", max_tokens=8192)
    b = result_of(tmp_path / "b" / "r.jsonl", model="A", template="own", max_tokens=8192, rows=other)
    assert len(merge([read_result(a), read_result(b)])) == 1 and not caplog.text
    c = result_of(tmp_path / "c" / "r.jsonl", model="A", template="qwen", max_tokens=64, rows=other)
    assert len(merge([read_result(a), read_result(c)])) == 1
    assert "in different ways (template 'own' and 'qwen', max_tokens 8192 and 64)" in caplog.text


def test_files_that_nobody_says_are_of_one_model(tmp_path):
    a = result_of(tmp_path / "a" / "r.jsonl")
    b = result_of(tmp_path / "b" / "r.jsonl", rows=[{**SCORED, "benchmark": "aime24"}])
    with pytest.raises(InputError, match="no manifest says that they are of one model; give each a name with --names"):
        merge([read_result(a), read_result(b)])
    assert len(merge([read_result(a, name="m"), read_result(b, name="m")])) == 1
    c = result_of(tmp_path / "c" / "r.jsonl", rows=[{**SCORED, "benchmark": "MATH-500"}])
    with pytest.raises(InputError, match="'m' has MATH-500 in two files"):
        merge([read_result(a, name="m"), read_result(c, name="m")])


def test_a_broken_off_run_says_how_much_is_there(tmp_path):
    path = result_of(tmp_path / "r.jsonl", model="M", rows=[{**SCORED, "benchmark": "mine", "problem": p} for p in range(5)])
    note(path, PLAN, {"mine": {"problems": 12, "samples": 12, "of": 40}, "later": {"problems": 3, "samples": 6, "of": 3}})
    result = read_result(path)
    text = to_markdown(make_tables([result]))
    assert "| r | 100.0 [56.6, 100.0] (5 of 12 samples, 5 of 40 problems) | 100.0 [56.6, 100.0] (incomplete) |" in text
    assert "| r | mine | 5 of 40 | 5 of 12 |" in text and "* r, later: 0 of 6 samples" in text
    assert to_csv(make_tables([result])).splitlines()[1].endswith(",12,40")
    assert plot_lengths([result], tmp_path / "lengths")
    assert "(5 of 18 samples, 5 of 40 problems)" in (tmp_path / "lengths.svg").read_text()


def test_scores_behind_their_samples_are_incomplete_without_a_manifest(tmp_path):
    rows = [{**GENERATED, "benchmark": "mine", "problem": p} for p in range(12)]
    write(tmp_path / "r.decoded.jsonl", rows)
    path = write(tmp_path / "r.jsonl", [{**row, "correct": True} for row in rows[:5]])
    assert "(5 of 12 samples)" in to_markdown(make_tables([read_result(path)]))


def test_what_differs_from_the_published_numbers_is_said(tmp_path):
    rows = [{**SCORED, "benchmark": "gpqa_diamond", "problem": p} for p in range(198)]
    rows += [{**SCORED, "benchmark": "math", "problem": p} for p in range(500)]
    path = result_of(tmp_path / "r.jsonl", model="M", temperature=1.0, top_p=1.0, max_tokens=1024, rows=rows)
    text = to_markdown(make_tables([read_result(path)]), published=True)
    assert "* r, MATH-500: temperature 1.0 (published: 0.6)" in text and "* r, MATH-500: max_tokens 1024 (published: 8192)" in text
    assert "* r, GPQA-diamond: a prompt that does not ask for 'ANSWER: $LETTER'" in text and "top_p 1.0 (" not in text
    assert "Not comparable" not in to_markdown(make_tables([read_result(path)]))
    for row in rows[:198]:
        row["prompt"] = "... 'ANSWER: $LETTER' (without quotes) ..."
    same = result_of(tmp_path / "s.jsonl", model="M", temperature=0.6, top_p=1.0, max_tokens=8192, rows=rows)
    assert "Not comparable" not in to_markdown(make_tables([read_result(same)]), published=True)
    part = result_of(tmp_path / "p.jsonl", rows=rows[:100])
    text = to_markdown(make_tables([read_result(part)]), published=True)
    assert "* p, GPQA-diamond: 100 of 198 problems" in text and "no manifest says how it was sampled" in text


def test_an_own_set_with_a_shared_name_is_not_the_benchmark(tmp_path):
    rows = [{**SCORED, "benchmark": "math", "problem": p} for p in range(40)]
    text = to_markdown(make_tables([read_result(write(tmp_path / "r.jsonl", rows))]), published=True)
    assert "| Model | math | Avg. |" in text and "## Other" in text
    assert "math is not MATH-500, which has 500 problems" in text and "None of these benchmarks has published numbers." in text


def test_another_environment_is_said_and_kept(tmp_path, caplog):
    path = result_of(tmp_path / "r.jsonl", model="M")
    note_environment(path, {"vllm": "1", "device": "A"})
    note_environment(path, {"vllm": "1", "device": "A"})
    assert read_manifest(path)["environment"] == [{"vllm": "1", "device": "A"}] and not caplog.text
    note_environment(path, {"vllm": "1", "device": "B"})
    assert len(read_manifest(path)["environment"]) == 2 and "another environment: device A, now B" in caplog.text
    claim(path, GENERATION, {"model": "N"}, results=path.with_name("none"), overwrite=True)
    assert read_manifest(path).keys() == {"generation"}


@pytest.mark.parametrize("content", ["[]", "3", '{"generation": 3}', '{"plan": {"math": 5}}', '{"environment": {}}'])
def test_a_manifest_of_another_program_is_named(tmp_path, content):
    path = result_of(tmp_path / "r.jsonl")
    path.with_name("r.manifest.json").write_text(content)
    with pytest.raises(InputError, match="not a manifest of an evaluation"):
        read_result(path)


def test_names_with_signs_of_markdown_and_mathematics(tmp_path):
    result = read_result(write(tmp_path / "r.jsonl", [{**SCORED, "benchmark": "a|b"}]), name="$\\frac$|x_1")
    assert "| $\\frac$\\|x_1 | 100.0" in to_markdown(make_tables([result]))
    assert plot_lengths([result], tmp_path / "lengths") and "$\\frac$|x_1" in (tmp_path / "lengths.svg").read_text()


def test_half_a_character_and_a_manifest_that_is_odd_are_no_traceback(tmp_path):
    path = result_of(tmp_path / "r.jsonl", model="M", temperature=["0.6"], rows=[{**SCORED, "reason": "\ud83d"}])
    write_report(ReportRequest(results=[path], names=["\ud83d"], output_dir=tmp_path / "report", published=True))
    assert "\\ud83d" in (tmp_path / "report" / "tables.md").read_text()


def test_a_folder_is_no_result(tmp_path):
    for folder in (tmp_path, "."):
        with pytest.raises(InputError, match="is a folder; give the JSONL files in it"):
            read_result(folder)
