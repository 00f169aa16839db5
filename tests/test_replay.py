"""The store in the trainer: which prompts a step has, and what it observes of its rows. ``test_replay_engine.py`` trains."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from luffy.store import Group, Row
from miniature.tokenizer import build_tokenizer
from verl.mix_src.config import luffy_config
from verl.mix_src.rl.batch import RolloutBatch
from verl.mix_src.rl.replay import groups_of
from verl.mix_src.rl.rollout import GIVEN, PLACE
from verl.mix_src.rl.trainer import MixTrainerSync

ROWS, PROMPTS = 10, 4
REPLAY = ["luffy.guidance.n_demonstrations=0", "luffy.store.admit=partly_solved", "luffy.store.retire=true", "luffy.store.pick=newest"]


class Trainer(MixTrainerSync):
    """veRL's trainer with its data loaders alone."""

    def __init__(self, config: DictConfig) -> None:
        self.config, self.luffy, self.tokenizer, self.processor = config, luffy_config(config), build_tokenizer(), None
        self.trainer_mode, self.parameter_sync_step, self.global_steps, self._prompts_fetched = "sync", 1, 0, 0
        self._init_dataloader()

    def next(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Name, prompt and given row of each group of the next step, in the order of names."""
        self.global_steps += 1
        batch = self._next_train_batch()
        columns = [[getattr(each, "data", each) for each in batch[name]] for name in ("uid", PLACE, GIVEN)]
        assert batch["global_steps"] == self.global_steps and len(batch) == PROMPTS
        return sorted(zip(*columns, strict=True), key=lambda group: group[0])


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    rows = [
        {"prompt": [{"role": "user", "content": str(i)}], "data_source": "a", "extra_info": {"index": i},
         "reward_model": {"style": "rule", "ground_truth": "3"}, "target": [{"role": "assistant", "content": "3"}] if i % 2 else None}
        for i in range(ROWS)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    with initialize_config_module("verl.mix_src.config", version_base=None):
        config = compose("mix_ppo", overrides=[
            "profile=cpu", f"data.train_files={tmp_path / 'train.parquet'}", f"data.val_files={tmp_path / 'train.parquet'}",
            f"data.train_batch_size={PROMPTS}", f"trainer.default_local_dir={tmp_path / 'run'}", "luffy.run.validate_greedy=false", *REPLAY,
        ])  # fmt: skip
    return Trainer(config)


def solved_in_part(*keys: int) -> list[Group]:
    kept = [Row(tokens=np.array([5, 6], np.int32), log_probs=np.array([-0.5, -0.25], np.float32))]
    return [Group(key=key, rows=kept, size=8, correct=4, has_trace=False) for key in keys]


def test_a_step_has_its_share_of_replayed_prompts_and_loses_none_of_the_data(trainer):
    fetched = Counter(place for _ in range(2) for _, place, given in trainer.next() if not given)
    trainer.experience.observe(solved_in_part(1, 2, 3))
    for step in range(3, 9):  # 2 + 6 steps: 8 + 12 prompts, two epochs
        trainer.experience.plan_replay(step, pytest.fail)
        groups = trainer.next()
        replayed = [(place, given) for _, place, given in groups if given]
        assert len(replayed) == 2 and len({place for place, _ in replayed} & {1, 2, 3}) == 2
        assert replayed[0][1]["tokens"].tolist() == [5, 6] and replayed[0][1]["log_probs"].tolist() == [-0.5, -0.25]
        assert [name for name, *_ in groups] == [f"{step:08d}-{number:010d}" for number in range(4 * step - 4, 4 * step)]
        fetched.update(place for _, place, given in groups if not given)
    assert fetched == dict.fromkeys(range(ROWS), 2)


def test_replayed_groups_stand_among_the_others(trainer):
    trainer.experience.observe(solved_in_part(1, 2, 3))
    places = []
    for step in range(1, 30):
        trainer.experience.plan_replay(step, pytest.fail)
        places += [number for number, (_, _, given) in enumerate(trainer.next()) if given]
    assert all(count > 5 for count in Counter(places).values()) and set(places) == {0, 1, 2, 3}


def test_retired_prompts_leave_the_data_with_the_epoch(trainer):
    trainer.experience.observe([Group(key=key, rows=(), size=8, correct=8, has_trace=False) for key in (0, 1, 2)])
    places = Counter(place for _ in range(7) for _, place, _ in trainer.next())  # four epochs, all begun after they were retired
    assert places == dict.fromkeys(range(3, ROWS), 4)


def test_a_run_that_goes_on_has_the_same_prompts(trainer, tmp_path):
    trainer.experience.observe(solved_in_part(1, 2, 3))

    def steps(of: Trainer) -> list[Any]:
        found = []
        for step in range(3, 7):
            of.experience.plan_replay(step, pytest.fail)
            found.append([(name[:8], place, bool(given)) for name, place, given in of.next()])
        return found

    trainer.next(), trainer.next()
    state = trainer.train_dataloader.state_dict()
    trainer.save_store(tmp_path / "global_step_2")
    expected = steps(trainer)
    other = Trainer(trainer.config)
    other.global_steps = 2
    other.train_dataloader.load_state_dict(state)
    other.load_store(tmp_path / "global_step_2")
    assert steps(other) == expected


def test_what_is_observed_of_a_step():
    """Group b, written first, has a replayed row, a rollout that is right and one that is not; group a has none that is right."""
    responses = [[1, 2, 3], [4, 5], [6], [7, 8], [9, 9, 9]]
    nested = torch.nested.nested_tensor([torch.tensor(each) for each in responses], layout=torch.jagged)
    response = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).bool()
    forced = torch.zeros_like(response)
    forced[1] = response[1]
    batch = RolloutBatch(
        keys=["b_2_0", "b_0_0", "b_1_0", "a_0_0", "pad_0_0"],
        places=[40, 40, 40, 30, 40],
        groups=np.array(["b", "b", "b", "a", "pad"], dtype=object),
        rewards=torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]),
        response_mask_BT=response,
        off_policy_mask_BT=forced,
        old_log_probs_BT=torch.where(response, -torch.arange(1.0, 4), torch.nan),
        entropy_BT=None,
        truncated=torch.zeros(5, dtype=torch.bool),
        real=response.any(dim=-1),
        extra=[{}] * 5,
        nested={"responses": nested},
    )
    asked = []
    first, second = groups_of(batch, has_trace=lambda key: asked.append(key) or True)
    assert (first.key, first.size, first.correct, first.has_trace, list(first.rows)) == (30, 1, 0, True, [])
    assert (second.key, second.size, second.correct, second.has_trace) == (40, 3, 2, False)
    (kept,) = second.rows  # the replayed one is not kept again
    assert kept.tokens.tolist() == [1, 2, 3] and kept.log_probs.tolist() == [-1.0, -2.0, -3.0]
    assert asked == [30]
