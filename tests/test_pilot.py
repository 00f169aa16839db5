"""The pilot's arithmetic: ladder, budget, bootstrap, advice, with numbers by hand; and its command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luffy import command_line
from luffy.errors import InputError
from luffy.evaluation.estimators import Interval
from miniature.comparison.methods import METHODS
from miniature.pilot import __main__ as pilot_command
from miniature.pilot.__main__ import Pilot
from miniature.pilot.advice import Outcome, advise
from miniature.pilot.bootstrap import difference, interval, means, problems_needed
from miniature.pilot.checks import begin
from miniature.pilot.climb import climb
from miniature.pilot.ladder import Pace, Rung, affordable, ladder, seconds, survivors, trained_steps
from miniature.pilot.report import report
from miniature.pilot.runs import Runs, Task, full_command, training_command

PACE = Pace(start=90, step=4, measure=30)


def test_each_rung_has_half_of_the_methods_and_twice_the_steps():
    assert ladder(6, 3, 20) == [Rung(methods=6, step=5), Rung(methods=3, step=10), Rung(methods=2, step=20)]
    assert ladder(1, 1, 7) == [Rung(methods=1, step=7)]
    assert ladder(4, 2, 21) == [Rung(methods=4, step=10), Rung(methods=2, step=21)]
    with pytest.raises(InputError, match="5 steps in 3 rungs leave 1 for the first one, which needs 2"):
        ladder(4, 3, 5)


def test_runs_go_on_from_where_they_were():
    assert trained_steps(ladder(6, 3, 20)) == 6 * 5 + 3 * 5 + 2 * 10
    # 11 runs of 90 + 30 s, 65 steps of 4 s, twice; and the start model's measurement
    assert seconds(ladder(6, 3, 20), 2, PACE) == 30 + 2 * 11 * 120 + 2 * 65 * 4


def test_the_budget_decides_the_steps():
    # 4 and 2 methods: 30 + 6 · 120 + (4 s/2 + 2 s/2) · 4 = 750 + 12 s seconds, of 0.9 of the budget
    assert affordable(4, 2, 1, 1200, PACE) == 26  # 1080 = 750 + 12 · 27.5, in steps of 2
    assert seconds(ladder(4, 2, 26), 1, PACE) <= 1080 < seconds(ladder(4, 2, 28), 1, PACE)
    assert affordable(4, 2, 1, 798 / 0.9 + 1, PACE) == 4
    with pytest.raises(InputError, match="takes about 15 minutes, and 10 are left of the budget: raise --budget"):
        affordable(4, 2, 1, 600, PACE)


def test_the_better_half_goes_on():
    assert survivors({"a": 0.1, "b": 0.7, "c": 0.7, "d": 0.9}, 2) == ["d", "b"]
    assert survivors({"a": 0.1}, 3) == ["a"]


def test_the_interval_of_two_problems():
    """Means of two draws from {0, 1}: 0, 1/2, 1 with chances 1/4, 1/2, 1/4."""
    drawn = means(np.array([[0.0, 1.0]]), draws=40_000)
    for value, chance in ((0.0, 0.25), (0.5, 0.5), (1.0, 0.25)):
        assert (drawn == value).mean() == pytest.approx(chance, abs=0.01)
    assert interval(np.array([[0.0, 1.0]])) == Interval(0.5, 0.0, 1.0)


def test_seeds_are_drawn_too():
    """Two seeds that differ by 0.4 everywhere, and problems that do not differ: the seeds alone make the interval."""
    scores = np.array([[0.3] * 50, [0.7] * 50])
    assert interval(scores) == Interval(pytest.approx(0.5), pytest.approx(0.3), pytest.approx(0.7))
    assert (means(scores) < 0.31).mean() == pytest.approx(0.25, abs=0.02)


def test_the_interval_has_the_width_of_the_normal_one():
    scores = np.random.default_rng(1).integers(0, 2, size=(1, 400)).astype(float)
    found, half = interval(scores), 1.96 * np.sqrt(scores.var() / 400)
    assert found.low == pytest.approx(found.value - half, abs=0.004) and found.high == pytest.approx(found.value + half, abs=0.004)


def test_what_is_hard_for_both_cancels():
    hard = np.linspace(0, 0.8, 60)[None]
    assert difference(hard + 0.1, hard) == Interval(pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    two_seeds = np.vstack([hard + 0.1, hard + 0.2])
    assert difference(two_seeds, hard) == Interval(pytest.approx(0.15), pytest.approx(0.1), pytest.approx(0.2))


def test_problems_that_would_tell():
    assert problems_needed(Interval(0.02, -0.02, 0.06), 100) == 400  # half the reach needs four times as many
    assert problems_needed(Interval(-0.02, -0.05, 0.01), 100) == 225
    assert problems_needed(Interval(0.0, -0.1, 0.1), 100) is None


STUB = Path(__file__).parent / "pilot_stub.py"
NAMES = ["on_policy", "luffy", "sft_rl", "hpt", "chord_phi"]
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()


@pytest.fixture
def runs(tmp_path) -> Runs:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(len(HEADER).to_bytes(8, "little") + HEADER)
    return make_runs(tmp_path)


def make_runs(folder: Path, fail: str = "") -> Runs:
    task = Task(
        model=str(folder / "model"), model_overrides=(f"actor_rollout_ref.model.path={folder}/model",), train=folder / "train.parquet",
        heldout=folder / "h.parquet", heldout2=folder / "h2.parquet", teacher=None, profile="cpu", prompts=16, prompt_tokens=64,
        response_tokens=64, samples=4, temperature=1.0,
    )  # fmt: skip
    return Runs(task, folder / "out", launcher=[sys.executable, "-S", str(STUB), str(folder / "log"), fail])


def started(folder: Path) -> list[str]:
    """Method, or method and step that was measured, of each start; the log begins anew."""
    found = []
    for line in (folder / "log").read_text().splitlines():
        words = line.split()
        where = words[words.index("--output_dir") + 1] if "--output_dir" in words else ""
        where = where or next(word.partition("=")[2] for word in words if word.startswith("trainer.default_local_dir="))
        found.append(where.removeprefix(f"{folder}/out/"))
    (folder / "log").write_text("")
    return found


def test_the_whole_climb(runs, tmp_path):
    rungs = ladder(5, 2, 8)
    found = climb(runs, NAMES, rungs, [0], budget=3600)
    assert {number: list(results) for number, results in found.rungs.items()} == {1: NAMES, 2: ["luffy", "hpt", "sft_rl"]}
    lines = started(tmp_path)
    assert lines[:4] == ["answers/base/seed0/step0", "runs/on_policy/seed0", "answers/on_policy/seed0/step4", "runs/luffy/seed0"]
    assert lines.count("runs/sft_rl/seed0/sft") == 1 and lines.count("runs/sft_rl/seed0") == lines.count("runs/luffy/seed0") == 2
    assert runs.ledger("luffy", 0).steps == runs.ledger("sft_rl", 0).steps == 8  # of SFT then RL: 2 of SFT and 6 of RL
    again = climb(make_runs(tmp_path), NAMES, rungs, [0], budget=0.0)  # all is done: nothing is started, nothing is left out
    assert started(tmp_path) == [] and list(again.rungs[2]) == ["luffy", "hpt", "sft_rl"]

    page = report(found, runs, rungs, [0], budget=3600)
    assert "## Recommendation: HPT" in page and "HPT is level with LUFFY and keeps what the start model could" in page  # 7/8 each
    assert "| LUFFY | 2 | 8 | 0.875 [" in page and "| start model |  | 0 | 0.000 [" in page
    # 8 steps of 150 processed, 80 generated, 150 forwarded tokens: 8 · (900 + 160 + 300) · 1 000 = 1.09e7
    assert "| LUFFY | 8 | 1 | 1 | 16 | 1.09e-05 |" in page
    assert "bash exp_scripts/train_method.sh hpt " in page


def test_a_failed_method_leaves_the_ladder(runs, tmp_path):
    found = climb(make_runs(tmp_path, fail="experiment=luffy"), NAMES, ladder(5, 2, 8), [0], budget=3600)
    assert "ended with exit code 3; see" in found.failed["luffy"] and list(found.rungs[1]) == ["on_policy", "sft_rl", "hpt", "chord_phi"]
    assert "* LUFFY failed: runs/luffy/seed0: ended with exit code 3" in report(found, runs, ladder(5, 2, 8), [0], budget=3600)


def test_a_rung_beyond_the_budget_is_left_out(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(Runs, "spent", property(lambda self: float(len(list(self.folder.rglob("took_*.json"))))))
    found = climb(
        runs, NAMES, ladder(5, 2, 8), [0], budget=13.0
    )  # the base, and in rung 1 two parts a method and one more of SFT then RL: 12; in rung 2 two of each of three
    assert list(found.rungs) == [1] and found.stopped == "the budget was used up in rung 2, which is left out"
    assert "The ladder ended early: the budget was used up in rung 2" in report(found, runs, ladder(5, 2, 8), [0], budget=20)


def test_a_probe_tells_starts_from_steps(runs):
    start, step = runs.probe(METHODS["luffy"])
    assert step == 3.0 and start == 0.0  # the stub takes less than the 9 s that it says its steps took


def outcome(name: str, scores, *, kept=None, flops=1.0, rung=2) -> Outcome:
    kept = None if kept is None else np.array([kept], float)
    return Outcome(name=name, title=name.upper(), rung=rung, scores_SP=np.array(scores, float), kept_SP=kept, flops=flops)


MANY = np.tile([0.0, 1.0], 50)  # 100 problems
NONE, HALF = np.zeros((1, 100)), np.full(100, 0.5)


def test_the_cheaper_of_two_that_cannot_be_told_apart():
    even, odd = outcome("a", [MANY], flops=3.0), outcome("b", [np.roll(MANY, 1) * 0.98], flops=2.0)
    advice = advise([even, odd], NONE, None, {})
    assert advice.method == "b" and any(line.startswith("A cannot be told from B: +1.0 points") for line in advice.because)
    assert any("costs less (2 beside 3 FLOPs)" in line for line in advice.because)
    assert any("problems instead of 100 would tell A from B" in line for line in advice.unless)
    assert any(line.startswith("One seed") for line in advice.unless) and any("--heldout2" in line for line in advice.unless)


def test_the_better_one_though_it_costs_more():
    better, worse = outcome("a", [HALF + 0.3], flops=9.0), outcome("b", [HALF], flops=1.0)
    advice = advise([worse, better], NONE, None, {1: {"a": HALF[None], "b": HALF[None] + 0.1}})
    assert advice.method == "a" and "A is ahead of B: +30.0 points [+30.0, +30.0]." in advice.because
    assert any(line.startswith("B led after rung 1") for line in advice.unless)


def test_one_that_forgets_is_passed_over_and_one_that_never_moved_is_none():
    first, second = outcome("a", [MANY], kept=HALF - 0.2), outcome("b", [np.roll(MANY, 1)], kept=HALF, flops=5.0)
    advice = advise([first, second], NONE, HALF[None], {})
    assert advice.method == "b" and "On the second held-out set A forgets: -20.0 points [-20.0, -20.0]." in advice.because
    assert any("keeps what the start model could" in line for line in advice.because)
    assert advise([outcome("a", [MANY])], np.roll(MANY, 1)[None], None, {}).method is None


def test_one_that_was_dropped_within_the_noise_is_named():
    dropped = outcome("c", [np.roll(MANY, 1) * 0.9], rung=1)
    advice = advise([outcome("a", [HALF + 0.3]), dropped], NONE, None, {1: {"a": MANY[None], "c": dropped.scores_SP}})
    assert any(line.startswith("C was dropped after rung 1 within the noise (+5.0 points") for line in advice.unless)


def test_schedules_turn_at_their_share_of_the_last_rung():
    task = make_runs(Path("/x")).task
    command = training_command(task, METHODS["chord_mu"], steps=5, last=50, seed=3, folder=Path("/run"))
    assert {"luffy.objective.imitation_share.until=20", "trainer.total_training_steps=5", "luffy.run.seed=3"} <= set(command)  # 200 of 500
    for name in ("luffy", "sft"):
        needs = replace(task, machine_overrides=("attention=sdpa",))
        assert "attention=sdpa" in training_command(needs, METHODS[name], steps=5, last=50, seed=3, folder=Path("/run"))
    assert "imitation_share" not in full_command(task, METHODS["chord_mu"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--methods", "lufy"], "--methods lufy: there is no such method; choose of on_policy"),
        (["--methods", "kdrl"], "--methods kdrl learns from a teacher: give --teacher MODEL"),
        (["--budget", "2 days"], "'2 days' is no duration; give hours, minutes or seconds"),
        (["--budget", "5m"], "takes about 15 minutes, and 5 are left of the budget"),
        (["--steps", "3"], "3 steps in 2 rungs leave 1 for the first one"),
        (["--seeds", "1", "1"], "--seeds 1 1: give one or more different numbers"),
        (["--heldout", "missing.parquet"], "missing.parquet does not exist"),
        (["--overrides", "luffy.objective.gama=1", "--methods", "luffy"], "gama"),
        (["--model", "nowhere/at/all"], "nowhere/at/all"),
    ],
)
def test_mistakes_are_one_line(tiny_example, tmp_path, capsys, monkeypatch, words, says):
    usual = {
        "--model": tiny_example.model,
        "--train": tiny_example.train,
        "--heldout": tiny_example.heldout,
        "--methods": "luffy hpt hpt chord_phi",
    }
    monkeypatch.setattr(sys, "argv", ["pilot", *arguments(usual, words), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit:
        command_line.run(pilot_command.main)
    said = capsys.readouterr().err.strip().splitlines()
    assert exit.value.code == 2 and says in said[-1] and said[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_composes_for_the_papers_models_and_starts_nothing(tmp_path, capsys, monkeypatch):
    words = ["--model", "qwen2_5_math_1_5b", "--train", "data/x.parquet", "--heldout", "data/y.parquet", "--profile", "gpu"]
    words += ["--budget", "120h", "--methods", "luffy", "chord_mu", "bread", "--dry-run", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["pilot", *words])
    assert pilot_command.main() == 0
    said = capsys.readouterr().out
    # 0.9 · 432 000 = 600 + 6 · 1 200 + 554 (4 + 2) · 114.6
    assert "rung 1            4 of 4 methods up to step 114" in said and "rung 2            2 of 4 methods up to step 228" in said
    assert "models/Qwen2.5-Math-1.5B-16k" in said and "not ready here" in said and "GPUs" in said
    assert "paper_model=qwen2_5_math_1_5b" in said and not (tmp_path / "out").exists()


def test_a_folder_of_another_pilot_is_refused(tmp_path, runs):
    first = Pilot(model="m", train=Path("t"), heldout=Path("h"))
    for _ in range(2):
        begin(tmp_path / "out2", first.identity(runs.task))
    with pytest.raises(InputError, match="holds another pilot \\(rungs differ\\)"):
        begin(tmp_path / "out2", replace(first, rungs=3).identity(runs.task))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="no pilot made"):
        begin(tmp_path / "mine", first.identity(runs.task))


def arguments(usual: dict, words: list[str]) -> list[str]:
    return [word for name, value in usual.items() if name not in words for word in (name, *str(value).split())] + words
