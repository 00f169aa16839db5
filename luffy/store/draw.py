"""Which prompts of the store are replayed, and which of a prompt's rows: pure functions of a seed and a step.

Each of the m draws takes a bucket, that is the prompts which had s of n rows right when last seen, by the buckets' weights among
those that have a prompt left; then one of its prompts, each alike, without replacement. So a prompt is drawn once at most, and
what a bucket cannot give goes to the others by the same weights. Source: released script of ExGRPO (arXiv 2510.02245).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from luffy.digests import uniform
from luffy.store.config import Pick, Weights

READ_VALUES = ("least_entropy", "least_perplexity")


def bucket_weight(correct: int, group_size: int, weights: Weights) -> float:
    """Weight of the prompts with s = ``correct`` of n = ``group_size`` rows right, before normalisation; 1 for uniform."""
    share = correct / group_size
    match weights:
        case "normal":
            return math.exp(-((correct - group_size / 2) ** 2) / 2)
        case "linear":
            return share
        case "sqrt":
            return math.sqrt(share)
        case "linear_clip":
            return min(share, 0.5)
    return 1.0


def draw_keys(correct: Mapping[int, int], number: int, group_size: int, weights: Weights, *, seed: int, step: int) -> list[int]:
    """Prompts to replay.

    Args:
        correct: s of each prompt that may be drawn.
        number: m, prompts to draw; fewer where there are fewer.
        group_size: n.
        weights: of the buckets.
        seed: of the draws.
        step: training step.

    Returns:
        The prompts, in the order of their draws.
    """
    buckets: dict[int, list[int]] = {}
    for key in sorted(correct):
        buckets.setdefault(0 if weights == "uniform" else correct[key], []).append(key)
    weight = {bucket: bucket_weight(bucket, group_size, weights) for bucket in sorted(buckets)}
    drawn: list[int] = []
    for turn in range(min(number, len(correct))):
        bucket = _one_of(weight, uniform(seed, "replay bucket", step, turn))
        keys = buckets[bucket]
        place = int(uniform(seed, "replay prompt", step, turn) * len(keys))
        keys[place], keys[-1] = keys[-1], keys[place]
        drawn.append(keys.pop())
        if not keys:
            del weight[bucket]
    return drawn


def pick_row(values: Sequence[float], pick: Pick, *, seed: int, step: int, key: int) -> int:
    """Which of a prompt's rows is replayed.

    Args:
        values: mean entropy or mean -log π of the tokens of each of the prompt's rows, nats, oldest first; anything where the pick
            is none of :data:`READ_VALUES`.
        pick: the rule.
        seed: of the draw.
        step: training step.
        key: the prompt.

    Returns:
        The row's place among the prompt's; of equal ones the oldest. A row whose value is not a number is taken last.
    """
    if pick == "newest":
        return len(values) - 1
    if pick == "random":
        return int(uniform(seed, "replay row", step, key) * len(values))
    return min(range(len(values)), key=lambda place: math.inf if math.isnan(values[place]) else values[place])


def _one_of(weight: Mapping[int, float], draw: float) -> int:
    """The bucket whose share of the weights holds ``draw``."""
    left = draw * sum(weight.values())
    for bucket, share in weight.items():
        left -= share
        if left < 0:
            return bucket
    return bucket  # rounding
