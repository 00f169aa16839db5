"""What an update says of the tokens of its rows, kept where the loss is computed until the trainer asks for some of it.

Each rank keeps that of its own rows, in its memory. A row that is updated more than once (``ppo_epochs``) is kept as of its last update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

ROW = "row_of_step"  # int64 [B]: number of a row among those of its update
OWN_PASS = "own_pass"  # int64 [B]: 1 where the row's log π_old is what its own update's forward pass gives
COMPUTED = "computed"  # int64 [B]: 1 where the row goes through the update's passes
RECORDED = "recorded"  # of a batch: its token values are kept for a record
_PASSED = ("old_log_probs", "entropy")

_kept: dict[int, dict[str, np.ndarray]] = {}  # of this process: by row, values of its tokens at the last step
_kept_step: int | None = None


def keep(step: int, rows: torch.Tensor, values: Mapping[str, torch.Tensor]) -> None:
    """Keep token values of a micro-batch's rows until the trainer asks; those of another step go.

    Args:
        step: of the update.
        rows: int64 [B], numbers of the rows.
        values: [B, T] each, by name.
    """
    global _kept_step
    if step != _kept_step:
        _kept.clear()
        _kept_step = step
    arrays = {name: tensor.float().cpu().numpy() for name, tensor in values.items()}
    for place, row in enumerate(rows.tolist()):
        _kept.setdefault(row, {}).update({name: array[place] for name, array in arrays.items()})


def kept_passes(_: Any) -> dict[int, dict[str, np.ndarray]]:
    """log π_old and entropy of each token, of the rows whose own update told them; these are kept no longer. Runs in a worker."""
    told = {row: values for row, values in _kept.items() if _PASSED[0] in values}
    return {row: {name: values.pop(name) for name in _PASSED} for row, values in told.items()}


def kept_weights(_: Any) -> dict[int, float]:
    """Σ|gradient weight| of each row that this process keeps; runs in a worker, which it is given."""
    return {row: float(np.abs(values["gradient_weight"]).sum(dtype=np.float64)) for row, values in _kept.items()}


def kept_values(_: Any, rows: Sequence[int]) -> dict[int, dict[str, np.ndarray]]:
    """Token values of some rows, of those that this process keeps; afterwards it keeps none. Runs in a worker, which it is given."""
    found = {row: _kept[row] for row in rows if row in _kept}
    _kept.clear()
    return found
