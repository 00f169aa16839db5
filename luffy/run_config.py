"""Settings of a training run that belong to the extension and not to the method."""

from __future__ import annotations

from dataclasses import dataclass

from luffy.typed_fields import check_types, require

_WHERE = "luffy.run"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How a run is seeded, validated and paced."""

    seed: int = 0
    """Seed of the data order, of every sampled response, and of every draw of the guidance."""

    seeded_sampling: bool = True
    """Give each sampled response a seed of its own (from seed, step, prompt and row), so that a run can be repeated;
    false leaves the random numbers to vLLM."""

    validate_greedy: bool = False
    """Answer each held-out problem greedily too, once, beside the val_kwargs.n sampled answers."""

    poll_interval_s: float = 2.0
    """Seconds between two looks of the trainer for finished rollouts; veRL's default is 2. Short steps want less."""

    lost_rows: int = 0
    """Rows of a step that may be missing, because their requests failed; more than that stop the run."""

    def __post_init__(self) -> None:
        check_types(self, _WHERE)
        require(self.poll_interval_s > 0, f"{_WHERE}.poll_interval_s is {self.poll_interval_s}; it must be above 0")
        require(self.lost_rows >= 0, f"{_WHERE}.lost_rows is {self.lost_rows}; it must not be negative")
