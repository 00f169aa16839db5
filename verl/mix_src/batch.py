"""The rows of one training step as the trainer process sees them between old log-probabilities and advantages.

Shapes: B rows, T response tokens (padded to the longest response of the step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.workers.utils.padding import response_to_nested

from verl.mix_src.rollout import OFF_POLICY_MASK

FIELDS = (
    "uid",
    "prompts",
    "responses",
    "response_mask",
    "rm_scores",
    "rollout_log_probs",
    "old_log_probs",
    "entropy",
    "extra_fields",
    OFF_POLICY_MASK,
)


@dataclass(kw_only=True)
class RolloutBatch:
    """What guidance, advantages and metrics need of a step's rows.

    Attributes:
        groups: name of each row's group, objects [B].
        rewards: float [B].
        response_mask_BT: bool [B, T], the tokens that count in the losses.
        off_policy_mask_BT: bool [B, T], the forced tokens.
        old_log_probs_BT, entropy_BT: float [B, T].
        truncated: bool [B]; the response fills its budget without an EOS.
        real: bool [B]; False on veRL's padding rows.
        extra: per-row dictionaries from the agent loop and the verifier.
    """

    groups: np.ndarray
    rewards: torch.Tensor
    response_mask_BT: torch.Tensor
    off_policy_mask_BT: torch.Tensor
    old_log_probs_BT: torch.Tensor
    entropy_BT: torch.Tensor | None
    truncated: torch.Tensor
    real: torch.Tensor
    extra: list[dict[str, Any]]
    nested: TensorDict

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
            groups=np.array(list(data["uid"]), dtype=object),
            rewards=data["rm_scores"].to_padded_tensor(0).sum(dim=-1),
            response_mask_BT=mask,
            off_policy_mask_BT=_fit(data[OFF_POLICY_MASK].to_padded_tensor(0).bool(), width) & mask,
            old_log_probs_BT=data["old_log_probs"].to_padded_tensor(0),
            entropy_BT=data["entropy"].to_padded_tensor(0) if "entropy" in data else None,
            truncated=(lengths >= max_response_length) & (last != eos_token_id),
            real=mask.any(dim=-1),
            extra=[extra if isinstance(extra, dict) else {} for extra in data["extra_fields"]],
            nested=data,
        )

    def replace_forced_log_probs(self, batch: KVBatchMeta) -> None:
        """Give forced tokens the old policy's log-probability as that of their sampler, where veRL asks for one.

        Nobody sampled a forced token; with this, veRL's rollout correction sees a ratio of 1 on it.
        """
        if "rollout_log_probs" not in self.nested or not self.off_policy.any():
            return
        sampled = self.nested["rollout_log_probs"].to_padded_tensor(0)
        fixed = torch.where(self.off_policy_mask_BT, self.old_log_probs_BT.to(sampled.dtype), sampled)
        self._put(batch, rollout_log_probs=response_to_nested(fixed, self.nested["response_mask"]))

    def withhold(self, batch: KVBatchMeta, rows: torch.Tensor) -> None:
        """Take rows (bool [B]) out of the step: no token of theirs counts in any loss."""
        if not rows.any():
            return
        self.response_mask_BT = self.response_mask_BT & ~rows.unsqueeze(-1)
        mask = response_to_nested(self.response_mask_BT.long(), self.nested["response_mask"])
        self._put(batch, response_mask=mask, loss_mask=mask)

    @staticmethod
    def _put(batch: KVBatchMeta, **fields: torch.Tensor) -> None:
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch)))


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


def _fit(tensor: torch.Tensor, width: int) -> torch.Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, missing)) if missing > 0 else tensor[:, :width]
