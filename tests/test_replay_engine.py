"""A store on the real engine: a run that is stopped in the middle and goes on is the run that was not, to the last digit."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file
from test_training import TIMES_AND_MEMORY, command

pytestmark = [pytest.mark.integration, pytest.mark.alone]

STEPS, STOPPED_AT = 6, 3
REWARD = """
def score(data_source, solution_str, ground_truth, extra_info=None):
    return float(sum(map(ord, solution_str)) % 3 == 0)  # of a third of the rows, whatever the model knows
"""
EVERY = [f"trainer.total_training_steps={STEPS}", f"trainer.save_freq={STOPPED_AT}", "luffy.guidance.n_demonstrations=0"]
METHODS = {
    "replay": ["luffy.store.admit=partly_solved", "luffy.store.start_above=0.2", "luffy.store.clip_before_start=0.2",
               "luffy.store.retire=true"],
    "queue": ["luffy.store.admit=unsolved", "luffy.store.update_at=20"],
}  # fmt: skip


def train(example, folders: dict[str, Path]) -> dict[str, list[dict[str, float]]]:
    """Train a run a method side by side, which is faster; metrics of each step but times and memory."""
    with ThreadPoolExecutor(len(folders)) as threads:
        return dict(zip(folders, threads.map(partial(_train, example), folders.values(), folders), strict=True))


def _train(example, folder: Path, method: str) -> list[dict[str, float]]:
    overrides = [*EVERY, *METHODS[method]]
    if method == "replay":
        (folder.parent / "reward.py").write_text(REWARD)
        overrides += [f"reward.custom_reward_function.path={folder.parent / 'reward.py'}", "reward.custom_reward_function.name=score"]
    done = subprocess.run(command(example, folder, *overrides), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-1000:] + (folder / "train.log").read_text(errors="replace")[-5000:]
    records = [json.loads(line)["data"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in each.items() if not any(part in name for part in TIMES_AND_MEMORY)} for each in records]


@pytest.fixture(scope="module")
def straight(tiny_example, tmp_path_factory) -> tuple[dict[str, Path], dict[str, list[dict[str, float]]]]:
    """Folder and metrics of each method's run, straight through."""
    folders = {method: tmp_path_factory.mktemp(method) / "straight" for method in METHODS}
    return folders, train(tiny_example, folders)


def test_right_rows_of_the_past_are_replayed(straight) -> None:
    run = straight[1]["replay"]
    assert len(run) == STEPS
    assert [each["store/started"] for each in run] == [1.0] * STEPS
    assert [each["off_policy/row_share"] for each in run] == [0, 0, *[8 / 128] * 4]  # half of 16 groups have a replayed row
    assert all(each["off_policy/source/replay/reward"] == 1.0 for each in run[2:])
    assert all(0.9 < each["actor/off_policy_ratio"] < 1.1 for each in run[2:])  # π over the recorded π, not π itself
    assert all(each["off_policy/probability"] < 0.9 for each in run[2:])


def test_queued_prompts_are_learnt_from_their_traces(straight) -> None:
    run = straight[1]["queue"]
    assert [each.get("sft/prompts") for each in run[:3]] == [None, 20.0, 20.0]  # 16, 32 - 20 = 12, 28 - 20 = 8
    losses = [each["sft/loss"] for each in run if "sft/loss" in each]
    assert len(run) == STEPS and losses[-1] < losses[0]


def test_a_run_that_is_stopped_and_goes_on_is_the_run_that_was_not(straight, tiny_example) -> None:
    folders, metrics = straight
    stopped = {method: folder.with_name("stopped") for method, folder in folders.items()}
    for method, folder in stopped.items():  # what a kill after the last step, before its checkpoint was named, leaves
        shutil.copytree(folders[method], folder)
        shutil.rmtree(folder / f"global_step_{STEPS}")
        (folder / "latest_checkpointed_iteration.txt").write_text(str(STOPPED_AT))
    assert train(tiny_example, stopped) == metrics
    for method in METHODS:
        ends = [run[method] / f"global_step_{STEPS}" for run in (folders, stopped)]
        weights = [load_file(end / "actor/huggingface/model.safetensors") for end in ends]
        assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
        assert (ends[0] / "store/state.json").read_text() == (ends[1] / "store/state.json").read_text()
