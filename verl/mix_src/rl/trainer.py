"""veRL's PPO trainers with LUFFY's loss, advantages and metrics.

:class:`MixTrainer` is independent of the trainer mode; the classes at the end join it with each mode of veRL.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import ray
from omegaconf import DictConfig
from tensordict import TensorDict
from torchdata.stateful_dataloader import StatefulDataLoader
from transfer_queue import KVBatchMeta
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from luffy import metric_names
from luffy.files import write_json
from luffy.guidance import guided_rows
from luffy.objective.entropy import make_entropy_coefficient
from luffy.rewards import gate_warning
from luffy.rewards.verdict import METRIC_PREFIX
from verl.mix_src.config import luffy_config
from verl.mix_src.rl.batch import (
    VERDICT,
    RolloutBatch,
    cost_metrics,
    count_lost_rows,
    overhead_share,
    rollout_metrics,
    row_name,
    teacher_prompts,
    validation_shares,
)
from verl.mix_src.rl.guarded import GuardedTrainer
from verl.mix_src.rl.loss import ENTROPY_COEFFICIENT, ROWS, STEP, MixDetachWorker, MixWorker, Rows
from verl.mix_src.rl.passes import PassesTrainer
from verl.mix_src.rl.recording import RecordingTrainer
from verl.mix_src.rl.replay import ReplayTrainer
from verl.mix_src.rl.reward import REASON
from verl.mix_src.rl.rollout import FAILED_REQUESTS
from verl.mix_src.rl.validation import SampledAndGreedy, each_bootstrap_once
from verl.mix_src.run.folder import go_on_with_metrics
from verl.mix_src.run.loggers import go_on_with_trackio

logger = logging.getLogger(__name__)

CONTROLLER_FILE = "entropy_coefficient.json"


class MixTrainer(RecordingTrainer, PassesTrainer, ReplayTrainer):
    """LUFFY's part of a training step; mixed into a trainer of veRL, whose methods it extends."""

    worker: type[MixWorker] = MixWorker

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.luffy = luffy_config(config)
        self.entropy_coefficient = make_entropy_coefficient(self.luffy.entropy)
        self._prompts_fetched = 0

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.Actor, Role.ActorRollout, Role.ActorRolloutRef, Role.RefPolicy):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(self.worker)

    def on_init_end(self) -> None:
        """Look for finished rollouts as often as the config says."""
        self.replay_buffer.poll_interval = self.luffy.run.poll_interval_s
        super().on_init_end()

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if self.luffy.run.validate_greedy:
            both = SampledAndGreedy(self.val_dataset, self.config.actor_rollout_ref.rollout.val_kwargs.n)
            self.val_dataset = both
            self.val_dataloader = StatefulDataLoader(
                dataset=both,
                batch_size=self.config.data.val_batch_size or len(both),
                num_workers=self.config.data.dataloader_num_workers,
                drop_last=False,
                collate_fn=collate_fn,
            )

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        batch = super()._next_train_batch(num_prompts)
        if self.trainer_mode == "sync":  # names in order, so that the rows of a step have one order in every run
            start, self._prompts_fetched = self._prompts_fetched, self._prompts_fetched + len(batch)
            names = [f"{self.global_steps:08d}-{number:010d}" for number in range(start, start + len(batch))]
            batch["uid"] = tu.get_tensordict({"uid": np.array(names, dtype=object)})["uid"]
        return batch

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        if self.trainer_mode == "sync":  # the other trainers replace a group whose requests failed
            expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n // self.parameter_sync_step
            metrics["training/lost_rows"] = count_lost_rows(batch.keys, expected, allowed=self.luffy.run.lost_rows)
        batch.reorder(sorted(range(len(batch)), key=lambda position: row_name(batch.keys[position])))
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def _step_once(self, metrics: dict[str, Any], timing_raw: dict[str, float], sample_batch_size: int) -> KVBatchMeta:
        batch = super()._step_once(metrics, timing_raw, sample_batch_size)
        self._rollouts.read_passes(batch)
        metrics.update(rollout_metrics(self._rollouts, self._included))
        return batch

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if self.luffy.teacher.privileged is None:
            return super()._compute_ref_log_prob(batch, metrics)
        with teacher_prompts(batch) as told:
            batch = super()._compute_ref_log_prob(batch, metrics)
        metrics["teacher/privileged_share"] = told / max(1, len(batch))
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        rollouts = RolloutBatch.fetch(batch, self.tokenizer.eos_token_id, self.config.data.max_response_length)
        metrics.update(self.observe(rollouts))
        rollouts.replace_forced_log_probs(batch)
        guidance = self.luffy.guidance
        needed = guided_rows(
            rollouts.rewards, rollouts.groups, rollouts.off_policy, guidance.on_demand_below, replaces=guidance.on_demand_replaces
        )
        included = rollouts.real & needed
        rollouts.withhold(batch, rollouts.real & ~included)
        rollouts.put_verdicts(batch)
        metrics.update(cost_metrics(rollouts, rollouts.nested["prompts"].offsets().diff()))
        self._rollouts, self._included = rollouts, included
        metrics["training/failed_requests"] = sum(extra.get(FAILED_REQUESTS, 0) for extra in rollouts.extra)
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
        batch.extra_info[STEP] = step = self.global_steps - 1
        metrics.update({f"actor/{name}": value for name, value in self.luffy.objective.scheduled(step).items()})
        metrics["actor/entropy_coefficient"] = self.entropy_coefficient.value
        measured = metrics.get(metric_names.ENTROPY)  # of all rows before the update, where a forward pass of their own told it
        actor_metrics: dict[str, Any] = {}
        batch = super()._update_actor(batch, actor_metrics)
        metrics.update(metric_names.finish(actor_metrics))
        self.entropy_coefficient.update(metrics[metric_names.ENTROPY] if measured is None else measured)
        return batch

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], *args: Any, **kwargs: Any
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, *args, **kwargs)
        metrics["timing/overhead_share"] = overhead_share(timing_raw)

    def _val_metrics_update(
        self, data_sources: list[str], uids: list[str], infos: dict[str, list[Any]], turns: list[int], **kwargs: Any
    ) -> dict[str, float]:
        self.record_validation(data_sources, infos)
        # veRL bootstraps each number, a second for each thousand samples; a mean is enough for the verifier's reasons.
        shares = {name: values for name, values in infos.items() if name.startswith(METRIC_PREFIX)}
        own = self.config.reward.custom_reward_function.path is not None  # its score need not be the accuracy
        same = ("score", "reward") if "acc" in infos and not own else ("score",)
        others = {name: values for name, values in infos.items() if name not in shares and name not in same}
        with each_bootstrap_once():
            metrics = super()._val_metrics_update(data_sources, uids, others, turns, **kwargs)
        return metrics | validation_shares(data_sources, shares)

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        controller = self._controller_file(self.global_steps)
        write_json(controller, self.entropy_coefficient.state_dict())
        self.save_store(controller.parent)

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps == 0:
            return
        trainer = self.config.trainer
        given = Path(trainer.resume_from_path) / CONTROLLER_FILE if trainer.resume_mode == "resume_path" else None
        file = given or self._controller_file(self.global_steps)
        if file.exists():
            self.entropy_coefficient.load_state_dict(json.loads(file.read_text()))
        self.load_store(file.parent)

    def _controller_file(self, step: int) -> Path:
        return self._folder / f"global_step_{step}" / CONTROLLER_FILE

    @property
    def _folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir)


class MixTrainerSync(GuardedTrainer, MixTrainer, PPOTrainerSync):
    """Rollout and training in turn on the same devices: the paper's setting."""


class MixTrainerColocateAsync(GuardedTrainer, MixTrainer, PPOTrainerColocateAsync):
    """Rollouts may continue over a weight update, on the same devices."""


class MixTrainerSeparateAsync(GuardedTrainer, MixTrainer, PPOTrainerSeparateAsync):
    """Rollout and training on separate devices."""

    worker = MixDetachWorker


TRAINERS = {
    "sync": MixTrainerSync,
    "colocate_async": MixTrainerColocateAsync,
    "separate_async": MixTrainerSeparateAsync,
}


class MixTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """Runs a whole training in one Ray actor."""

    def run(self, config: DictConfig) -> None:
        """Train until the end of ``config``."""
        go_on_with_metrics()
        go_on_with_trackio(config)
        trainer_base.TRAINER_REGISTRY.update(TRAINERS)
        super().run(config)
