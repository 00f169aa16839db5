"""Settings of the store: what is kept, what is drawn, what leaves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from luffy.objective import ObjectiveConfig
from luffy.settings import Follows, Share, require, settings

Admission = Literal["nothing", "partly_solved", "unsolved"]
Weights = Literal["normal", "linear", "sqrt", "linear_clip", "uniform"]
Pick = Literal["least_entropy", "least_perplexity", "newest", "random"]

_WHERE = "luffy.store"
_OF_REPLAY = ("start_above", "clip_before_start", "replay_share", "least_correct", "most_correct", "weights", "pick")
_OF_QUEUE = ("update_at",)

FINE_TUNING = ObjectiveConfig(policy_coefficient=0.0, sft_coefficient=1.0, sft_divisor="own_tokens")
"""Objective of an update on queued prompts: the mean of -log π over the tokens of their demonstrations, less the entropy bonus."""


@settings(_WHERE)
class StoreConfig:
    """Rows that a training keeps and trains on again."""

    admit: Admission = "nothing"
    """What is kept: nothing; partly_solved (ExGRPO: the right rows of groups that are right in part, with their recorded
    log-probabilities, to be replayed in place of a rollout); unsolved (ReLIFT: prompts without a right row, for an update of
    supervised fine-tuning on their traces). LUFFY: nothing."""

    start_above: Share | None = None
    """Replay starts, for good, after a step in which more than this share of the rows is right; nothing is kept before.
    null: from the first step. ExGRPO: 0.35."""

    clip_before_start: Share | None = None
    """ε of the PPO clip of the rollouts, both sides, until replay starts; null: as luffy.objective says. ExGRPO: 0.2."""

    replay_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of a batch's prompts that are replayed: each is a group of one kept row and n - 1 rollouts. ExGRPO: 0.5."""

    least_correct: Annotated[int, Field(ge=1)] = 1
    """Fewest right rows of a group that is kept. ExGRPO: 1 (its experience_lbound 0, which is excluded)."""

    most_correct: Annotated[int, Field(ge=1)] | None = None
    """Most right rows of a group that is kept; null: all but one. ExGRPO: 7 of 8."""

    weights: Weights = "normal"
    """Weight of the prompts that had s of n rows right when last seen: normal, exp(-(s - n/2)²/2); linear, s/n; sqrt, √(s/n);
    linear_clip, min(s/n, 1/2); each for all such prompts together, whatever their number. uniform: each prompt alike. ExGRPO: normal."""

    pick: Pick = "least_entropy"
    """Which of a prompt's kept rows: least_entropy, least_perplexity (mean over its tokens, under the current policy), newest,
    random. ExGRPO: least_entropy."""

    retire: bool = False
    """A prompt whose rows are all right leaves the store at once, and the data at the next epoch. ExGRPO: true."""

    update_at: Annotated[int, Field(ge=1)] | None = None
    """Queued prompts that make an update of supervised fine-tuning, the newest first. ReLIFT: 128."""

    capacity: Annotated[int, Field(ge=1)] | None = None
    """Most rows that are kept; the oldest leave first. null: no bound. ExGRPO, ReLIFT: null."""

    seed: Annotated[int, Follows("luffy.run.seed")] = 0
    """Seed of every draw above."""

    def __post_init__(self) -> None:
        unread = {
            "nothing": (*_OF_REPLAY, *_OF_QUEUE, "retire", "capacity"),
            "partly_solved": _OF_QUEUE,
            "unsolved": (*_OF_REPLAY, "retire"),
        }
        for name in unread[self.admit]:
            value, default = getattr(self, name), StoreConfig.__dataclass_fields__[name].default
            require(value == default, f"{_WHERE}.{name} is {value}, but admit {self.admit} does not read it; leave it at {default}")
        require(self.admit != "unsolved" or self.update_at is not None, f"{_WHERE}.admit is unsolved and needs update_at (ReLIFT: 128)")
        require(
            self.capacity is None or self.capacity >= (self.update_at or 1),
            f"{_WHERE}.capacity is {self.capacity}, below update_at {self.update_at}, which it would never reach; raise it",
        )
        require(
            self.most_correct is None or self.most_correct >= self.least_correct,
            f"{_WHERE}.most_correct is {self.most_correct}, below least_correct {self.least_correct}; raise it",
        )
        require(
            self.clip_before_start is None or self.start_above is not None,
            f"{_WHERE}.clip_before_start is {self.clip_before_start}, but without start_above replay starts at once; set it to null",
        )

    @property
    def replays(self) -> bool:
        """Whether kept rows come back in groups."""
        return self.admit == "partly_solved"

    def check_batch(self, *, group_size: int, prompts: int, rows_at_once: int) -> None:
        """Check the store against the sizes of a step.

        Args:
            group_size: n, rows of a group.
            prompts: prompts of a batch.
            rows_at_once: rows that an update's size must be a multiple of: the data-parallel ranks.

        Raises:
            InputError: a bound beyond the group, no prompt to replay, or an update that ranks cannot share.
        """
        if self.replays:
            most = group_size - 1 if self.most_correct is None else self.most_correct
            require(
                self.least_correct <= most < group_size,
                f"{_WHERE} keeps groups with {self.least_correct} to {most} right rows of {group_size} (actor_rollout_ref.rollout.n): "
                "both must be below it",
            )
            wanted = int(self.replay_share * prompts)
            require(
                wanted >= 1, f"{_WHERE}.replay_share {self.replay_share} of {prompts} prompts (data.train_batch_size) is none; raise it"
            )
            require(
                self.capacity is None or self.capacity >= wanted,
                f"{_WHERE}.capacity is {self.capacity}, below the {wanted} prompts that a step replays; raise it",
            )
        if self.update_at is not None:
            require(
                self.update_at % rows_at_once == 0,
                f"{_WHERE}.update_at is {self.update_at}; it must be a multiple of the {rows_at_once} data-parallel ranks",
            )
