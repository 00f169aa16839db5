"""When rows enter the store, come back and leave: a training's state between its steps.

A step's results are *observed*; what the next step replays, or what an update of supervised fine-tuning trains on, is then *planned*,
so that a checkpoint between two steps holds the plan, and a run that goes on from it does what the other would have done.

    replay (ExGRPO, arXiv 2510.02245)   groups with s of n rows right, 1 <= s < n, give their right rows; the prompt's bucket is s
    queue (ReLIFT, arXiv 2506.07527)    prompts without a right row, each once, the newest first
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luffy.errors import InputError
from luffy.files import replacing_folder, write_json
from luffy.store.config import StoreConfig
from luffy.store.draw import READ_VALUES, draw_keys, pick_row
from luffy.store.rows import Row, RowStore

STATE, ROWS = "state.json", "rows"
_NOTHING: np.ndarray = np.empty(0, np.int32)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group's result in a step.

    Attributes:
        key: number of the prompt in the data.
        rows: its rows that are right; a row's log-probabilities are those of the step's start.
        size: its rows, replayed and forced ones included.
        correct: s, how many of them are right.
        has_trace: whether the data have a demonstration of the prompt.
    """

    key: int
    rows: Sequence[Row]
    size: int
    correct: int
    has_trace: bool


Values = Callable[[Sequence[int]], Sequence[float]]
"""Mean entropy, or mean -log π, under the current policy of each of some rows of the store (their ids)."""


class Experience:
    """The store of a training, and what is decided about it."""

    def __init__(self, config: StoreConfig, folder: Path, *, group_size: int, prompts: int, data_size: int) -> None:
        """An empty one.

        Args:
            config: the settings.
            folder: where its rows are while the training runs.
            group_size: n, rows of a group.
            prompts: B, prompts of a batch.
            data_size: N, prompts that the data give in an epoch.
        """
        self.config, self.rows = config, RowStore(folder, capacity=config.capacity)
        self._group_size, self._prompts, self._data_size = group_size, prompts, data_size
        self._bucket: dict[int, int] = {}  # s of a prompt when it was last kept
        self._retired: set[int] = set()
        self._left_out: set[int] = set()  # those that were retired when the epoch began
        self._fetched = 0
        self.started = config.start_above is None
        self.plan: list[int] = []

    def observe(self, groups: Sequence[Group]) -> dict[str, float]:
        """Take note of a step's groups.

        Returns:
            Metrics of the store, ``store/...``.
        """
        kept = [group for group in groups if self._keep(group)]
        if self.config.retire:
            for group in groups:
                if group.correct == group.size == self._group_size:
                    self._retired.add(group.key)
                    self.rows.remove(group.key)
        self._bucket = {key: self._bucket[key] for key in self.rows.keys if key in self._bucket}
        rows = sum(group.size for group in groups)
        share = sum(group.correct for group in groups) / rows if rows else 0.0
        if self.config.start_above is not None and share > self.config.start_above:
            self.started = True
        return self._metrics(kept)

    def _keep(self, group: Group) -> bool:
        config = self.config
        if config.admit == "unsolved":
            if group.correct == 0 and group.has_trace:
                self.rows.remove(group.key)
                return self.rows.add(group.key, _NOTHING, _NOTHING)
            return False
        most = self._group_size - 1 if config.most_correct is None else config.most_correct
        if not self.started or group.key in self._retired or not config.least_correct <= group.correct <= min(most, group.size - 1):
            return False
        for row in group.rows:
            self.rows.add(group.key, row.tokens, row.log_probs)
        self._bucket[group.key] = group.correct
        return True

    def plan_replay(self, step: int, values: Values) -> None:
        """Decide which rows ``step`` replays.

        Args:
            step: the training step that is next.
            values: asked once, for the rows of those prompts that have several; not where the pick does not read them.
        """
        config = self.config
        correct = {key: s for key, s in self._bucket.items() if key not in self._retired}
        number = int(config.replay_share * self._prompts) if self.started else 0
        keys = draw_keys(correct, number, self._group_size, config.weights, seed=config.seed, step=step)
        ids = [self.rows.ids(key) for key in keys]
        several = [row for rows in ids for row in rows if len(rows) > 1] if config.pick in READ_VALUES else []
        of_row = dict(zip(several, values(several), strict=True)) if several else {}
        self.plan = []
        for key, rows in zip(keys, ids, strict=True):
            known = [of_row.get(row, 0.0) for row in rows]
            self.plan.append(rows[pick_row(known, config.pick, seed=config.seed, step=step, key=key)])

    def take_queue(self) -> list[int]:
        """The prompts of an update of supervised fine-tuning, newest first, which leave the queue; none where there are too few."""
        at = self.config.update_at
        if at is None or len(self.rows) < at:
            return []
        keys = [self.rows.key_of(row) for row in self.rows.newest(at)]
        for key in keys:
            self.rows.remove(key)
        return keys

    def fetch(self, key: int) -> bool:
        """Whether a prompt that the data give is used: not where it was retired before the epoch.

        Retired prompts leave together, at the start of an epoch, and stay where fewer than a batch would be left.
        """
        if self._fetched % self._data_size == 0 and self._data_size - len(self._retired) >= self._prompts:
            self._left_out = set(self._retired)
        self._fetched += 1
        return key not in self._left_out

    def save(self, folder: Path) -> None:
        """Write all of it, whole or not at all."""
        with replacing_folder(folder) as new:
            self.rows.save(new / ROWS)
            write_json(new / STATE, {
                "started": self.started, "fetched": self._fetched, "plan": self.plan, "retired": sorted(self._retired),
                "left_out": sorted(self._left_out), "bucket": sorted(self._bucket.items()),
            })  # fmt: skip

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            InputError: it is not whole.
        """
        self.rows.load(folder / ROWS)
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} is not a whole store ({error}): go on from another checkpoint") from error
        self.started, self._fetched, self.plan = state["started"], state["fetched"], state["plan"]
        self._retired, self._left_out = set(state["retired"]), set(state["left_out"])
        self._bucket = dict(state["bucket"])

    def _metrics(self, kept: Sequence[Group]) -> dict[str, float]:
        metrics = {"store/rows": float(len(self.rows)), "store/prompts": float(len(self.rows.keys)), "store/kept_groups": float(len(kept))}
        if not self.config.replays:
            return metrics
        metrics |= {"store/started": float(self.started), "store/retired": float(len(self._retired))}
        metrics["store/data_left"] = float(self._data_size - len(self._left_out))
        metrics |= {f"store/bucket/{s}": float(count) for s, count in _count(self._bucket, self._group_size).items()}
        if kept:
            metrics["store/kept_correct"] = sum(group.correct for group in kept) / len(kept)
        return metrics


def _count(bucket: Mapping[int, int], group_size: int) -> dict[int, int]:
    """Prompts by s = 1, ..., n - 1."""
    number = dict.fromkeys(range(1, group_size), 0)
    for correct in bucket.values():
        number[correct] += 1
    return number
