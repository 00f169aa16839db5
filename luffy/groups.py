"""Groups: the responses to one prompt, named by an id that is the same on each of their rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luffy.errors import InputError


def group_index(group_ids: Tensor | np.ndarray | Sequence[Hashable], rewards: Tensor) -> Tensor:
    """Number the groups of a batch from 0.

    Args:
        group_ids: [B], an integer tensor, or an array or sequence of hashables such as veRL's ``uid`` strings.
        rewards: [B], gives the device and the expected length.

    Returns:
        [B] int64: the number of each row's group.

    Raises:
        InputError: not one id for each reward.
    """
    if isinstance(group_ids, Tensor):
        index = group_ids.unique(return_inverse=True)[1]
    else:
        ids: Any = np.empty(len(group_ids), dtype=object)
        ids[:] = group_ids
        import pandas as pd  # 0.4 s, in processes that never ask for it

        index = torch.from_numpy(pd.factorize(ids, use_na_sentinel=False)[0].astype(np.int64))
    if index.shape != rewards.shape or rewards.dim() != 1:
        raise InputError(f"{tuple(index.shape)} group ids for rewards of shape {tuple(rewards.shape)}; both must be [B]")
    return index.to(rewards.device)


def group_sum(values: Tensor, index: Tensor) -> Tensor:
    """Sum of the values of each row's group.

    Args:
        values: [B], any float dtype.
        index: [B] int64, from :func:`group_index`.

    Returns:
        [B]: on each row, the sum over its group.
    """
    sums = values.new_zeros(index.numel()).index_add_(0, index, values)
    return sums[index]
