"""Experience that comes back: rows that a training keeps (:mod:`.rows`), which of them it draws (:mod:`.draw`), and when (:mod:`.experience`)."""

from luffy.store.config import FINE_TUNING, StoreConfig
from luffy.store.experience import Experience, Group
from luffy.store.rows import Row, RowStore

__all__ = ["FINE_TUNING", "Experience", "Group", "Row", "RowStore", "StoreConfig"]
