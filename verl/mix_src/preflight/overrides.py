"""Overrides by name, before Hydra composes."""

from __future__ import annotations

from collections.abc import Sequence

from luffy.config import LuffyConfig
from luffy.errors import InputError
from luffy.released_options import explain


def check_overrides(overrides: Sequence[str]) -> None:
    """Check Hydra overrides by name, before Hydra composes.

    Raises:
        InputError: on an option of LUFFY's released code (with the new key) or an unknown key of the ``luffy`` node
            (with the nearest known one).
    """
    for override in overrides:
        if message := explain(override):
            raise InputError(message)
        key, _, _ = override.lstrip("+~").partition("=")
        if key.startswith("luffy."):
            LuffyConfig.check_key(key)
