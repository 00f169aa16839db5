"""The rows of one training step as the trainer process sees them around the update, and their metrics.

Shapes: B rows, T response tokens (padded to the longest response of the step).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.workers.utils.padding import response_to_nested

from luffy import ledger
from luffy.rewards.verdict import METRIC_PREFIX
from verl.mix_src.rl.rollout import DEMONSTRATION, OFF_POLICY_MASK, PLACE, REPLAY, RIGHT, STAGES, TEACHER_PROMPT

FIELDS = (
    "uid", "prompts", "responses", "response_mask", "rm_scores", "rollout_log_probs", "old_log_probs", "entropy", "extra_fields",
    OFF_POLICY_MASK, PLACE,
)  # fmt: skip
BUSY = (
    "gen", "reward", "old_log_prob", "ref", "values", "update_critic", "update_actor", "update_weights", "plan_replay", "update_sft",
)  # fmt: skip
VERDICT = "reward_extra_info"  # key of the verifier's facts in a row's extra fields
ROW_CORRECT = "row_correct"  # column of a token each: 1 where the verifier found the row right
NOT_A_STEP = ("save_checkpoint",)


@dataclass(kw_only=True)
class RolloutBatch:
    """What guidance, advantages and metrics need of a step's rows.

    Attributes:
        keys: of each row in the TransferQueue.
        places: number of each row's prompt in the data; None where the data set keeps none.
        groups: name of each row's group, objects [B].
        rewards: float [B].
        response_mask_BT: bool [B, T], the tokens that count in the losses.
        off_policy_mask_BT: bool [B, T], the forced tokens.
        old_log_probs_BT, entropy_BT: float [B, T]; NaN in rows that went through no forward pass, None before the first,
            see :meth:`read_passes`.
        truncated: bool [B]; the response fills its budget without an EOS.
        real: bool [B]; False on veRL's padding rows.
        extra: per-row dictionaries from the agent loop and the verifier.
        withheld_BT: bool [B, T], tokens that :meth:`withhold` took out; None: none.
    """

    keys: list[str]
    places: list[int] | None
    groups: np.ndarray
    rewards: torch.Tensor
    response_mask_BT: torch.Tensor
    off_policy_mask_BT: torch.Tensor
    old_log_probs_BT: torch.Tensor | None
    entropy_BT: torch.Tensor | None
    truncated: torch.Tensor
    real: torch.Tensor
    extra: list[dict[str, Any]]
    nested: TensorDict
    withheld_BT: torch.Tensor | None = None

    @property
    def off_policy(self) -> torch.Tensor:
        """bool [B]: rows with any forced token."""
        return self.off_policy_mask_BT.any(dim=-1)

    @classmethod
    def fetch(cls, batch: KVBatchMeta, eos_token_id: int, max_response_length: int) -> RolloutBatch:
        """Read the rows of ``batch`` from the TransferQueue."""
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(FIELDS))
        mask = data["response_mask"].to_padded_tensor(0).bool()
        width = mask.shape[1]
        lengths = data["responses"].offsets().diff()
        last = data["responses"].values()[data["responses"].offsets()[1:] - 1]
        return cls(
            keys=list(batch.keys),
            places=[int(place) for place in data[PLACE]] if PLACE in data else None,
            groups=np.array(list(data["uid"]), dtype=object),
            rewards=data["rm_scores"].to_padded_tensor(0).sum(dim=-1),
            response_mask_BT=mask,
            off_policy_mask_BT=fit(data[OFF_POLICY_MASK], width).bool() & mask,
            old_log_probs_BT=data["old_log_probs"].to_padded_tensor(0) if "old_log_probs" in data else None,
            entropy_BT=data["entropy"].to_padded_tensor(0) if "entropy" in data else None,
            truncated=(lengths >= max_response_length) & (last != eos_token_id),
            real=mask.any(dim=-1),
            extra=[extra if isinstance(extra, dict) else {} for extra in data["extra_fields"]],
            nested=data,
        )

    def read_passes(self, batch: KVBatchMeta) -> None:
        """Read what the forward passes have told by now of the rows that :meth:`fetch` was given."""
        data = tq.kv_batch_get(keys=self.keys, partition_id=batch.partition_id, select_fields=["old_log_probs", "entropy"])
        width = self.response_mask_BT.shape[1]
        self.old_log_probs_BT, self.entropy_BT = (fit(data[name], width) if name in data else None for name in ("old_log_probs", "entropy"))

    def replace_forced_log_probs(self, batch: KVBatchMeta) -> None:
        """Give forced tokens the old policy's log-probability as that of their sampler, where veRL asks for one.

        Nobody sampled a forced token; with this, veRL's rollout correction sees a ratio of 1 on it.
        """
        if "rollout_log_probs" not in self.nested or self.old_log_probs_BT is None or not self.off_policy.any():
            return
        sampled = self.nested["rollout_log_probs"].to_padded_tensor(0)
        fixed = torch.where(self.off_policy_mask_BT, self.old_log_probs_BT.to(sampled.dtype), sampled)
        put(batch, rollout_log_probs=response_to_nested(fixed, self.nested["response_mask"]))

    def withhold(self, batch: KVBatchMeta, rows: torch.Tensor) -> None:
        """Take rows (bool [B]) out of the step: no token of theirs counts in any loss."""
        if not rows.any():
            return
        self.withheld_BT = self.response_mask_BT & rows.unsqueeze(-1)
        self.response_mask_BT = self.response_mask_BT & ~self.withheld_BT
        mask = response_to_nested(self.response_mask_BT.long(), self.nested["response_mask"])
        put(batch, response_mask=mask, loss_mask=mask)

    def put_verdicts(self, batch: KVBatchMeta) -> None:
        """Tell the actor which rows are right (reward of :data:`RIGHT`), on each of their tokens."""
        right = (self.rewards >= RIGHT).long().unsqueeze(-1).expand_as(self.response_mask_BT)
        put(batch, **{ROW_CORRECT: response_to_nested(right, self.nested["response_mask"])})


def row_name(key: str) -> tuple[str, int, int]:
    """Order of a row from its key ``{uid}_{session}_{output}``, the same in every run."""
    uid, session, output = key.rsplit("_", 2)
    return uid, int(session), int(output)


@contextmanager
def teacher_prompts(batch: KVBatchMeta) -> Iterator[int]:
    """While it is open, rows stand in the TransferQueue with the prompts that their teacher sees, where they have one.

    Yields:
        The number of such rows.
    """
    seen = ("input_ids", "position_ids")
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["responses", "extra_fields", *seen])
    prompts = [extra.get(TEACHER_PROMPT) if isinstance(extra, dict) else None for extra in data["extra_fields"]]
    own = {name: data[name].unbind() for name in seen}
    told = [
        ids if prompt is None else torch.cat([ids.new_tensor(prompt), response])
        for ids, prompt, response in zip(own["input_ids"], prompts, data["responses"].unbind(), strict=True)
    ]
    places = [
        place if prompt is None else torch.arange(len(ids)) for place, prompt, ids in zip(own["position_ids"], prompts, told, strict=True)
    ]
    put(batch, input_ids=ragged(told), position_ids=ragged(places))
    try:
        yield sum(prompt is not None for prompt in prompts)
    finally:
        put(batch, **{name: data[name] for name in seen})


def ragged(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """A column of rows of different lengths."""
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def put(batch: KVBatchMeta, **fields: torch.Tensor) -> KVBatchMeta:
    """Write columns of a batch's rows into the TransferQueue; returns its account, with all ``fields`` of these rows."""
    return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch)))


def count_lost_rows(keys: Sequence[str], expected: int, *, allowed: int) -> int:
    """Number of a step's rows that are missing: veRL goes on without the rows whose requests failed.

    Args:
        keys: ``{uid}_{session}_{output}`` of the rows that are there.
        expected: rows of a whole step.
        allowed: missing rows with which the run may go on.

    Raises:
        RuntimeError: more rows are missing.
    """
    lost = expected - len({key.rpartition("_")[0] for key in keys})
    if lost > allowed:
        raise RuntimeError(
            f"{lost} of a step's {expected} rows are missing, because their requests failed (their errors are above in the log); "
            "luffy.run.lost_rows is how many may be missing"
        )
    return lost


def fit(column: torch.Tensor, width: int) -> torch.Tensor:
    """[B, T] from a column of ragged rows; veRL's padding rows may hold more tokens than the batch's longest response."""
    padded = column.to_padded_tensor(0) if column.is_nested else column
    missing = width - padded.shape[1]
    return torch.nn.functional.pad(padded, (0, missing)) if missing > 0 else padded[:, :width]


def overhead_share(timing_s: dict[str, float]) -> float:
    """Share of a step outside generation, forward, backward and weight sync (checkpoints aside), in [0, 1]."""
    step = timing_s["step"] - sum(timing_s.get(name, 0.0) for name in NOT_A_STEP)
    return max(0.0, 1.0 - sum(timing_s.get(name, 0.0) for name in BUSY) / step)


def rollout_metrics(rollouts: RolloutBatch, included: torch.Tensor) -> dict[str, float]:
    """Reward, length, probability, entropy and shares of a step's rows.

    Args:
        rollouts: the step.
        included: bool [B], rows that take part in the update.

    Returns:
        ``on_policy/...`` and ``off_policy/...`` means, the latter also by teacher (``off_policy/source/NAME/...``). A
        side without rows has no entry but its share. Probability and entropy are those of the rows that went through a forward pass.
    """
    on_policy = rollouts.real & ~rollouts.off_policy
    demonstrations = rollouts.real & rollouts.off_policy
    off_tokens = rollouts.off_policy_mask_BT & rollouts.response_mask_BT
    on_tokens = rollouts.response_mask_BT & ~off_tokens
    sampled = on_tokens if rollouts.withheld_BT is None else on_tokens | (rollouts.withheld_BT & ~rollouts.off_policy_mask_BT)
    metrics = _means("on_policy", rollouts, on_policy, sampled)
    metrics |= _means("off_policy", rollouts, demonstrations, rollouts.off_policy_mask_BT)
    tokens = (on_tokens | off_tokens).sum().clamp(min=1)
    metrics["off_policy/token_share"] = (off_tokens.sum() / tokens).item()
    metrics["off_policy/row_share"] = (demonstrations.sum() / rollouts.real.sum().clamp(min=1)).item()
    metrics["off_policy/withheld_share"] = _share(demonstrations & ~included, demonstrations)
    if (replaced := on_policy & ~included).any():
        metrics["on_policy/withheld_share"] = _share(replaced, on_policy)
    metrics["on_policy/truncated_share"] = _share(on_policy & rollouts.truncated, on_policy)
    metrics |= _verdict_shares(rollouts, on_policy)
    metrics |= _solved_groups(rollouts)
    metrics |= _stages(rollouts)
    facts = [extra.get(DEMONSTRATION) for extra in rollouts.extra]
    if ratios := [fact["ratio"] for fact in facts if fact]:
        metrics["off_policy/prefix_ratio"] = sum(ratios) / len(ratios)
    cut = torch.tensor([bool(fact and fact["truncated"]) for fact in facts])
    metrics["off_policy/truncated_share"] = _share(demonstrations & cut, demonstrations)
    return metrics | source_metrics(rollouts, included)


def source_metrics(rollouts: RolloutBatch, included: torch.Tensor) -> dict[str, float]:
    """What ``off_policy/...`` says of all demonstrations, by where they come from: a teacher's name, ``replay``.

    Returns:
        ``off_policy/source/NAME/...``: shares, and means over the forced tokens; a source whose rows have none has no means.
    """
    facts = [extra.get(DEMONSTRATION) for extra in rollouts.extra]
    demonstrations, metrics = rollouts.real & rollouts.off_policy, {}
    for name in sorted({fact["source"] for fact in facts if fact}):
        side, own = f"off_policy/source/{name}", [fact if fact and fact["source"] == name else None for fact in facts]
        rows = demonstrations & torch.tensor([fact is not None for fact in own])
        cut = torch.tensor([bool(fact and fact["truncated"]) for fact in own])
        metrics |= _means(side, rollouts, rows, rollouts.off_policy_mask_BT)
        metrics[f"{side}/row_share"] = _share(rows, demonstrations)
        metrics[f"{side}/withheld_share"] = _share(rows & ~included, rows)
        metrics[f"{side}/truncated_share"] = _share(rows & cut, rows)
        metrics[f"{side}/prefix_ratio"] = statistics.fmean(fact["ratio"] for fact in own if fact)
    return metrics


def cost_metrics(rollouts: RolloutBatch, prompt_tokens: torch.Tensor) -> dict[str, float]:
    """What the step cost, as :mod:`luffy.ledger` reads it.

    Args:
        rollouts: the step, after guidance has withheld what it withholds.
        prompt_tokens: int [B], length of each row's prompt.
    """
    response = rollouts.response_mask_BT if rollouts.withheld_BT is None else rollouts.response_mask_BT | rollouts.withheld_BT
    facts = [extra.get(DEMONSTRATION) for extra in rollouts.extra]
    shown = rollouts.real & torch.tensor([bool(fact) and fact["source"] != REPLAY for fact in facts])
    dropped = {
        group: extra[STAGES]["dropped_tokens"] for group, extra in zip(rollouts.groups, rollouts.extra, strict=True) if STAGES in extra
    }
    return {
        ledger.GENERATED: (response & ~rollouts.off_policy_mask_BT).sum().item() + float(sum(dropped.values())),
        ledger.TRAINED: rollouts.response_mask_BT.sum().item(),
        ledger.PROCESSED: (response.sum() + prompt_tokens[rollouts.real].sum()).item(),
        ledger.TRACES: shown.sum().item(),
    }


def validation_shares(data_sources: Sequence[str], indicators: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Share of validation rows for each reason why the verifier gave no reward.

    Args:
        data_sources: source of each row.
        indicators: reason to 0 or 1 for each row; None where the verifier said nothing.

    Returns:
        ``val-aux/SOURCE/REASON/mean``.
    """
    shares = {}
    for source in sorted(set(data_sources)):
        for name, values in indicators.items():
            known = [value for value, of in zip(values, data_sources, strict=True) if of == source and value is not None]
            if known:
                shares[f"val-aux/{source}/{name}/mean"] = sum(known) / len(known)
    return shares


def _means(side: str, rollouts: RolloutBatch, rows: torch.Tensor, tokens_BT: torch.Tensor) -> dict[str, float]:
    tokens_BT = tokens_BT & rows.unsqueeze(-1)
    if not tokens_BT.any():
        return {}
    told_BT = tokens_BT & (False if rollouts.old_log_probs_BT is None else ~rollouts.old_log_probs_BT.isnan())
    metrics = {
        f"{side}/reward": rollouts.rewards[rows].mean().item(),
        f"{side}/response_length": tokens_BT[rows].sum(dim=-1).float().mean().item(),
    }
    if told_BT.any():
        metrics[f"{side}/probability"] = rollouts.old_log_probs_BT[told_BT].exp().mean().item()
        if rollouts.entropy_BT is not None:
            metrics[f"{side}/entropy"] = rollouts.entropy_BT[told_BT].mean().item()
    return metrics


def _verdict_shares(rollouts: RolloutBatch, rows: torch.Tensor) -> dict[str, float]:
    """Share of ``rows`` for each reason why the verifier gave no reward (:mod:`verl.mix_src.rl.reward`)."""
    verdicts = [extra.get(VERDICT, {}) for extra, counts in zip(rollouts.extra, rows.tolist(), strict=True) if counts]
    names = sorted({name for verdict in verdicts for name in verdict if name.startswith(METRIC_PREFIX)})
    return {name: sum(float(verdict.get(name, 0.0)) for verdict in verdicts) / len(verdicts) for name in names}


def _solved_groups(rollouts: RolloutBatch) -> dict[str, float]:
    """Number of groups whose rows, demonstrations included, are all right or all wrong, as the released code counts them."""
    _, group = np.unique(rollouts.groups[rollouts.real.numpy()].astype(str), return_inverse=True)
    rewards = rollouts.rewards[rollouts.real].numpy()
    rows, right, wrong = (np.bincount(group, weights=each) for each in (rewards > -np.inf, rewards >= RIGHT, rewards <= 0))
    return {"batch/solve_all": float((right == rows).sum()), "batch/solve_none": float((wrong == rows).sum())}


def _stages(rollouts: RolloutBatch) -> dict[str, float]:
    """Rounds of a group, rows that were sampled or forced in all of them, and the share of groups with a hint; of :mod:`luffy.stages`."""
    groups = {group: extra[STAGES] for group, extra in zip(rollouts.groups, rollouts.extra, strict=True) if STAGES in extra}
    if not groups:
        return {}
    hinted = {group for group, off in zip(rollouts.groups, rollouts.off_policy.tolist(), strict=True) if off}
    return {
        "stages/rounds": sum(each["rounds"] for each in groups.values()) / len(groups),
        "stages/rolled_rows": float(sum(each["rolled"] for each in groups.values())),
        "stages/hinted_groups": len(hinted & set(groups)) / len(groups),
    }


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    return (part.sum() / whole.sum().clamp(min=1)).item()
