"""The comparison's report, from synthetic cells whose numbers are worked out by hand."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from luffy.errors import InputError
from luffy.ledger import Ledger
from luffy.training_report import Curve
from miniature.comparison.__main__ import main
from miniature.comparison.archive import add_results, left, read_results
from miniature.comparison.cells import Cell, Folders, plan
from miniature.comparison.measure import Measurement
from miniature.comparison.methods import MAIN, METHODS, REGIMES
from miniature.comparison.report import write_report
from miniature.comparison.results import CURVES, HELD_OUT, CellResult, band, collect, draw, panels, spread
from miniature.comparison.run import CURVE_FILE, Runner, build_cell_inputs
from miniature.comparison.statements import ENTROPY, LAST, Claim, Outcome, decide, decide_stall

STUB = Path(__file__).parent / "comparison_stub.py"
CLAIM = Claim(text="A solves more than B.", more="luffy", less="mixed", quantity=LAST)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[list[Cell], Folders]:
    """Two seeds of the main part, all methods but RL with SFT loss, of 20 steps."""
    folder = tmp_path_factory.mktemp("compare")
    cells = plan(["main"], [0, 1], steps=20)
    launcher = [sys.executable, "-S", str(STUB), str(folder / "log"), "main/rl_sft_loss"]
    Runner(Folders(folder), launcher=launcher, build_inputs=lambda *_: None).run(cells)
    return cells, Folders(folder)


@pytest.fixture(scope="module")
def report(finished) -> str:
    cells, layout = finished
    document = layout.folder / "docs" / "page.md"
    missing = write_report(cells, collect(cells, layout), document, title="Title", command="compare.sh", conclusions=True)
    assert [cell.name for cell in missing] == ["main/rl_sft_loss/seed0", "main/rl_sft_loss/seed1"]
    return document.read_text()


def row(report: str, method: str) -> list[str]:
    line = next(line for line in report.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_collected_numbers(finished):
    cells, layout = finished
    results = collect(cells, layout)
    found = {(result.cell.method.name, result.cell.seed): result for result in results}
    luffy = found["luffy", 1]
    assert (luffy.best, luffy.last) == (0.45, 0.45)
    assert luffy.costs == Ledger(
        steps=20, generated=20 * 112 * 58, trained=20 * 128 * 58, processed=20 * 9600, forwarded=20 * 9600, traces=320
    )  # 9 600 tokens are 128 rows of 17 + 58
    assert luffy.parameters == 50_000
    assert luffy.seconds == 120.0
    assert luffy.step_seconds == 1.2  # the middle one of .4, .5, ... 2.0
    both = found["sft_rl", 1]  # 10 steps from SFT's model of step 10 of 20
    assert both.curves[HELD_OUT].steps == (10, 20)
    assert (both.best, both.last) == (0.35, 0.35)  # the start model's own point at step 10 is none of its training
    assert both.costs == Ledger(
        steps=20, generated=10 * 112 * 58, trained=10 * 144 * 58, processed=10 * 144 * 75, forwarded=10 * 9600, traces=320
    )  # 10 steps of 128 rows, and 10 of the 16 traces of SFT
    assert both.seconds == 120.0 + 60.0
    assert found["sft", 0].costs.generated == 0 and found["sft", 0].step_seconds is None


def test_parts_of_several_machines_come_together_in_one_file(finished, tmp_path):
    cells, layout = finished
    results, file = collect(cells, layout), tmp_path / "docs" / "cells.jsonl"
    assert read_results(file, cells) == []
    add_results(file, results[5:])
    add_results(file, results[:6])
    assert read_results(file, cells) == results and len(file.read_text().splitlines()) == len(results) == 10
    names = [cell.name for cell in left(cells, results)]
    assert names == ["main/rl_sft_loss/seed0", "main/rl_sft_loss/seed1"]
    without = [result for result in results if result.cell.method.name != "sft_rl"]
    assert [cell.name for cell in left(cells[:6], without)] == ["main/rl_sft_loss/seed0", "main/sft/seed0", "main/sft_rl/seed0"]
    assert read_results(file, plan(["main"], [0, 1], steps=40)) == []  # of other parameters
    file.write_text("{}\n")
    with pytest.raises(InputError, match=r"cells\.jsonl is no file of results"):
        read_results(file, cells)


def test_a_part_that_is_broken_off_keeps_what_it_has_come_to(finished, tmp_path, monkeypatch):
    cells, layout = finished
    file = tmp_path / "cells.jsonl"

    def broken_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "run", broken_off)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(
        sys, "argv", [*"compare run --regimes main --seeds 0 1 --steps 20".split(), f"--output_dir={layout.folder}", f"--results={file}"]
    )
    with pytest.raises(KeyboardInterrupt):
        main()
    assert read_results(file, cells) == collect(cells, layout)


def test_many_methods_are_dealt_out_over_panels_beside_their_measures():
    every = [(name, method.title) for name, method in METHODS.items()]
    assert panels(every[:7]) == [every[:7]]
    dealt = panels(every)
    assert all(names[:2] == [("luffy", "LUFFY"), ("sft_rl", "SFT then RL")] and len(names) <= 7 for names in dealt)
    assert [each for names in dealt for each in names[2:]] == [each for each in every if each[0] not in ("luffy", "sft_rl")]


def test_table(report):
    mixed = row(report, "mixed, no shaping")  # 0.80 and 0.79: spread 0.01 / sqrt(2)
    assert mixed[:3] == ["mixed, no shaping", "2", "0.795 ± 0.007"]
    assert mixed[5] == "0.398 ± 0.004"  # harder: 0.400 and 0.395
    assert row(report, "RL with SFT loss") == ["RL with SFT loss", "0", *["–"] * 6]
    costs = row(report[report.index("| method | seeds | tokens generated") :], "mixed, no shaping")
    # 129.92 and 148.48 thousand tokens; 50 000 (6 · 192 000 + 2 · 129 920 + 2 · 192 000) operations; 60 and 120 s
    assert costs[2:] == ["130 ± 0", "148 ± 0", "320 ± 0", "0.09 ± 0.00", "1.20 ± 0.00", "90 ± 42", "8.0 ± 0.0"]
    assert "| mixed, no shaping | +0.100, +0.090 | more |" in report and "| SFT | +0.205, +0.205 | more |" in report


def test_statements(report):
    lines = [line for line in report.splitlines() if line.startswith("* ")]
    by_seed = "held-out avg@8 by seed"
    assert lines[0] == (
        "* On-policy RL stalls where the base cannot succeed, and guided RL does not. **As in the paper**: "
        f"{by_seed}: on-policy RL 0.000, 0.000; LUFFY 0.900, 0.900."
    )
    same = "* LUFFY solves more than SFT. **No difference**"
    assert f"{same}: {by_seed}: LUFFY 0.900, 0.900; SFT 0.905, 0.905." in lines
    assert "* LUFFY solves more than RL with SFT loss. **Not run**." in lines
    assert any(line.startswith("* Without shaping, entropy falls further. **As in the paper**") for line in lines)


def test_missing_cells_and_figures(report, finished):
    assert report.endswith("## Not run\n\n* main/rl_sft_loss/seed0, 20 steps\n* main/rl_sft_loss/seed1, 20 steps\n")
    folder = finished[1].folder / "docs"
    links = [line.split("](")[1].rstrip(")") for line in report.splitlines() if line.startswith("![")]
    names = ["reward", "entropy", "response_length", "demonstration_probability"]
    assert links == [f"figures/page/main/{name}.png" for name in names]
    assert all((folder / link).stat().st_size > 5000 for link in links)
    assert not list(folder.rglob("*.svg"))  # a page's pictures are text of the repository otherwise


def test_report_command(finished):
    cells, layout = finished
    command = [sys.executable, "-m", "miniature.comparison", "report", "--set", "main", "--seeds", "0", "--steps", "20"]
    done = subprocess.run([*command, "--output_dir", str(layout.folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "5 of 6 cells finished" in done.stderr
    assert "(one seed: chance is not ruled out)" in (layout.folder / "report.md").read_text()


def test_a_page_of_other_regimes_makes_no_claim_about_the_main_one(tmp_path):
    page = tmp_path / "page.md"
    write_report(plan(["teachers"], [0]), [], page, title="t", command="c", conclusions=True)
    text = page.read_text()
    assert "three teachers of different styles: LUFFY against SFT" in text
    assert "stalls where the base cannot succeed" not in text and "LUFFY solves more" not in text


def result(method: str, seed: int, avg8: float, entropy: float = 0.1) -> CellResult:
    cell = Cell(regime=MAIN, method=METHODS[method], seed=seed, steps=20)
    shares = dict.fromkeys(("pass8", "greedy", "harder_avg8", "harder_pass8", "response_length"), 0.0)
    return CellResult(
        cell=cell, measured=Measurement(avg8=avg8, entropy=entropy, **shares), best=0, last=0, costs=Ledger(), parameters=0, seconds=0,
        peak_memory_bytes=0, curves={HELD_OUT: Curve(name=HELD_OUT, steps=(seed, 5), values=(avg8, 1.0))},
    )  # fmt: skip


def pairs(differences: list[float]) -> list[CellResult]:
    return [
        result(method, seed, 0.5 + difference * (method == "luffy"))
        for seed, difference in enumerate(differences)
        for method in ("luffy", "mixed")
    ]


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ([0.03, 0.01, 0.05], Outcome.REPRODUCED),
        ([-0.03, -0.01, -0.05], Outcome.OPPOSITE),
        ([0.03, -0.01, 0.05], Outcome.OPEN),
        ([0.01, 0.02, 0.02], Outcome.NO_DIFFERENCE),
        ([0.05, -0.05], Outcome.NO_DIFFERENCE),
        ([0.03], Outcome.REPRODUCED),
        ([], Outcome.NOT_RUN),
    ],
)
def test_verdicts(differences, outcome):
    assert decide(CLAIM, pairs(differences)).outcome == outcome


def test_only_seeds_of_both_count_and_entropy_has_its_own_margin():
    results = [*pairs([0.03]), result("luffy", 1, 0.0), result("mixed", 2, 1.0)]
    statement = decide(CLAIM, results)
    assert statement.values == {"LUFFY": (0.53,), "mixed, no shaping": (0.5,)}
    assert statement.row()[2:] == ["0.530", "0.500", "+0.030", "as in the paper (one seed: chance is not ruled out)"]
    entropies = [result("luffy", 0, 0.5, entropy=0.106), result("mixed", 0, 0.5, entropy=0.1)]
    assert decide(replace(CLAIM, quantity=ENTROPY), entropies).outcome == Outcome.REPRODUCED


@pytest.mark.parametrize(
    ("on_policy", "luffy", "outcome"),
    [
        ([0.0, 0.02], [0.9, 0.2], Outcome.REPRODUCED),
        ([0.0, 0.03], [0.9, 0.9], Outcome.OPEN),
        ([0.3, 0.3], [0.9, 0.9], Outcome.NOT_REPRODUCED),
        ([0.0, 0.0], [0.1, 0.1], Outcome.NOT_REPRODUCED),
        ([], [], Outcome.NOT_RUN),
    ],
)
def test_stall(on_policy, luffy, outcome):
    results = [result("on_policy", seed, value) for seed, value in enumerate(on_policy)]
    results += [result("luffy", seed, value) for seed, value in enumerate(luffy)]
    assert decide_stall(results).outcome == outcome


def test_band_takes_the_steps_that_all_seeds_have():
    results = [result("luffy", 0, 0.2), result("luffy", 0, 0.4), result("luffy", 1, 0.9)]
    assert band(results[:2], "luffy", HELD_OUT) == [(0, pytest.approx(0.3), 0.2, 0.4), (5, 1.0, 1.0, 1.0)]
    assert band(results, "luffy", HELD_OUT) == [(5, 1.0, 1.0, 1.0)]
    assert band(results, "mixed", HELD_OUT) == []


def test_spread():
    assert spread([], ".3f") == "–"
    assert spread([0.5], ".3f") == "0.500"
    assert spread([1.0, 2.0, 3.0], ".1f") == "2.0 ± 1.0"


def test_a_broken_file_is_named(finished, tmp_path):
    cells, layout = finished
    copy = Folders(tmp_path)
    shutil.copytree(layout.cell(cells[2]), copy.cell(cells[2]))
    copy.parameters(cells[2]).write_text("{")
    with pytest.raises(InputError, match="cell.json is not JSON"):
        collect(cells, copy)
    copy.parameters(cells[2]).write_text(json.dumps(cells[2].parameters()))
    copy.metrics(cells[2]).write_text("")
    with pytest.raises(InputError, match="has no held-out accuracy"):
        collect(cells, copy)


def test_regimes_share_their_held_out_problems(tiny_example, tmp_path):
    layout = Folders(tmp_path)
    shutil.copytree(tiny_example.model.parent, layout.base(MAIN))
    first, few, other = plan(["main"], [0])[0], plan(["traces_16"], [0])[0], plan(["traces_16"], [1])[0]
    for cell in (first, few, other):
        build_cell_inputs(cell, layout)
    heldout, in_few, in_other = (pq.read_table(layout.data(cell) / "heldout.parquet") for cell in (first, few, other))
    assert heldout == in_few == in_other
    assert pq.read_table(layout.data(first) / CURVE_FILE) == heldout.slice(0, 64)
    prompts = [set(_questions(pq.read_table(layout.data(cell) / "train.parquet"))) for cell in (first, few, other)]
    assert list(map(len, prompts)) == [2048, 16, 16]
    assert prompts[1] < prompts[0] and not prompts[1] & prompts[2]
    assert not set(_questions(heldout)) & (prompts[0] | prompts[2])
    assert layout.base(MAIN) == layout.base(REGIMES["traces_16"]) != layout.base(REGIMES["able_base"])


def test_held_out_curves_are_drawn_where_runs_look_on_the_way(tmp_path):
    ends = [result("luffy", 0, 0.5), result("luffy", 1, 0.6)]
    on_the_way = [replace(each, cell=replace(each.cell, regime=REGIMES["traces_16"])) for each in ends]
    empty = dict.fromkeys(CURVES, Curve(name="", steps=(), values=()))
    for regime, results in (("main", ends), ("traces_16", on_the_way)):
        whole = [replace(each, curves=empty | each.curves) for each in results]
        assert draw(whole, [("luffy", "LUFFY")], tmp_path / regime) == ([] if regime == "main" else ["heldout"])


def _questions(table):
    return [messages[0]["content"] for messages in table["prompt"].to_pylist()]


@pytest.mark.integration
def test_measurement_of_the_base(tiny_example, tmp_path):
    for name in ("heldout", "heldout_harder"):
        table = pq.read_table(tiny_example.model.parent / f"{name}.parquet").slice(0, 8)
        pq.write_table(table, tmp_path / f"{name}.parquet")
    command = [sys.executable, "-m", "miniature.comparison.measure", "--model_path", str(tiny_example.model)]
    files = ["--heldout", str(tmp_path / "heldout.parquet"), "--harder", str(tmp_path / "heldout_harder.parquet")]
    done = subprocess.run([*command, *files, "--output", str(tmp_path / "m.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = Measurement(**json.loads((tmp_path / "m.json").read_text()))
    assert found.avg8 < 0.05 and found.harder_avg8 < 0.05
    assert found.response_length == pytest.approx(58, abs=1.5)  # 57 letters and EOS
    assert 0.2 < found.entropy < 0.4
