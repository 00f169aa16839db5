"""The comparison's runs: order, resuming, failures. A stub (tests/comparison_stub.py) stands in for training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from luffy.errors import InputError
from miniature.comparison.__main__ import parser
from miniature.comparison.cells import SETS, TEACHER, Cell, Folders, part, plan
from miniature.comparison.estimate import estimate, seconds
from miniature.comparison.methods import ABLATIONS, MAIN, METHODS, REGIMES, ablation
from miniature.comparison.run import Runner, training_command

STUB = Path(__file__).parent / "comparison_stub.py"


class Trial:
    """A comparison in a temporary folder, started with the stub; ``started`` are the lines of its log."""

    def __init__(self, folder: Path) -> None:
        self.layout = Folders(folder / "compare")
        self.log = folder / "log.txt"
        self.prepared: list[str] = []

    def run(self, cells: list[Cell], fail: str = "") -> dict[str, str]:
        self.log.write_text("")
        self.prepared.clear()
        runner = Runner(
            self.layout,
            launcher=[sys.executable, "-S", str(STUB), str(self.log), fail],
            build_inputs=lambda cell, _: self.prepared.append(f"{cell.regime.name}/seed{cell.seed}"),
        )
        return runner.run(cells)

    @property
    def started(self) -> list[str]:
        """Module and cell of each start, in order."""
        found = []
        for line in self.log.read_text().splitlines():
            module, *arguments = line.split()
            keys = ("trainer.default_local_dir=", "--output=")
            folder = next(each.split("=")[1] for each in arguments if each.startswith(keys))
            name = Path(folder.removesuffix("/measurement.json")).relative_to(self.layout.folder / "cells")
            found.append(f"{module.rsplit('.', 1)[1]} {name.as_posix()}")
        return found


@pytest.fixture
def trial(tmp_path) -> Trial:
    return Trial(tmp_path)


def main_cells(*names: str, seeds=(0,), steps=20) -> list[Cell]:
    return [cell for cell in plan(["main"], seeds, steps=steps) if not names or cell.method.name in names]


def test_all_methods_run_once(trial):
    cells = main_cells()
    assert trial.run(cells) == {}
    methods = ["on_policy", "mixed", "luffy", "rl_sft_loss", "sft", "sft_rl"]
    modules = {"sft": "main_sft"}
    expected = [f"{modules.get(m, 'main_mix_ppo')} main/{m}/seed0" for m in methods]
    measured = [line for line in trial.started if line.startswith("measure")]  # each beside the next training
    assert [line for line in trial.started if line not in measured] == expected
    assert measured == [f"measure main/{m}/seed0" for m in methods]
    assert trial.prepared == ["main/seed0"]
    assert trial.run(cells) == {}
    assert trial.started == [] and trial.prepared == []


def test_a_failure_leaves_the_others_and_is_run_again(trial):
    cells = main_cells("mixed", "luffy")
    failures = trial.run(cells, fail="cells/main/mixed")
    assert list(failures) == ["main/mixed/seed0"]
    assert "exit code 3" in failures["main/mixed/seed0"] and "console.log" in failures["main/mixed/seed0"]
    assert not trial.layout.is_finished(cells[0]) and trial.layout.is_finished(cells[1])
    assert trial.run(cells) == {}
    assert trial.started == ["main_mix_ppo main/mixed/seed0", "measure main/mixed/seed0"]


def test_what_starts_from_a_failed_run_fails_by_name(trial):
    failures = trial.run(main_cells("sft", "sft_rl"), fail="main/sft/")
    assert failures["main/sft_rl/seed0"] == "it starts from main/sft/seed0, which has no model of step 10"
    assert trial.started == ["main_sft main/sft/seed0"]


def test_a_failed_measurement_is_made_again_without_training(trial):
    cells = main_cells("luffy")
    assert "measuring ended with exit code 3" in trial.run(cells, fail="--output=")["main/luffy/seed0"]
    assert trial.run(cells) == {}
    assert trial.started == ["measure main/luffy/seed0"]


def test_a_half_done_cell_starts_anew(trial):
    cells = main_cells("luffy")
    trial.run(cells)
    folder = trial.layout.cell(cells[0])
    (folder / "summary.json").unlink()
    (folder / "left_over").touch()
    assert trial.run(cells) == {}
    assert len(trial.started) == 2 and not (folder / "left_over").exists()


def test_other_parameters_are_another_cell(trial):
    trial.run(main_cells("luffy"))
    longer = main_cells("luffy", steps=40)
    assert not trial.layout.is_finished(longer[0])
    trial.run(longer)
    assert trial.started[0] == "main_mix_ppo main/luffy/seed0"
    assert json.loads(trial.layout.parameters(longer[0]).read_text())["steps"] == 40


def test_files_of_others_are_not_deleted(trial):
    cells = main_cells("luffy")
    mine = trial.layout.cell(cells[0]) / "thesis.tex"
    mine.parent.mkdir(parents=True)
    mine.write_text("42")
    with pytest.raises(InputError, match="no comparison made"):
        trial.run(cells)
    assert mine.read_text() == "42"


def test_an_interrupt_ends_the_run_that_is_going_on(trial, tmp_path):
    pid = tmp_path / "pid"
    sleep = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    runner = Runner(trial.layout, launcher=[sys.executable, "-S", "-c", sleep], build_inputs=lambda *_: None)

    def interrupt() -> None:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run(main_cells("luffy"))
    assert time.monotonic() - begin < 30  # it was asked to end, and did not sleep for its 60 s
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_sft_then_rl_shares_the_budget(tmp_path):
    layout = Folders(tmp_path)
    (sft_rl,) = main_cells("sft_rl", steps=60)
    (sft,) = main_cells("sft", steps=60)
    assert (sft_rl.check_every, sft_rl.start_step) == (60, 30)
    command = training_command(sft_rl, layout)
    assert "trainer.total_training_steps=30" in command
    assert f"actor_rollout_ref.model.path={tmp_path}/cells/main/sft/seed0/global_step_30/huggingface" in command
    assert "trainer.save_freq=30" in training_command(sft, layout)  # so that the model of step 30 is there


def test_overrides_of_a_regime_and_a_variant_reach_the_command(tmp_path):
    layout = Folders(tmp_path)
    by_method = {cell.method.name: training_command(cell, layout) for cell in plan(["teachers"], [0])}
    assert "luffy.guidance.selection=random" in by_method["luffy"]
    assert not any("selection" in argument for argument in by_method["sft"])
    falling = ablation("prefix")[3]
    command = training_command(Cell(regime=MAIN, method=falling, seed=0, steps=60), layout)
    assert {"luffy.guidance.schedule=linear", "luffy.guidance.steps=60"} <= set(command)


def test_plan_is_whole_seeds_and_checked():
    cells = plan(SETS["main"], [0, 1, 2])
    assert len(cells) == 18
    assert [cell.seed for cell in cells] == [0] * 6 + [1] * 6 + [2] * 6
    assert set(SETS["main"]) | set(SETS["regimes"]) == set(SETS["all"]) == set(REGIMES)
    for wrong in ([], [0, 0]):
        with pytest.raises(InputError, match="--seeds"):
            plan(["main"], wrong)
    with pytest.raises(InputError, match="--steps 2"):
        plan(["main"], [0], steps=2)
    with pytest.raises(InputError, match="choose one of gamma"):
        ablation("gama")


def test_chosen_methods_stand_beside_sft_then_rl_and_bring_their_teacher(tmp_path):
    cells = plan(["long"], [0], methods=["kdrl", "bread"])
    assert [cell.name for cell in cells] == ["teacher/luffy/seed0", *(f"long/{name}/seed0" for name in ("sft", "sft_rl", "kdrl", "bread"))]
    command = training_command(cells[3], Folders(tmp_path))
    assert f"luffy.teacher.path={tmp_path}/cells/teacher/luffy/seed0/global_step_60/actor/huggingface" in command
    assert "luffy.objective.distill_coefficient.until=11" in command  # 280 of 500 steps are 11.2 of 20
    assert "data.max_response_length=112" in command
    assert not any("luffy.teacher" in argument for argument in training_command(cells[4], Folders(tmp_path)))


def test_a_cell_without_its_teacher_fails_by_name(trial):
    cells = plan(["main"], [0], methods=["opd"])
    failures = trial.run(cells, fail="cells/teacher")
    assert set(failures) == {"teacher/luffy/seed0", "main/opd/seed0"}
    assert failures["main/opd/seed0"] == "its teacher is teacher/luffy/seed0, which is not trained"


def test_overrides_of_a_regime_reach_the_methods_that_are_shown_traces(tmp_path):
    by_method = {cell.method.name: training_command(cell, Folders(tmp_path)) for cell in plan(["teachers"], [0], methods=list(METHODS))}
    shown = {name for name, command in by_method.items() if "luffy.guidance.selection=random" in command}
    assert set(METHODS) - shown == {"sft", "sft_rl", "on_policy", "opd", "kdrl", "exgrpo"}


def test_parts_cost_about_the_same_and_bring_what_they_need():
    cells = plan(["main"], [0, 1], methods=["opd", "luffy"])  # the teacher, and two seeds of LUFFY, SFT, SFT then RL, OPD
    parts = [part(cells, number, 3, cost=lambda cell: 3.0 if cell is TEACHER else 1.0) for number in (1, 2, 3)]
    names = [[cell.name for cell in each] for each in parts]  # 11 units, a part begins every 3.67
    assert names[0] == ["teacher/luffy/seed0", "main/luffy/seed0"]
    assert names[1] == ["teacher/luffy/seed0", *(f"main/{name}/seed0" for name in ("sft", "sft_rl", "opd")), "main/luffy/seed1"]
    assert names[2] == ["teacher/luffy/seed0", *(f"main/{name}/seed1" for name in ("sft", "sft_rl", "opd"))]
    for count in (1, 2, 7, 40):
        every = [cell for number in range(1, count + 1) for cell in part(cells, number, count, cost=seconds)]
        assert {cell.name for cell in every} == {cell.name for cell in cells}
    assert "--part 1/2" in estimate(plan(["main"], range(10)), Folders(Path("nowhere"))).lines()[1]


@pytest.mark.parametrize("words", ["0/2", "3/2", "2", "a/b"])
def test_a_part_that_is_none_is_refused_in_a_line(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["run", "--part", words])
    assert f"'{words}' is no part; give one of N as I/N" in capsys.readouterr().err


def test_names_are_unique():
    every = [method.name for method in METHODS.values()] + [m.name for name in ABLATIONS for m in ablation(name)]
    assert len(set(every)) == len(every)


def test_the_estimate_is_near_what_was_seen(tmp_path):
    whole = estimate(plan(["main"], [1], methods=tuple(METHODS)), Folders(tmp_path))
    own = sum(seconds(cell) for cell in plan(["main"], [1], methods=tuple(METHODS)) if cell is not TEACHER)
    assert whole.cells == 23 and whole.finished == 0
    assert own / 60 == pytest.approx(43.5, rel=0.15)  # of all methods and one seed, November 2026


def test_finished_cells_cost_nothing_more(trial):
    cells = plan(("main",), [0])
    before = estimate(cells, trial.layout)
    trial.run(cells[:2])
    after = estimate(cells, trial.layout)
    assert after.finished == 2 and after.seconds == pytest.approx(before.seconds - sum(map(seconds, cells[:2])))
    assert "6 cells, 2 of them finished already; the other 4: about" in after.lines()[0]


@pytest.mark.parametrize(("words", "says"), [(["run", "--set", "main"], "main/sft_rl/seed2"), (["ablation", "gamma"], "γ 0.05")])
def test_a_dry_run_says_what_it_would_take_and_writes_nothing(tmp_path, words, says):
    command = [sys.executable, "-m", "miniature.comparison", *words, "--dry_run", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert says in done.stderr and "minutes on 2 cores" in done.stderr and "MB of disk" in done.stderr
    assert not (tmp_path / "out").exists()
