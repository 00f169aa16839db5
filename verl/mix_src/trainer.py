"""veRL's PPO trainers with LUFFY's loss, advantages and metrics.

:class:`MixTrainer` is independent of the trainer mode; the classes at the end join it with each mode of veRL.
"""

from __future__ import annotations

import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from tensordict import TensorDict
from torch.utils.data import ConcatDataset, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from luffy import metric_names
from luffy.entropy_coefficient import make_entropy_coefficient
from luffy.guidance import guided_rows
from luffy.rewards import gate_warning
from luffy.training_report import GREEDY_SUFFIX
from verl.mix_src.actor import ENTROPY_COEFFICIENT, mix_ppo_loss
from verl.mix_src.advantage import ROWS, Rows
from verl.mix_src.batch import RolloutBatch, count_lost_rows
from verl.mix_src.checkpoints import keep_best, keep_newest, score_of
from verl.mix_src.metrics import REASON_PREFIX, VERDICT, overhead_share, rollout_metrics, validation_shares
from verl.mix_src.reward import REASON
from verl.mix_src.rollout import GREEDY, luffy_config

logger = logging.getLogger(__name__)

CONTROLLER_FILE = "entropy_coefficient.json"


class MixTrainer:
    """LUFFY's part of a training step; mixed into a trainer of veRL, whose methods it extends."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.luffy = luffy_config(config)
        self.entropy_coefficient = make_entropy_coefficient(self.luffy.entropy)
        self._prompts_fetched = 0

    def on_init_end(self) -> None:
        """Give the actor LUFFY's loss before training starts."""
        self.actor_rollout_wg.set_loss_fn(partial(mix_ppo_loss, self.luffy.objective))
        self.replay_buffer.poll_interval = self.luffy.run.poll_interval_s
        super().on_init_end()

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if self.luffy.run.validate_greedy:
            n = self.config.actor_rollout_ref.rollout.val_kwargs.n
            both = ConcatDataset([Sampled(self.val_dataset, n), Greedy(self.val_dataset)])
            self.val_dataset = both
            self.val_dataloader = StatefulDataLoader(
                dataset=both,
                batch_size=self.config.data.val_batch_size or len(both),
                num_workers=self.config.data.dataloader_num_workers,
                drop_last=False,
                collate_fn=collate_fn,
            )

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = super()._fetch_one_gen_batch()
        if self.trainer_mode == "sync":  # names in order, so that the rows of a step have one order in every run
            start, self._prompts_fetched = self._prompts_fetched, self._prompts_fetched + len(batch)
            names = [f"{self.global_steps:08d}-{number:010d}" for number in range(start, start + len(batch))]
            batch["uid"] = tu.get_tensordict({"uid": np.array(names, dtype=object)})["uid"]
        return batch

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        if self.trainer_mode == "sync":  # the other trainers replace a group whose requests failed
            expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n // self.parameter_sync_step
            metrics["training/lost_rows"] = count_lost_rows(batch.keys, expected, allowed=self.luffy.run.lost_rows)
        batch.reorder(sorted(range(len(batch)), key=lambda position: _row_name(batch.keys[position])))
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        rollouts = RolloutBatch.fetch(batch, self.tokenizer.eos_token_id, self.config.data.max_response_length)
        rollouts.replace_forced_log_probs(batch)
        included = rollouts.real & guided_rows(rollouts.rewards, rollouts.groups, rollouts.off_policy, self.luffy.guidance.on_demand_below)
        rollouts.withhold(batch, rollouts.real & ~included)
        metrics.update(rollout_metrics(rollouts, included))
        self._warn_of_thought_gate(rollouts)
        rows = Rows(
            off_policy=rollouts.off_policy,
            included=included,
            truncated=rollouts.truncated,
            config=self.luffy.advantage,
        )
        token = ROWS.set(rows)
        try:
            return super()._compute_advantage(batch, metrics)
        finally:
            ROWS.reset(token)

    def _warn_of_thought_gate(self, rollouts: RolloutBatch) -> None:
        reasons = [extra[VERDICT][REASON] for extra in rollouts.extra if REASON in extra.get(VERDICT, {})]
        prompt, response = (rollouts.nested[name][0] for name in ("prompts", "responses"))
        if reasons and (warning := gate_warning(reasons, self.tokenizer.decode(prompt), self.tokenizer.decode(response))):
            logger.warning(warning)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch.extra_info[ENTROPY_COEFFICIENT] = self.entropy_coefficient.value
        metrics["actor/entropy_coefficient"] = self.entropy_coefficient.value
        self.entropy_coefficient.update(metrics[metric_names.ENTROPY])
        actor_metrics: dict[str, Any] = {}
        batch = super()._update_actor(batch, actor_metrics)
        metrics.update(metric_names.finish(actor_metrics))
        return batch

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], *args: Any, **kwargs: Any
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, *args, **kwargs)
        metrics["timing/overhead_share"] = overhead_share(timing_raw)

    def _val_metrics_update(
        self, data_sources: list[str], uids: list[str], infos: dict[str, list[Any]], turns: list[int], **kwargs: Any
    ) -> dict[str, float]:
        # veRL bootstraps each number, a second for each thousand samples; a mean is enough for the verifier's reasons.
        shares = {name: values for name, values in infos.items() if name.startswith(REASON_PREFIX)}
        own = self.config.reward.custom_reward_function.path is not None  # its score need not be the accuracy
        same = ("score", "reward") if "acc" in infos and not own else ("score",)
        others = {name: values for name, values in infos.items() if name not in shares and name not in same}
        metrics = super()._val_metrics_update(data_sources, uids, others, turns, **kwargs)
        return metrics | validation_shares(data_sources, shares)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        if (score := score_of(metrics)) is not None:
            keep_best(self._folder, self.global_steps, score)
        return metrics

    def _save_checkpoint(self) -> None:
        controller = self._controller_file(self.global_steps)
        shutil.rmtree(controller.parent, ignore_errors=True)  # an earlier part of the run's; the best one may share its files
        super()._save_checkpoint()
        controller.write_text(json.dumps(self.entropy_coefficient.state_dict()))
        if number := self.config.trainer.max_actor_ckpt_to_keep:
            keep_newest(self._folder, number)

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        file = self._controller_file(self.global_steps)
        if self.global_steps > 0 and file.exists():
            self.entropy_coefficient.load_state_dict(json.loads(file.read_text()))

    def _controller_file(self, step: int) -> Path:
        return self._folder / f"global_step_{step}" / CONTROLLER_FILE

    @property
    def _folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir)


def _row_name(key: str) -> tuple[str, int, int]:
    """Order of a row from its key ``{uid}_{session}_{output}``."""
    uid, session, output = key.rsplit("_", 2)
    return uid, int(session), int(output)


class Sampled(Dataset):
    """Validation rows that are answered ``n`` times by sampling."""

    def __init__(self, rows: Dataset, n: int) -> None:
        self.rows, self.n = rows, n

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], "__rollout_n__": self.n, GREEDY: False}


class Greedy(Sampled):
    """The same rows, answered once, greedily, under the data source's name with a suffix."""

    def __init__(self, rows: Dataset) -> None:
        super().__init__(rows, 1)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = super().__getitem__(index)
        return {**row, "data_source": row["data_source"] + GREEDY_SUFFIX, GREEDY: True}


class MixTrainerSync(MixTrainer, PPOTrainerSync):
    """Rollout and training in turn on the same devices: the paper's setting."""


class MixTrainerColocateAsync(MixTrainer, PPOTrainerColocateAsync):
    """Rollouts may continue over a weight update, on the same devices."""


class MixTrainerSeparateAsync(MixTrainer, PPOTrainerSeparateAsync):
    """Rollout and training on separate devices."""


TRAINERS = {
    "sync": MixTrainerSync,
    "colocate_async": MixTrainerColocateAsync,
    "separate_async": MixTrainerSeparateAsync,
}
