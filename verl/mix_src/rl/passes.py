"""Which rows of a step go through which forward pass.

The policy's log-probabilities from before the step are those that a step's first update computes anyway: no pass of their own is made
for its rows (:data:`OWN_PASS`), unless something reads them before (:mod:`verl.mix_src.rl.second_pass`). After the update they stand in the
TransferQueue as if there had been one. Later updates of a step have their rows' from a pass before the first.

Rows without a gradient (:mod:`luffy.objective.gradient_rows`) are left out of the update, by ``luffy.run.leave_out``; at a step that is
recorded none is, nor where ``actor.shuffle`` draws each rank's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta

from luffy import ledger
from luffy.config import LuffyConfig
from luffy.objective.gradient_rows import rows_with_gradient
from verl.mix_src.rl.batch import ROW_CORRECT, fit, put, ragged
from verl.mix_src.rl.kept import COMPUTED, OWN_PASS, RECORDED, ROW, kept_passes
from verl.mix_src.rl.loss import ENTROPY_COEFFICIENT, STEP
from verl.mix_src.rl.rollout import OFF_POLICY_MASK
from verl.mix_src.rl.second_pass import leaves_out, second_pass_for
from verl.mix_src.rl.spread import largest_part, spread

PASSED = ("old_log_probs", "entropy")  # columns of a forward pass, a token each


def _tokens(batch: KVBatchMeta) -> float:
    """Prompt and response tokens of rows, padding rows aside."""
    return float(sum(0 if tag.get("is_padding") else tag.get("seq_len", 0) for tag in batch.tags))


class PassesTrainer:
    """A trainer that makes no forward pass which tells nothing; mixed into a trainer of veRL, below its recording."""

    luffy: LuffyConfig

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if second_pass_for(self.config, self.luffy):
            metrics[ledger.FORWARDED] = _tokens(batch)
            return super()._compute_old_log_prob(batch, metrics)
        own = self._own_passes(batch)
        columns = {OWN_PASS: own.long()}
        if not own.all():
            masks = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"])["response_mask"]
            nothing = torch.nested.nested_tensor_from_jagged(torch.zeros(masks.values().shape), masks.offsets())
            columns |= dict.fromkeys((*PASSED, "log_probs"), nothing)  # a column is there of every row, or of none
        put(batch, **columns)
        if not own.all():
            later = batch.select_keys([key for key, first in zip(batch.keys, own.tolist(), strict=True) if not first])
            most = self.config.actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu or 1
            later.extra_info["micro_batch_size_per_gpu"] = largest_part(len(later) // self._ranks, most)
            super()._compute_old_log_prob(later, {})
        metrics[ledger.FORWARDED] = 0.0 if own.all() else _tokens(later)
        return batch

    def _own_passes(self, batch: KVBatchMeta) -> torch.Tensor:
        """bool [B]: rows whose log-probabilities the update itself tells; the others are as many on each rank.

        Those of the first update, and whole demonstrations where the objective does not read theirs: what the metrics then show of a
        later update's demonstrations is the policy after the updates before.
        """
        actor, ranks = self.config.actor_rollout_ref.actor, self._ranks
        update = actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n // ranks
        own = torch.arange(len(batch)) % (len(batch) // ranks) < update
        if not own.all() and not self.luffy.objective.reads_old_of_demonstrations:
            names = ["response_mask", OFF_POLICY_MASK]
            data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
            mask = data["response_mask"].to_padded_tensor(0).bool()
            rollout = (mask & ~fit(data[OFF_POLICY_MASK], mask.shape[1]).bool()).any(dim=-1)
            spare = (~own & ~rollout).nonzero().flatten()
            own[spare[: len(spare) - (-int((~own & rollout).sum())) % ranks]] = True
        return own

    @property
    def _ranks(self) -> int:
        return max(self.actor_rollout_wg._dispatch_info["actor"]) + 1

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        columns = {}
        if leaves_out(self.config, self.luffy) and RECORDED not in batch.extra_info:
            columns[COMPUTED] = self._leave_out(batch, metrics)
        batch.fields = put(batch, **columns, **{ROW: torch.arange(len(batch))}).fields
        batch = super()._update_actor(batch, metrics)
        if OWN_PASS in batch.fields:
            self._put_passes(batch)
        return batch

    def _leave_out(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> torch.Tensor:
        """int64 [B]: 1 on the rows to compute, after an order of ``batch`` in which each rank has as many of them in each update."""
        names = ["advantages", "response_mask", OFF_POLICY_MASK, ROW_CORRECT]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        mask = data["response_mask"].to_padded_tensor(0).bool()
        advantages, off_policy, right = (fit(data[name], mask.shape[1]) for name in ("advantages", OFF_POLICY_MASK, ROW_CORRECT))
        found = rows_with_gradient(
            advantages=advantages, response_mask=mask, off_policy_mask=off_policy, row_correct=right.bool().any(dim=-1),
            entropy_coefficient=batch.extra_info[ENTROPY_COEFFICIENT], step=batch.extra_info[STEP],
            regularized=self.luffy.run.leave_out == "without_gradient", config=self._objective,
        )  # fmt: skip
        actor = self.config.actor_rollout_ref.actor
        order, computed = spread(
            found.tolist(), [tag["seq_len"] for tag in batch.tags], ranks=self._ranks,
            updates=len(batch) // (actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n),
            micro_batch=None if actor.use_dynamic_bsz else actor.ppo_micro_batch_size_per_gpu,
        )  # fmt: skip
        batch.reorder(order)
        lengths = torch.tensor([0 if tag.get("is_padding") else tag["seq_len"] for tag in batch.tags])
        rows = torch.tensor(computed)
        metrics["batch/left_out_rows"] = float(lengths[~rows].count_nonzero())
        metrics["batch/left_out_share"] = (lengths[~rows].sum() / lengths.sum()).item()
        return rows.long()

    def _put_passes(self, batch: KVBatchMeta) -> None:
        """Add what the update's own forward pass told to the columns of a pass before it."""
        found: dict[int, Mapping[str, np.ndarray]] = {}
        for each in self._ask_workers(kept_passes):  # a row is with all ranks that share its sequence
            found |= each
        names = ["response_mask", OWN_PASS, *(name for name in PASSED if name in batch.fields)]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        lengths = data["response_mask"].offsets().diff().tolist()
        columns = {}
        for name in PASSED:
            rows = list(data[name].unbind()) if name in names else [torch.empty(0)] * len(lengths)
            for row, length in enumerate(lengths):
                if data[OWN_PASS][row]:
                    rows[row] = torch.from_numpy(found[row][name][:length]) if row in found else torch.full((length,), torch.nan)
            columns[name] = ragged([row.float() for row in rows])
        batch.fields = put(batch, **columns).fields

    def _ask_workers(self, question: Any, *arguments: Any) -> list[Any]:
        """A function's results on all workers of the actor, each of which it is given."""
        return ray.get([worker.__ray_call__.remote(question, *arguments) for worker in self.actor_rollout_wg.workers])
