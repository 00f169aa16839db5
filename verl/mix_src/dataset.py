"""veRL's dataset of problems, in which each row knows its place."""

from __future__ import annotations

from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

PLACE = "place_in_data"


class PlacedDataset(RLHFDataset):
    """veRL's dataset, whose rows carry their number among the rows that are used.

    ``extra_info.index`` names a problem, which a validation file repeats and two sources may both count from 0; the
    place names a row, so that each repeat draws a sample of its own.
    """

    def __getitem__(self, item: int) -> dict[str, Any]:
        """One row, with its place (int) in the column :data:`PLACE`."""
        return {**super().__getitem__(item), PLACE: int(item)}


def place_of(row: dict[str, Any]) -> int:
    """The place of a row as the agent loop sees it; of a dataset that keeps none (``data.custom_cls``), its index."""
    return int(row[PLACE] if PLACE in row else row["index"])
