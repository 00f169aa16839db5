"""Two checkpoints and the best one stay on disk, whatever an earlier part of the run has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl.mix_src.checkpoints import best_checkpoint, keep_best, keep_newest, score_of

STEPS = (5, 50, 100, 150)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in STEPS:
        export = tmp_path / f"global_step_{step}" / "actor" / "huggingface"
        export.mkdir(parents=True)
        (export / "model.safetensors").write_text(str(step))
    return tmp_path


def checkpoints(folder: Path) -> set[int]:
    return {int(each.name.rpartition("_")[2]) for each in folder.glob("global_step_*")}


def kept(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder / "best")): file.read_text() for file in (folder / "best").rglob("*") if file.is_file()}


@pytest.mark.parametrize(("number", "left"), [(1, {150}), (2, {100, 150}), (9, set(STEPS))])
def test_the_newest_stay(folder: Path, number: int, left: set[int]) -> None:
    keep_newest(folder, number)
    assert checkpoints(folder) == left


def test_the_best_outlives_its_original_and_takes_no_space(folder: Path) -> None:
    assert keep_best(folder, 50, 0.25)
    export = "global_step_50/actor/huggingface/model.safetensors"
    assert (folder / "best" / export).samefile(folder / export)
    keep_newest(folder, 2)
    assert kept(folder) == {export: "50", "score.json": '{"step": 50, "score": 0.25}\n'}


def test_only_a_better_one_takes_its_place(folder: Path) -> None:
    assert keep_best(folder, 50, 0.25)
    assert not keep_best(folder, 100, 0.25)
    assert not keep_best(folder, 60, 0.75)  # validated, but not saved
    assert best_checkpoint(folder) == folder / "best" / "global_step_50"
    assert keep_best(folder, 150, 0.5)
    assert "global_step_150/actor/huggingface/model.safetensors" in kept(folder) and len(kept(folder)) == 2


def test_score_is_the_mean_over_the_held_out_sets() -> None:
    metrics = {
        "val-core/aime/acc/mean@8": 0.2, "val-core/amc/acc/mean@4": 0.6, "val-core/aime/acc/best@8/mean": 0.9,
        "val-aux/aime/reward/mean@8": 0.1,
    }  # fmt: skip
    assert score_of(metrics) == pytest.approx(0.4)
    assert score_of({"val-aux/x": 1.0}) is None
