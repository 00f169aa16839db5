"""Tables and figures against numbers worked out by hand."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from luffy import figures
from luffy.benchmarks import BENCHMARKS, PUBLISHED
from luffy.errors import InputError
from luffy.evaluation.manifest import GENERATION, claim
from luffy.evaluation.report import ReportRequest, plot_pass_over_temperature, shaping_curves, write_report
from luffy.evaluation.results import merge, read_result
from luffy.evaluation.tables import make_tables, to_csv, to_json, to_markdown
from luffy.training_report import Curve, curve, plot_runs, read_metrics


def write_result(path: Path, verdicts: dict[str, list[list[bool]]], temperature: float | None = None) -> Path:
    """One file: for each benchmark the verdicts of each problem's samples; a right answer has 10 tokens, a wrong one 30."""
    rows, problem = [], 0
    for benchmark, problems in verdicts.items():
        for samples in problems:
            for number, correct in enumerate(samples):
                row = {"benchmark": benchmark, "problem": problem, "sample": number, "correct": correct}
                row |= {"answer": "1" if correct or number else None, "reason": "correct" if correct else "wrong"}
                rows.append(row | {"length": 10 if correct else 30, "finish_reason": "stop" if correct else "length"})
            problem += 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if temperature is not None:
        claim(path, GENERATION, {"temperature": temperature}, results=path.with_name("none"), overwrite=False)
    return path


VERDICTS = {
    "math500": [[True], [True], [False], [True]],
    "aime24": [[True, False, False, False], [False] * 4],
    "arc_c": [[True], [False]],
}


@pytest.fixture
def result(tmp_path):
    return read_result(write_result(tmp_path / "luffy.jsonl", VERDICTS))


def test_cells_by_hand(result):
    inside, outside = make_tables([result])
    assert [entry.title for entry in inside.benchmarks] == ["AIME 2024", "MATH-500"]
    aime, math = inside.rows[0].cells["aime"], inside.rows[0].cells["math"]
    assert (aime.accuracy.value, aime.problems, aime.samples) == (12.5, 2, 8)
    assert {k: interval.value for k, interval in aime.pass_at.items()} == {1: 12.5, 2: 25.0, 4: 50.0}
    assert (aime.truncated, aime.unanswered) == (87.5, 12.5)
    assert math.accuracy.value == 75.0 and list(math.pass_at) == [1]
    assert inside.rows[0].average.value == (12.5 + 75.0) / 2
    assert outside.group == "out-of-distribution" and outside.rows[0].average.value == 50.0
    assert (math.accuracy.low, math.accuracy.high) == pytest.approx((30.06, 95.44), abs=0.01)  # Wilson, 3 of 4


def test_markdown_has_a_row_a_model_and_a_column_a_benchmark(result):
    lines = to_markdown(make_tables([result])).splitlines()
    assert lines[0] == "## In-distribution"
    assert lines[2] == "| Model | AIME 2024 | MATH-500 | Avg. |"
    assert lines[4].startswith("| luffy | 12.5 [") and "] (2 of 30 problems) | 75.0 [30.1, 95.4] (4 of 500 problems) | 43.8 [" in lines[4]
    assert "## Out-of-distribution" in lines


def test_a_model_without_a_benchmark_says_how_many_its_average_has(result, tmp_path):
    other = read_result(write_result(tmp_path / "half.jsonl", {"math500": [[True]] * 500}))
    text = to_markdown(make_tables([result, other]))
    assert "| half | – | 100.0 [99.2, 100.0] | 100.0 [99.2, 100.0] (1 of 2) |" in text


def test_csv_and_json_hold_the_same_numbers(result):
    tables = make_tables([result])
    rows = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert [(row["benchmark"], row["accuracy"], row["samples"], row["pass_at_k"]) for row in rows] == [
        ("aime", "12.50", "8", "50.00"),
        ("math", "75.00", "4", "75.00"),
        ("average", "43.75", "", ""),
        ("arc_c", "50.00", "2", "50.00"),
        ("average", "50.00", "", ""),
    ]
    loaded = json.loads(to_json(tables))
    assert loaded[0]["rows"][0]["cells"]["aime"]["pass_at"]["4"]["value"] == 50.0


def test_published_averages_are_the_means_of_their_rows():
    checked = 0
    for place, row in enumerate(PUBLISHED):
        for group, average in (("in-distribution", row.average), ("out-of-distribution", row.average_out)):
            scores = [entry.published[place : place + 1] for entry in BENCHMARKS if entry.group == group]
            if all(scores):
                assert np.mean(scores) == pytest.approx(average, abs=0.06), row.name
                checked += 1
    assert checked == 19


def test_published_rows_beside_a_model(tmp_path):
    whole = {b.name: [[True, False]] * b.problems for b in BENCHMARKS if b.group == "in-distribution"}
    tables = make_tables([read_result(write_result(tmp_path / "m.jsonl", whole))])
    text = to_markdown(tables, published=True)
    assert "| *LUFFY (v5)* | 29.4 | 23.1 | 65.6 | 87.6 | 37.5 | 57.2 | 50.1 |" in text
    assert "| *SFT (v5)* | – | – | – | – | – | – | 44.1 |" in text
    part = make_tables([read_result(write_result(tmp_path / "p.jsonl", {"aime24": [[True]], "math500": [[True]]}))])
    text = to_markdown(part, published=True)
    assert "| *LUFFY (v1)* | 29.5 | 88.4 | 59.0 |" in text  # the mean of these two, not of all six
    assert "SFT (v5)" not in text


def test_files_of_one_model_become_one_row(tmp_path):
    files = [write_result(tmp_path / f"{name}.jsonl", {name: [[True]]}) for name in ("math", "arc_c")]
    (merged,) = merge([read_result(path, name="m") for path in files])
    assert set(merged.benchmarks) == {"math", "arc_c"}
    with pytest.raises(InputError, match="'m' has math in two files"):
        merge([read_result(files[0], name="m"), read_result(files[0], name="m")])


def test_all_files_of_a_folder_are_the_scored_ones(tmp_path):
    """``results/*.jsonl`` names the samples before they were scored as well."""
    scored = write_result(tmp_path / "luffy.jsonl", VERDICTS)
    (tmp_path / "luffy.decoded.jsonl").write_text('{"benchmark": "math500", "problem": 0, "sample": 0}\n')
    write_report(ReportRequest(results=sorted(tmp_path.glob("*.jsonl")), output_dir=tmp_path / "both"))
    write_report(ReportRequest(results=[scored], output_dir=tmp_path / "one"))
    assert (tmp_path / "both" / "tables.csv").read_text() == (tmp_path / "one" / "tables.csv").read_text()


def test_a_whole_report(tmp_path):
    group = [[True, False], [False, False], [True, True]]
    paths = [
        write_result(tmp_path / "a.jsonl", {"math": group}, temperature=0.2),
        write_result(tmp_path / "b.jsonl", {"math": group[::-1]}, temperature=1.0),
    ]
    metrics = tmp_path / "run.jsonl"
    metrics.write_text(
        '{"step": 1, "actor/entropy": 0.5, "critic/score/mean": 0.0, "note": "x"}\n'
        '{"step": 2, "data": {"actor/entropy": 0.25, "response_length/mean": 80}}\n'
    )
    request = {"results": paths, "names": ["m", "m"], "output_dir": tmp_path / "out", "figures": True, "pass_k": 2}
    write_report(ReportRequest(**request, metrics=[metrics], shaping=True))
    drawings = ("lengths", "pass_at_k", "pass_over_temperature", "training", "shaping")
    names = {"tables.md", "tables.csv", "tables.json"} | {f"{n}.{s}" for n in drawings for s in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert "| m (T=0.2) |" in (tmp_path / "out" / "tables.md").read_text()
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert first["lengths.png"].startswith(b"\x89PNG") and b"<svg" in first["lengths.svg"]
    write_report(ReportRequest(**request, metrics=[metrics], shaping=True))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def test_training_curves_are_of_the_rollouts_and_named_after_the_runs_folder(tmp_path, monkeypatch):
    files = []
    for name, values in (("mine", {"on_policy/reward": 0.0, "critic/score/mean": 0.125}), ("other", {"critic/score/mean": 0.5})):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "metrics.jsonl")
        files[-1].write_text(json.dumps({"step": 1, "data": values}) + "\n")
    drawn = {}

    def keep(drawing, path, formats):
        (axis,) = drawing.axes
        drawn.update({each.get_label(): list(each.get_ydata()) for each in axis.get_lines()})

    monkeypatch.setattr(figures, "_save", keep)
    write_report(ReportRequest(metrics=files, output_dir=tmp_path / "out"))
    assert drawn == {"mine": [0.0], "other": [0.5]}  # the demonstrations' 1/8 is no reward of the policy
    with pytest.raises(InputError, match="two of --metrics are called mine"):
        write_report(ReportRequest(metrics=[files[0], files[0]], output_dir=tmp_path / "out"))


def test_metrics_are_read_by_name(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1, "a": 2, "b": NaN, "c": "text"}\n{"step": 3, "data": {"a": 0.5}}\n')
    assert curve(read_metrics(path), "a") == Curve(name="a", steps=(1, 3), values=(2.0, 0.5))
    path.write_text('{"step": "10", "a": null}\n{"step": 2.0, "a": 1.5}\n{"step": 3, "a": "x"}\n')  # of other loggers
    assert curve(read_metrics(path), "a") == Curve(name="a", steps=(2,), values=(1.5,))
    assert [record["step"] for record in read_metrics(path)] == [2, 3, 10]
    path.write_text('{"step": 1}\n[]\n')
    with pytest.raises(InputError, match="line 2 is not a JSON object with 'step'"):
        read_metrics(path)
    with pytest.raises(InputError, match="none of on_policy/entropy, actor/entropy"):
        plot_runs({"r": [{"step": 0, "data": {"x": 1, "actor/entropy": float("nan")}}]}, tmp_path / "t")
    path.write_text('{"step": 1, "data": {"a": 1}}\n{"step": 2, "da')
    assert read_metrics(path) == [{"step": 1, "data": {"a": 1}}]


def test_shaping_curves_against_their_closed_forms():
    p = np.linspace(0.01, 1.0, 100)
    curves = {curve.label: curve for curve in shaping_curves(p, gammas=(0.1, 0.3))}
    assert len(curves) == 7
    for gamma in (0.1, 0.3):
        curve = curves[f"p / (p + {gamma:g})"]
        np.testing.assert_allclose(curve.loss, p / (p + gamma), rtol=1e-12)
        np.testing.assert_allclose(curve.gradient, gamma * p / (p + gamma) ** 2, rtol=1e-12)
        assert p[curve.gradient.argmax()] == pytest.approx(gamma)
    np.testing.assert_allclose(curves["√p"].gradient, np.sqrt(p) / 2, rtol=1e-12)
    np.testing.assert_allclose(curves["p"].gradient, p, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to report"),
        ({"results": [Path("absent.jsonl")]}, "absent.jsonl: no such file"),
        ({"metrics": [Path("absent.jsonl")]}, "absent.jsonl: no such file; give a JSON-lines file"),
        ({"metrics": [Path("a"), Path("b")], "metrics_names": ["x"]}, "--metrics_names gives 1 names for 2 files"),
        ({"shaping": True, "gamma": [0.1, -1]}, "--gamma -1: must be above 0"),
    ],
)
def test_what_a_user_gets_wrong(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_report(ReportRequest(output_dir=tmp_path, **options))


def test_unscored_or_empty_results_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"problem": 0, "sample": 0}\n')
    with pytest.raises(InputError, match="not scored; run eval_scripts/score.py"):
        read_result(path)
    path.write_text("")
    with pytest.raises(InputError, match="no samples"):
        read_result(path)


def test_pass_over_temperature_needs_enough_samples(tmp_path):
    result = read_result(write_result(tmp_path / "a.jsonl", {"math": [[True]]}, temperature=0.5))
    with pytest.raises(InputError, match="use --n 8"):
        plot_pass_over_temperature([result], tmp_path / "x")
