"""LUFFY's loss and advantages in veRL's signatures.

veRL hands an estimator the rewards, the response mask and the group of each row; which rows are demonstrations reaches it through
:data:`ROWS`, set by the trainer around the call.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from tensordict import NonTensorData, TensorDict
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.trainer.ppo.core_algos import register_adv_est
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.device import get_device_id
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker
from verl.workers.utils.padding import no_padding_2_padding

from luffy.advantages import group_advantages, zero_truncated
from luffy.config import AdvantageConfig
from luffy.objective import BatchTotals, ObjectiveConfig, mixed_policy_loss
from luffy.objective.aggregation import count
from verl.mix_src.rl.batch import ROW_CORRECT, fit
from verl.mix_src.rl.kept import COMPUTED, OWN_PASS, RECORDED, ROW, keep
from verl.mix_src.rl.rollout import BEHAVIOUR_PROB, OFF_POLICY_MASK
from verl.mix_src.run.checkpoints import unpickling_numbers_alone

ENTROPY_COEFFICIENT = "entropy_coefficient"
REQUIRED = ("response_mask", "advantages", OFF_POLICY_MASK, BEHAVIOUR_PROB)
OPTIONAL = ("old_log_probs", "ref_log_prob", "rollout_is_weights", "teacher_log_prob", ROW_CORRECT)
STEP = "luffy_step"  # fact of a batch: training step from 0
OWN_TOTALS = "luffy_own_totals"  # fact of a mini-batch: BatchTotals.own over all ranks, as a list


class MixTrainingWorker(TrainingWorker):
    """veRL's worker, which counts the tokens and rows of each stream in a mini-batch before it leaves rows out."""

    def train_batch(self, data: TensorDict) -> TensorDict:
        """veRL's update with one mini-batch, whose :data:`OWN_TOTALS` are known; of its rows those that :data:`COMPUTED` marks."""
        if OFF_POLICY_MASK in data:
            own = own_totals(data).to(get_device_id())
            torch.distributed.all_reduce(own, group=self.engine.get_data_parallel_group())
            tu.assign_non_tensor(data, **{OWN_TOTALS: NonTensorData(own.tolist())})
        return super().train_batch(self._computed(data) if COMPUTED in data else data)

    def _computed(self, data: TensorDict) -> TensorDict:
        """The rows to compute, which are as many on each rank, in as few micro-batches of one size as hold them."""
        rows = data[COMPUTED].nonzero().flatten()
        if len(rows) == len(data):
            return data
        data = tu.index_select_tensor_dict(data, rows)
        group = self.engine.get_data_parallel_group()
        tokens = [[]] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(tokens, data["input_ids"].offsets().diff().tolist(), group)
        tu.assign_non_tensor(data, global_token_num=NonTensorData([number for each in tokens for number in each]))
        if most := self.engine_config.micro_batch_size_per_gpu:
            tu.assign_non_tensor(data, micro_batch_size_per_gpu=len(rows) // ceil(len(rows) / most))
        return data

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Load this rank's shards, of which nothing but numbers is unpickled."""
        with unpickling_numbers_alone():
            super().load_checkpoint(*args, **kwargs)


class MixWorker(ActorRolloutRefWorker):
    """veRL's actor worker with :class:`MixTrainingWorker`, whose reference model is the teacher where the config has one."""

    actor_worker_cls = MixTrainingWorker

    def ref_worker_cls(self, config: TrainingWorkerConfig) -> TrainingWorker:
        """The worker of the reference model, or of the teacher in its place."""
        if teacher := self.config.get("teacher"):
            model = OmegaConf.merge(
                self.config.model, {"path": teacher, "tokenizer_path": None, "hf_config_path": None, "mtp": {"enable": False}}
            )
            config = replace(config, model_config=omega_conf_to_dataclass(model))
        return TrainingWorker(config=config)


class MixDetachWorker(MixWorker, DetachActorWorker):
    """The same for ``mode=separate_async``, which sets the weights from before a step aside and fetches them again."""


def own_totals(data: TensorDict) -> torch.Tensor:
    """``BatchTotals.own`` of the rows of this rank."""
    response_mask = data["response_mask"]
    width = int(response_mask.offsets().diff().max()) if response_mask.is_nested else response_mask.shape[1]
    mask = fit(response_mask, width).bool()
    off_policy = fit(data[OFF_POLICY_MASK], width).bool() & mask
    right = fit(data[ROW_CORRECT], width).bool().any(dim=-1) if ROW_CORRECT in data else None
    return count(mask, off_policy, right)


def mix_ppo_loss(
    config: ObjectiveConfig, model_output: dict[str, torch.Tensor], data: TensorDict, dp_group: Any = None
) -> tuple[torch.Tensor, dict[str, Metric]]:
    """LUFFY's loss of one micro-batch, in the signature of veRL's ``ppo_loss``.

    The denominators are those of the whole mini-batch over all ranks, and FSDP averages gradients over the ranks; so
    the sum over micro-batches is the loss of the mini-batch, however it was split.

    Args:
        config: the objective.
        model_output: ``log_probs`` and, where the loss needs it, ``entropy``, as veRL's engine returns them.
        data: the micro-batch with veRL's fields and the two of :mod:`verl.mix_src.rl.rollout`.
        dp_group: unused; part of the signature.

    Returns:
        The loss times the number of data-parallel ranks, and metrics that add up over micro-batches.
    """
    dp_size = data["dp_size"]
    own = tu.get_non_tensor_data(data, OWN_TOTALS, default=None)
    computed = data["batch_num_tokens"]
    totals = BatchTotals(
        tokens=computed if own is None else sum(each[0] for each in own[0]), sequences=data["global_batch_size"],
        own=None if own is None else torch.tensor(own), computed=computed,
    )  # fmt: skip
    entropy_coefficient = tu.get_non_tensor_data(data, ENTROPY_COEFFICIENT, default=0.0)
    log_prob = no_padding_2_padding(model_output["log_probs"], data)
    entropy = None if (entropy := model_output.get("entropy")) is None else no_padding_2_padding(entropy, data)
    step, width = tu.get_non_tensor_data(data, STEP, default=0), log_prob.shape[1]
    fields = {name: fit(data[name], width) for name in (*REQUIRED, *(each for each in OPTIONAL if each in data))}
    if config.reads_teacher and "teacher_log_prob" not in fields:  # what veRL's reference worker says is the teacher's word then
        fields["teacher_log_prob"] = fields.pop("ref_log_prob", None)
    response_mask = fields["response_mask"].bool()
    off_policy_mask = fields[OFF_POLICY_MASK].bool() & response_mask
    result = mixed_policy_loss(
        log_prob=log_prob,
        old_log_prob=_old_log_prob(log_prob, fields.get("old_log_probs"), data),
        advantages=_weighted(fields["advantages"], fields.get("rollout_is_weights"), off_policy_mask),
        response_mask=response_mask,
        off_policy_mask=off_policy_mask,
        behaviour_prob=fields[BEHAVIOUR_PROB],
        entropy=entropy,
        ref_log_prob=fields.get("ref_log_prob"),
        teacher_log_prob=fields.get("teacher_log_prob"),
        row_correct=fields[ROW_CORRECT].bool().any(dim=-1) if ROW_CORRECT in fields else None,
        entropy_coefficient=entropy_coefficient,
        step=step,
        totals=totals,
        keep_tokens=RECORDED in data.keys(),
        config=config,
    )
    if result.tokens is not None:
        keep(step, data[ROW], vars(result.tokens))
    if OWN_PASS in data:
        own = data[OWN_PASS].bool()
        keep(step, data[ROW][own], {"old_log_probs": log_prob.detach()[own], "entropy": entropy.detach()[own]})
    metrics = {name: Metric(value=value * dp_size, aggregation=AggregationType.SUM) for name, value in result.metrics.items()}
    return _in_the_gradient(result.loss) * dp_size, metrics


def _in_the_gradient(loss: torch.Tensor) -> torch.Tensor:
    """The loss; where it is not finite its gradient is NaN, as that of infinity need not be (k1 of a reference that rules a token out).

    A gradient's norm is that of all ranks, and veRL makes no update where it is not finite: so one rank's loss is heard by all.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def _old_log_prob(log_prob: torch.Tensor, told: torch.Tensor | None, data: TensorDict) -> torch.Tensor:
    """Log π_old: of the rows that :data:`OWN_PASS` marks what this forward pass gives; of the others what one before told."""
    if OWN_PASS not in data:
        return told
    own = data[OWN_PASS].bool().unsqueeze(-1)
    return log_prob.detach() if told is None else torch.where(own, log_prob.detach(), told)


def _weighted(advantages: torch.Tensor, rollout_is_weights: torch.Tensor | None, off_policy_mask: torch.Tensor) -> torch.Tensor:
    """veRL's rollout correction scales on-policy losses by positive weights, which is scaling their advantages."""
    if rollout_is_weights is None:
        return advantages
    return torch.where(off_policy_mask, advantages, advantages * rollout_is_weights)


ESTIMATOR = "luffy"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What an estimator needs to know of each row: bool [B] tensors and the ``luffy.advantage`` config."""

    off_policy: torch.Tensor
    included: torch.Tensor
    truncated: torch.Tensor
    config: AdvantageConfig


ROWS: ContextVar[Rows] = ContextVar("luffy_rows")


@register_adv_est(ESTIMATOR)
def luffy_advantages(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: np.ndarray, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Group advantages on every token of the response.

    Args:
        token_level_rewards: float [B, T].
        response_mask: [B, T].
        index: group of each row, objects [B].
        config: veRL's ``algorithm`` node; unused, the options are in ``luffy.advantage``.

    Returns:
        Advantages and returns, float [B, T], equal to each other as in veRL's GRPO.
    """
    rows = ROWS.get()
    advantages = group_advantages(
        token_level_rewards.sum(dim=-1),
        index,
        rows.off_policy,
        baseline=rows.config.baseline,
        normalize_std=rows.config.normalize_std,
        included=rows.included,
    )
    if rows.config.zero_truncated:
        advantages = zero_truncated(advantages, rows.truncated)
    advantages_BT = advantages.unsqueeze(-1) * response_mask
    return advantages_BT, advantages_BT
