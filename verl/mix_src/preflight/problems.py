"""How the checks before a start are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from omegaconf import DictConfig

from luffy.errors import InputError

Check = Callable[[DictConfig], Iterable[str] | None]


def found_by(checks: Iterable[Check], config: DictConfig) -> Iterator[str]:
    """Lines that the checks yield, or raise as InputError; a check that raises does not keep the next from running."""
    for check in checks:
        try:
            yield from check(config) or ()
        except InputError as error:
            yield str(error)
