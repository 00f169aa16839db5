"""Checkpoints are whole or not there, are looked at before they are used; two and the best one stay."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from luffy.errors import InputError
from verl.mix_src.run.checkpoints import (
    best_checkpoint,
    fault,
    keep_best,
    keep_newest,
    noted,
    refuse_foreign,
    score_of,
    settle_newest,
    step_of,
    unpickling_numbers_alone,
    written_aside,
)  # fmt: skip

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


def save(folder: Path, step: int, size: int = 1000) -> Path:
    """A checkpoint of two files as veRL lays them out, by the real way of a save."""
    with written_aside(folder, step, {"identity": {"luffy.run.seed": 0}}) as aside:
        actor = aside / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        torch.save({"weights": torch.full((size,), float(step))}, actor / "model_world_size_1_rank_0.pt")
        (actor / "huggingface").mkdir()
        (actor / "huggingface" / "config.json").write_text('{"hidden_size": 64, "vocab_size": 20}')
    return folder / f"global_step_{step}"


def weights(checkpoint: Path) -> float:
    return torch.load(checkpoint / "actor" / "model_world_size_1_rank_0.pt", weights_only=True)["weights"][0].item()


def test_the_manifest_has_size_and_sha256_of_each_file(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 3)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    assert manifest["step"] == 3 and manifest["identity"] == {"luffy.run.seed": 0}
    assert manifest["files"]["actor/huggingface/config.json"] == {
        "bytes": 37,
        "sha256": subprocess.run(
            ["sha256sum", checkpoint / "actor/huggingface/config.json"], capture_output=True, text=True
        ).stdout.split()[0],
    }
    assert set(manifest["files"]) == {"actor/huggingface/config.json", "actor/model_world_size_1_rank_0.pt"}
    assert fault(checkpoint) is None and noted(tmp_path) == checkpoint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step_3", "latest_checkpointed_iteration.txt"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lead_out(path: Path) -> None:
    path.rename(path.parents[3] / "elsewhere.pt")
    path.symlink_to(path.parents[3] / "elsewhere.pt")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, r"rank_0\.pt has \d+ bytes, \d+ were saved"),
        (change, r"rank_0\.pt is not what was saved"),
        (Path.unlink, r"rank_0\.pt is missing"),
        (lead_out, r"rank_0\.pt leads out of the checkpoint"),
        (lambda path: cut(path.parents[1] / "manifest.json"), r"manifest\.json cannot be read"),
    ],
)
def test_a_broken_newest_one_is_named_and_the_one_before_it_is_used_or_refused(harm, said: str, tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    harm(tmp_path / "global_step_2" / "actor" / "model_world_size_1_rank_0.pt")
    with pytest.raises(InputError, match=rf"newest checkpoint is broken \(.*global_step_2: .*{said}.*skip goes on from global_step_1"):
        settle_newest(tmp_path, broken="refuse")
    assert noted(tmp_path).name == "global_step_2"  # a refusal changes nothing
    (line,) = settle_newest(tmp_path, broken="skip")
    assert re.search(rf"moved to {tmp_path}/broken: global_step_2: .*{said}.*; global_step_1 is used", line)
    assert noted(tmp_path) == tmp_path / "global_step_1" and (tmp_path / "broken" / "global_step_2").is_dir()
    assert settle_newest(tmp_path, broken="refuse") == []


def test_without_a_good_one_the_run_does_not_begin_anew_by_itself(tmp_path: Path) -> None:
    assert settle_newest(tmp_path, broken="skip") == []  # no run yet
    cut(save(tmp_path, 1) / "actor" / "model_world_size_1_rank_0.pt")
    with pytest.raises(InputError, match=r"no checkpoint is good .*trainer\.resume_mode=disable begins anew"):
        settle_newest(tmp_path, broken="skip")


def test_a_whole_one_that_the_note_does_not_name_yet_is_used(tmp_path: Path) -> None:
    """A kill between the rename and the note; and a save of an earlier version, cut off, which has no manifest and no note."""
    for step in (1, 2):
        save(tmp_path, step)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("1")
    (tmp_path / "global_step_3" / "actor").mkdir(parents=True)
    assert settle_newest(tmp_path, broken="skip") == [] and noted(tmp_path).name == "global_step_2"


def test_one_of_an_earlier_version_is_opened(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint / "manifest.json").unlink()
    assert settle_newest(tmp_path, broken="skip") == [] and noted(tmp_path) == checkpoint
    cut(checkpoint / "actor" / "model_world_size_1_rank_0.pt")
    with pytest.raises(InputError, match=r"global_step_1: actor/model_world_size_1_rank_0\.pt is cut off"):
        settle_newest(tmp_path, broken="skip")


def test_a_foreign_one_is_refused_with_the_difference(tmp_path: Path) -> None:
    checkpoint, model = save(tmp_path, 1), tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"hidden_size": 96, "vocab_size": 20}')
    with pytest.raises(InputError, match=r"is of another model \(hidden_size 64 -> 96\)"):
        refuse_foreign(checkpoint, ranks=1, model=model)
    with pytest.raises(InputError, match=r"was written by 1 ranks and this run has 2"):
        refuse_foreign(checkpoint, ranks=2, model=model)
    (model / "config.json").write_text('{"hidden_size": 64, "vocab_size": 20}')
    refuse_foreign(checkpoint, ranks=1, model=model)


def saves_on(folder: Path, step: int) -> tuple[int, int]:
    """A process that saves step after step, and where it says each that is saved."""
    heard, told = os.pipe()
    process = os.fork()
    if process == 0:
        while True:
            save(folder, step, size=3_000_000)  # 12 MB: a kill meets any part of it
            os.write(told, f"{step}\n".encode())
            keep_best(folder, step, step / 1e6)
            keep_newest(folder, 2)
            step += 1
    os.close(told)
    return process, heard


def test_killed_at_twenty_random_moments_a_save_leaves_what_can_be_resumed(tmp_path: Path) -> None:
    """Each time from where the last one was killed, as a run would; a step that was said to be saved is never lost."""
    draw, said, inside = random.Random(0), 0, 0
    for _ in range(20):
        process, heard = saves_on(tmp_path, said + 1)
        with os.fdopen(heard) as saved:
            said = int(saved.readline())
            time.sleep(draw.uniform(0.0, 0.2))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            said = max([said, *map(int, saved.read().split())])
        inside += (tmp_path / ".saving").exists()
        assert settle_newest(tmp_path, broken="refuse") == []
        newest = noted(tmp_path)
        assert step_of(newest) in (said, said + 1) and weights(newest) == step_of(newest)
        assert best_checkpoint(tmp_path) is None or fault(best_checkpoint(tmp_path)) is None
        assert {path.name for path in tmp_path.iterdir()} - {"best", "latest_checkpointed_iteration.txt"} == {
            path.name for path in tmp_path.glob("global_step_*")
        }
        said = step_of(newest)
    assert inside >= 5  # it was killed inside saves


FULL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_checkpoints import save
from verl.mix_src.run.checkpoints import CheckpointFailed, is_out_of_space, require_room
folder = Path(sys.argv[2])
save(folder, 1, size=100_000)
try:
    require_room(folder)
except CheckpointFailed as error:
    print(error)
try:
    save(folder, 2, size=100_000)
except Exception as error:
    print(type(error).__name__, is_out_of_space(error))
"""


def test_a_full_disk_costs_that_checkpoint_alone(tmp_path: Path) -> None:
    """A real disk of 600 kB, and checkpoints of 400 kB."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")
    script = (
        f'mount -t tmpfs -o size=600k none "{tmp_path}" && "$@" && ls -A "{tmp_path}" && cat "{tmp_path}/latest_checkpointed_iteration.txt"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", FULL, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, during, *left, newest = done.stdout.split("\n")
    assert re.fullmatch(rf"the disk of {tmp_path} is full: \d+ bytes are free, a checkpoint takes 40\d{{4}}", before)
    assert during == "RuntimeError True"  # PyTorch's own error of a file that it could not write whole
    assert left == ["global_step_1", "latest_checkpointed_iteration.txt"] and newest == "1"


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_nothing_but_numbers_is_unpickled(tmp_path: Path) -> None:
    """The random states that veRL saves are read; what would run code is not, though veRL asks PyTorch to unpickle all."""
    file, mark = tmp_path / "extra_state.pt", tmp_path / "harmed"
    states = {"rng": {"numpy": np.random.get_state(), "random": random.getstate(), "cpu": torch.get_rng_state()}, "lr_scheduler": {}}
    torch.save(states, file)
    with unpickling_numbers_alone():
        assert sorted(torch.load(file, weights_only=False)) == ["lr_scheduler", "rng"]
    torch.save({**states, "lr_scheduler": Harm(mark)}, file)
    with unpickling_numbers_alone(), pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(file, weights_only=False)
    assert not mark.exists()
    torch.load(file, weights_only=False)  # outside of it, as veRL needs for its batches
    assert mark.exists()


class Loads:
    """Stands where veRL's engine, or its trainer, loads a file as veRL does."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def load_checkpoint(self, *_: object) -> None:
        torch.load(self.file, weights_only=False)

    _load_checkpoint = load_checkpoint


def test_the_ways_by_which_a_run_loads_unpickle_no_code(tmp_path: Path) -> None:
    """Ranks and trainer of reinforcement learning; ``test_sft_gradient.py`` and ``test_soak.py`` load real ones."""
    from verl.mix_src.rl.guarded import GuardedTrainer
    from verl.mix_src.rl.loss import MixTrainingWorker

    class Trainer(GuardedTrainer, Loads):
        pass

    file, mark = tmp_path / "shard.pt", tmp_path / "harmed"
    worker = object.__new__(MixTrainingWorker)
    worker.engine = Loads(file)
    torch.save({"weights": torch.ones(2)}, file)
    worker.load_checkpoint(str(tmp_path))
    Trainer(file)._load_checkpoint()
    torch.save({"weights": Harm(mark)}, file)
    for load in (lambda: worker.load_checkpoint(str(tmp_path)), Trainer(file)._load_checkpoint):
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            load()
    assert not mark.exists()
