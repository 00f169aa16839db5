"""Held-out problems during training: each asked by sampling and greedily, and veRL's statistics of the answers, without repeating them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from verl.trainer.ppo import metric_utils

from luffy.training_report import GREEDY_SUFFIX
from verl.mix_src.rl.rollout import GREEDY

Key = tuple[Any, ...]
KEPT = 4096  # statistics; 8 verdicts of 0 or 1 have 256, at three subset sizes


class SampledAndGreedy(Dataset):
    """Validation rows, each twice: answered ``n`` times by sampling, and once greedily, under its data source's name with a suffix.

    The two follow each other, since veRL deals out rows to its agent loop workers in blocks: the sampled half makes ``n`` times the work.
    """

    def __init__(self, rows: Dataset, n: int) -> None:
        self.rows, self.n = rows, n

    def __len__(self) -> int:
        return 2 * len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, greedy = self.rows[index // 2], bool(index % 2)
        suffix = GREEDY_SUFFIX if greedy else ""
        return {**row, "data_source": row["data_source"] + suffix, "__rollout_n__": 1 if greedy else self.n, GREEDY: greedy}


@contextmanager
def each_bootstrap_once() -> Iterator[None]:
    """Let veRL draw its bootstrap (best and worst of N, 20 ms a problem) once for problems with the same verdicts; equal to the last bit.

    It seeds each by one number, so the result depends on the verdicts alone; the state in which it leaves NumPy's generator is kept.
    """
    upstream = metric_utils.bootstrap_metric

    @lru_cache(KEPT)
    def drawn(data: Key, size: int, functions: Key, others: Key) -> tuple[Any, Any]:
        return upstream(list(data), size, list(functions), **dict(others)), np.random.get_state()

    def bootstrap(data: Sequence[Any], subset_size: int, reduce_fns: Sequence[Callable[..., Any]], **others: Any) -> Any:
        if not all(isinstance(value, (int, float)) for value in data):  # votes, which are dicts
            return upstream(data, subset_size, reduce_fns, **others)
        found, state = drawn(tuple(data), subset_size, tuple(reduce_fns), tuple(sorted(others.items())))
        np.random.set_state(state)
        return found

    metric_utils.bootstrap_metric = bootstrap
    try:
        yield
    finally:
        metric_utils.bootstrap_metric = upstream
