"""Which rows of an update are computed together: as many on each rank, or ranks would wait for each other for ever."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

SHOWN = 16  # one row in so many is computed whatever it brings: a step without a gradient has an entropy too


def spread(
    wanted: Sequence[bool], lengths: Sequence[int], *, ranks: int, updates: int, micro_batch: int | None
) -> tuple[list[int], list[bool]]:
    """Share the rows to compute out evenly.

    Rows stay in their update, and where an update computes all of its rows, in their place.

    Args:
        wanted: of each row, whether it must be computed; a rank's rows follow each other, and in them those of each update.
        lengths: tokens of each row.
        ranks, updates: which divide the rows.
        micro_batch: most rows of a micro-batch; None: cut by tokens.

    Returns:
        The old place of each new row, and whether the new row is computed: of each update as many on each rank, one in :data:`SHOWN`
        or more, and so many that micro-batches of one size hold them.
    """
    of_rank = len(wanted) // ranks
    of_update = of_rank // updates
    order, computed = list(range(len(wanted))), [True] * len(wanted)
    for update in range(updates):
        starts = [rank * of_rank + update * of_update for rank in range(ranks)]
        places = [place for start in starts for place in range(start, start + of_update)]
        first = [place for place in places if wanted[place]]
        number = max(ceil(len(first) / ranks), ceil(of_update / SHOWN))
        if micro_batch:
            micro_batches = ceil(number / micro_batch)
            number = micro_batches * ceil(number / micro_batches)
        if number == of_update:
            continue
        idle = [place for place in places if not wanted[place]]
        more = number * ranks - len(first)
        first += [idle[each * len(idle) // more] for each in range(more)]  # from the whole update, so that metrics are of any rows
        parts = get_seqlen_balanced_partitions(
            calculate_workload(torch.tensor([lengths[place] for place in first])), k_partitions=ranks, equal_size=True
        )
        others = sorted(set(places) - set(first))
        for start, part in zip(starts, parts, strict=True):
            own = sorted(first[each] for each in part) + [others.pop(0) for _ in range(of_update - number)]
            order[start : start + of_update] = own
            computed[start : start + of_update] = [True] * number + [False] * (of_update - number)
    return order, computed


def largest_part(rows: int, most: int) -> int:
    """The largest number up to ``most`` that divides ``rows``."""
    return next(size for size in range(min(rows, most), 0, -1) if rows % size == 0)
