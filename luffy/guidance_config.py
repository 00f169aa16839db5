"""Settings of guidance; the defaults are those of the released training script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luffy.typed_fields import check_types, require

Schedule = Literal["full", "random", "linear", "linear_max", "reverse_linear", "fixed"]
Selection = Literal["first", "random", "shortest", "round_robin"]

ALL_ROWS = -1
_WHERE = "luffy.guidance"
_OVER_STEPS = ("linear", "linear_max", "reverse_linear")
_READS_MIN_RATIO = ("random", "fixed")


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Which rows of a group are demonstrations, and how much of each is forced."""

    n_demonstrations: int = 1
    """k, demonstrations in a group of n rows; 0: none (on-policy RL), -1: every row. The released code's n_prefix.
    Paper: 1 of 8."""

    schedule: Schedule = "full"
    """How much of a trace is forced: full, random, linear, linear_max, reverse_linear, fixed. The released code's
    prefix_strategy. Paper: full (script: random between 1.0 and 1.0, which is the same)."""

    min_ratio: float = 1.0
    """Smallest share of a trace's tokens, in [0, 1]; read by random and fixed. Paper: 1.0."""

    max_ratio: float = 1.0
    """Largest share of a trace's tokens, in (0, 1]; read by every schedule but full. Paper: 1.0."""

    steps: int | None = None
    """S, training steps over which linear, linear_max and reverse_linear run; null otherwise. Paper: not used."""

    share_ratio: bool = False
    """One random ratio for all rows of a prompt in a step. The released code's prefix_share_across_samples.
    Paper: false."""

    selection: Selection = "first"
    """Order in which a prompt's several traces go to its rows: first (as stored), random, shortest, round_robin (over
    their sources). Paper: one trace a prompt."""

    sampling_ratio: float = 1.0
    """Share of the prompts that keep their traces in a step, in [0, 1]; the others get on-policy rows alone.
    Paper: 1.0."""

    on_demand_below: float | None = None
    """Use a group's demonstrations only where the mean reward of its on-policy rows is below this; null: always.
    Decided after the rollouts. Paper: null."""

    max_cut_share: float = 0.01
    """Largest share of the traces that may be longer than the response budget and so be cut, in [0, 1]; more stops
    the run before it starts. Paper: cut without a word."""

    seed: int = 0
    """Seed of every draw above."""

    def __post_init__(self) -> None:
        check_types(self, _WHERE)
        k, least, most = self.n_demonstrations, self.min_ratio, self.max_ratio
        require(k >= ALL_ROWS, f"{_WHERE}.n_demonstrations is {k}; it must be at least 0, or -1 for every row")
        require(0 <= least <= 1, f"{_WHERE}.min_ratio is {least}; it must be in [0, 1]")
        require(0 < most <= 1, f"{_WHERE}.max_ratio is {most}; it must be in (0, 1]")
        share = self.sampling_ratio
        require(0 <= share <= 1, f"{_WHERE}.sampling_ratio is {share}; it must be in [0, 1]")
        cut = self.max_cut_share
        require(0 <= cut <= 1, f"{_WHERE}.max_cut_share is {cut}; it must be in [0, 1]")
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
        if schedule in _READS_MIN_RATIO:
            require(least <= most, f"{_WHERE}.min_ratio is {least}, above max_ratio {most}; lower it")
        else:
            require(least == 1, f"{_WHERE}.min_ratio is {least}, but schedule {schedule} does not read it; leave it at 1")
        require(
            schedule != "full" or most == 1,
            f"{_WHERE}.max_ratio is {most}, but schedule full forces whole traces; set schedule to random or fixed",
        )
        if schedule in _OVER_STEPS:
            require(self.steps is not None and self.steps > 0, f"{_WHERE}.schedule {schedule} needs steps, above 0")
        else:
            require(self.steps is None, f"{_WHERE}.steps is {self.steps}, but schedule {schedule} does not read it")
        require(
            not self.share_ratio or schedule != "fixed",
            f"{_WHERE}.share_ratio is true, but schedule fixed gives every row its own ratio; set it to false",
        )

    def _check_on_demand(self) -> None:
        require(
            self.on_demand_below is None or self.n_demonstrations > 0,
            f"{_WHERE}.on_demand_below needs demonstrations and on-policy rows in a group; set n_demonstrations to "
            f"1 or more (it is {self.n_demonstrations}), or on_demand_below to null",
        )
