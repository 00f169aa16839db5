"""Guidance: which rows of a group are demonstrations, of which trace, and how much of it.

A group has n rows; the first k of them are demonstrations and the others are sampled. A demonstration forces the first
⌊ratio · length⌋ tokens of (trace + EOS); the policy continues a partial one. With step s = 0, 1, ..., S steps, and
bounds a = ``min_ratio`` and b = ``max_ratio``, a row's ratio is

    full             1
    random           U(a, b)
    linear           b · (1 - s/S), then 0: the same for all rows
    linear_max       U(0, m), m = b, 0.9 b, ..., 0.1 b in ten equal windows of the S steps, then 0.1 b
    reverse_linear   U(0, m), m = 0.1 b, 0.2 b, ..., b in the same windows, then b
    fixed            evenly spaced from a to b over the k rows
    binomial         Binomial(c, p) / c: a trace in c chunks (``chunks``), each given with probability p (``chunk_probability``)

a, b and p may themselves be schedules over the steps (luffy/schedules.py), as in Prefix-RFT and UFT. Every draw is a hash of (seed, step, prompt, row): a pure function, the same in whatever process a row is made.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from luffy.digests import uniform
from luffy.groups import group_index, group_sum
from luffy.schedules import Schedule, ShareOverTime, at, require_within
from luffy.settings import Follows, Share, require, settings
from luffy.traces import Trace

_WINDOWS = 10  # of linear_max and reverse_linear, as in the released code


RatioSchedule = Literal["full", "random", "linear", "linear_max", "reverse_linear", "fixed", "binomial"]
Selection = Literal["first", "random", "shortest", "round_robin"]

ALL_ROWS = -1
_WHERE = "luffy.guidance"
_OVER_STEPS = ("linear", "linear_max", "reverse_linear")
_READS_MIN_RATIO = ("random", "fixed")


@settings(_WHERE)
class GuidanceConfig:
    """Which rows of a group are demonstrations, and how much of each is forced."""

    n_demonstrations: Annotated[int, Field(ge=ALL_ROWS)] = 1
    """k, demonstrations in a group of n rows; 0: none (on-policy RL), -1: every row. The released code's n_prefix.
    Paper: 1 of 8."""

    schedule: RatioSchedule = "full"
    """How much of a trace is forced: full, random, linear, linear_max, reverse_linear, fixed, binomial. The released code's
    prefix_strategy. Paper: full (script: random between 1.0 and 1.0, which is the same)."""

    min_ratio: ShareOverTime = 1.0
    """Smallest share of a trace's tokens, in [0, 1], or its own schedule; read by random and fixed. Paper: 1.0."""

    max_ratio: Annotated[float, Field(gt=0, le=1)] | Schedule = 1.0
    """Largest share of a trace's tokens, in (0, 1], or its own schedule; read by every schedule but full and binomial.
    Paper: 1.0."""

    chunks: Annotated[int, Field(gt=0)] = 5
    """Equal chunks of a trace; read by binomial. UFT: at most 5. Paper: not used."""

    chunk_probability: ShareOverTime = 0.5
    """Probability of each chunk, in [0, 1], or its own schedule; read by binomial. Paper: not used."""

    steps: Annotated[int, Field(gt=0)] | None = None
    """S, training steps over which linear, linear_max and reverse_linear run; null otherwise. Paper: not used."""

    share_ratio: bool = False
    """One random ratio for all rows of a prompt in a step. The released code's prefix_share_across_samples.
    Paper: false."""

    selection: Selection = "first"
    """Order in which a prompt's several traces go to its rows: first (as stored), random, shortest, round_robin (over
    their sources). Paper: one trace a prompt."""

    sampling_ratio: Share = 1.0
    """Share of the prompts that keep their traces in a step, in [0, 1]; the others get on-policy rows alone.
    Paper: 1.0."""

    on_demand_below: float | None = None
    """Use a group's demonstrations only where the mean reward of its on-policy rows is below this; null: always.
    Decided after the rollouts. Paper: null."""

    on_demand_replaces: bool = False
    """A group that uses its demonstrations on demand loses its rollouts: neither counts beside the other. Paper: false;
    HPT: true."""

    policy_success_below: Annotated[float, Field(gt=0)] | None = None
    """Give demonstrations to those prompts alone whose column policy_success (the share of the policy's own samples that were right,
    stored beforehand by data/collect_traces.py --policy) is below this, or unknown; null: to all. Decided before the rollouts.
    Paper: null."""

    max_cut_share: Share = 0.01
    """Largest share of the traces that may be longer than the response budget and so be cut, in [0, 1]; more stops
    the run before it starts. Paper: cut without a word."""

    seed: Annotated[int, Follows("luffy.run.seed")] = 0
    """Seed of every draw above."""

    def __post_init__(self) -> None:
        self._check_schedule()
        self._check_on_demand()

    def check_group_size(self, n: int) -> None:
        """Check the number of demonstrations against the number of rows in a group.

        Args:
            n: rows in a group (veRL's ``rollout.n``).

        Raises:
            InputError: there are more demonstrations than rows, or a fixed schedule has one row to space out.
        """
        k = self.demonstrations_in(n)
        require(
            self.schedule != "fixed" or k != 1 or self.min_ratio == self.max_ratio,
            f"{_WHERE}.schedule is fixed with one demonstration, which cannot space its ratio from min_ratio to max_ratio; "
            "set them equal, or raise n_demonstrations",
        )

    def demonstrations_in(self, n: int) -> int:
        """Number of demonstrations in a group of n rows.

        Raises:
            InputError: there are more demonstrations than rows.
        """
        k = self.n_demonstrations
        require(k <= n, f"{_WHERE}.n_demonstrations is {k}, but a group has {n} rows (actor_rollout_ref.rollout.n)")
        return n if k == ALL_ROWS else k

    def _check_schedule(self) -> None:
        schedule, least, most = self.schedule, self.min_ratio, self.max_ratio
        for name, low in (("min_ratio", 0.0), ("max_ratio", 0.0), ("chunk_probability", 0.0)):
            require_within(getattr(self, name), low, 1.0, f"{_WHERE}.{name}")
        if schedule in _READS_MIN_RATIO:
            turns = {0, *(turn for each in (least, most) if isinstance(each, Schedule) for turn in (each.begin, each.until))}
            wrong = next((turn for turn in sorted(turns) if at(least, turn) > at(most, turn)), None)
            require(
                wrong is None,
                f"{_WHERE}.min_ratio is {at(least, wrong or 0)}, above max_ratio {at(most, wrong or 0)}"
                + (f" at step {wrong}" if wrong else "") + "; lower it",
            )  # fmt: skip
        else:
            require(least == 1, f"{_WHERE}.min_ratio is {least}, but schedule {schedule} does not read it; leave it at 1")
        require(
            schedule not in ("full", "binomial") or most == 1,
            f"{_WHERE}.max_ratio is {most}, but schedule {schedule} does not read it; set schedule to random or fixed",
        )
        for name in ("chunks", "chunk_probability"):
            require(
                schedule == "binomial" or getattr(self, name) == getattr(GuidanceConfig, name),
                f"{_WHERE}.{name} is {getattr(self, name)}, but schedule {schedule} does not read it; set schedule to binomial",
            )
        if schedule in _OVER_STEPS:
            require(self.steps is not None, f"{_WHERE}.schedule {schedule} needs steps, above 0")
        else:
            require(self.steps is None, f"{_WHERE}.steps is {self.steps}, but schedule {schedule} does not read it")
        require(
            not self.share_ratio or schedule != "fixed",
            f"{_WHERE}.share_ratio is true, but schedule fixed gives every row its own ratio; set it to false",
        )

    def _check_on_demand(self) -> None:
        require(
            self.policy_success_below is None or self.n_demonstrations != 0,
            f"{_WHERE}.policy_success_below needs demonstrations to withhold; set n_demonstrations to 1 or more (it is 0), or it to null",
        )
        require(
            self.on_demand_below is None or self.n_demonstrations > 0,
            f"{_WHERE}.on_demand_below needs demonstrations and on-policy rows in a group; set n_demonstrations to "
            f"1 or more (it is {self.n_demonstrations}), or on_demand_below to null",
        )
        require(
            not self.on_demand_replaces or self.on_demand_below is not None,
            f"{_WHERE}.on_demand_replaces is true, but on_demand_below is null; set on_demand_below, or it to false",
        )


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What one row is given.

    Attributes:
        trace: the trace.
        ratio: share of the tokens of (trace + EOS) that are forced, in (0, 1].
        index: the trace's place among its prompt's traces.
    """

    trace: Trace
    ratio: float
    index: int


def demonstration_for_row(
    config: GuidanceConfig,
    traces: Sequence[Trace],
    *,
    row: int,
    group_size: int,
    step: int,
    prompt_key: str | int,
    policy_success: float | None = None,
) -> Demonstration | None:
    """Decide what one row of a group is: a demonstration, or a sample of the policy.

    Args:
        config: the guidance.
        traces: the prompt's traces; may be empty.
        row: the row's place in its group, from 0.
        group_size: n, rows in the group.
        step: training step, counted from 1 as veRL does.
        prompt_key: what identifies the prompt in the data set.
        policy_success: share in [0, 1] of the policy's stored samples of the prompt that are right; None or NaN where unknown.

    Returns:
        The demonstration, or None for an on-policy row: the row is not among the first k, the prompt has no trace or is
        left out by ``policy_success_below`` or ``sampling_ratio``, or the schedule has come to ratio 0.

    Raises:
        InputError: the group has fewer rows than demonstrations.
    """
    if not traces or row >= config.demonstrations_in(group_size):
        return None
    bound = config.policy_success_below
    if bound is not None and policy_success is not None and policy_success >= bound:
        return None
    if config.sampling_ratio < 1 and uniform(config.seed, "sampling", step, prompt_key) >= config.sampling_ratio:
        return None
    ratio = _ratio(config, row=row, group_size=group_size, step=step, prompt_key=prompt_key)
    if ratio <= 0:
        return None
    order = _order(config, traces, step, prompt_key)
    index = order[row % len(order)]
    return Demonstration(trace=traces[index], ratio=ratio, index=index)


def prefix_length(ratio: float, n_tokens: int) -> int:
    """Number of forced tokens, ⌊ratio · n_tokens⌋.

    Args:
        ratio: share of the tokens, in [0, 1].
        n_tokens: tokens of (trace + EOS).
    """
    return math.floor(ratio * n_tokens)


def guided_rows(
    rewards: Tensor,
    group_ids: Tensor | np.ndarray | Sequence[Hashable],
    off_policy: Tensor,
    bound: float | None,
    *,
    replaces: bool = False,
) -> Tensor:
    """Rows that stay in the batch when guidance is given on demand, decided after the rollouts.

    Args:
        rewards: [B] float.
        group_ids: [B] integer tensor or array of hashables, equal for the responses to one prompt.
        off_policy: [B] bool, true for demonstrations.
        bound: a group keeps its demonstrations where the mean reward of its on-policy rows is below this; None: always.
        replaces: a group that keeps its demonstrations so loses its on-policy rows (HPT).

    Returns:
        [B] bool: true on the demonstrations of groups that need them, and on every on-policy row, but for those that demonstrations
        replace. A group without on-policy rows keeps its demonstrations.
    """
    if bound is None:
        return torch.ones_like(off_policy, dtype=torch.bool)
    index = group_index(group_ids, rewards)
    on_policy = ~off_policy.bool()
    number = group_sum(on_policy.double(), index)
    total = group_sum(torch.where(on_policy, rewards.double(), 0.0), index)
    needed = (number == 0) | (total < bound * number)
    if not replaces:
        return on_policy | needed
    has_demonstrations = group_sum((~on_policy).double(), index) > 0
    return torch.where(on_policy, ~(needed & has_demonstrations), needed)


def _ratio(config: GuidanceConfig, *, row: int, group_size: int, step: int, prompt_key: str | int) -> float:
    """The row's ratio by the schedule."""
    least, most = at(config.min_ratio, step - 1), at(config.max_ratio, step - 1)
    steps = config.steps or 1  # set where the schedule reads it
    if config.schedule == "full":
        return 1.0
    if config.schedule == "fixed":
        last = config.demonstrations_in(group_size) - 1
        return least + (most - least) * row / last if last else least
    if config.schedule == "binomial":
        place = ("shared" if config.share_ratio else row, step, prompt_key)
        drawn = [uniform(config.seed, "chunk", number, *place) for number in range(config.chunks)]
        return sum(draw < at(config.chunk_probability, step - 1) for draw in drawn) / config.chunks
    if config.schedule == "linear":
        return most * max(0.0, 1 - (step - 1) / steps)
    if config.schedule != "random":
        window = min((step - 1) * _WINDOWS // steps, _WINDOWS - 1)
        tenths = _WINDOWS - window if config.schedule == "linear_max" else window + 1
        least, most = 0.0, most * tenths / _WINDOWS
    draw = uniform(config.seed, "ratio", step, prompt_key, "shared" if config.share_ratio else row)
    return least + (most - least) * draw


def _order(config: GuidanceConfig, traces: Sequence[Trace], step: int, prompt_key: str | int) -> list[int]:
    """The prompt's traces in the order in which its rows take them; rows beyond the last start over."""
    indices = range(len(traces))
    if config.selection == "shortest":
        return sorted(indices, key=lambda i: len(traces[i].text))
    if config.selection == "random":
        return sorted(indices, key=lambda i: uniform(config.seed, "trace", step, prompt_key, i))
    if config.selection == "round_robin":
        return _round_robin(traces, start=step + int(uniform(config.seed, "source", prompt_key) * len(traces)))
    return list(indices)


def _round_robin(traces: Sequence[Trace], start: int) -> list[int]:
    """One trace of each source in turn; ``start`` rotates which source comes first."""
    by_source: dict[str, list[int]] = {}
    for index, trace in enumerate(traces):
        by_source.setdefault(trace.source, []).append(index)
    queues = list(by_source.values())
    queues = queues[start % len(queues) :] + queues[: start % len(queues)]
    turns = range(max(map(len, queues)))
    return [queue[turn] for turn in turns for queue in queues if turn < len(queue)]
