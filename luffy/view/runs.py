"""What a run's folder shows: its curves, checkpoints, alarms and settings, and which groups it recorded."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from luffy.alarms import Alarms
from luffy.errors import InputError
from luffy.record import read_facts, read_group, read_groups, recorded_files
from luffy.safety import SafetyConfig
from luffy.settings import names
from luffy.training_report import CURVES, UNITS, curve, held_out_accuracy, read_metrics
from luffy.view.chunks import Strings, group_chunk

logger = logging.getLogger(__name__)

METRICS, CONFIG = "metrics.jsonl", "config.yaml"
MOST_SETTINGS = 20_000  # of a run: veRL has about a thousand
EXCERPT = 400  # characters of a prompt that the list of groups has
LOST = {  # metrics that are above 0 where something was lost
    "training/lost_rows": "rows lost",
    "training/failed_saves": "saves that failed",
    "training/skipped_steps": "updates left out for bad numbers",
}


@dataclass(frozen=True)
class GroupPlace:
    """Where a group is recorded: the file, and its number in it."""

    file: Path
    number: int


class Run:
    """A run's folder, as it is now.

    Args:
        folder: of the run; it has metrics, recorded groups, or both.
        name: what the page calls it.

    Attributes:
        places: where its groups are, once :meth:`index` was called.
        tokens: of all of them.

    Raises:
        InputError: where the folder is not that of a run.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.places: list[GroupPlace] = []
        self.tokens = 0
        self._broken: list[dict[str, Any]] = []
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the folder of a run, such as outputs/luffy")
        self.metrics = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else []
        self._recorded = recorded_files(folder)
        if not self.metrics and not self._recorded:
            raise InputError(f"{folder}: has neither {METRICS} nor recorded groups; give the folder of a run, such as outputs/luffy")

    def index(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a page shows of the run before anything is opened: JSON values, and arrays of its groups and responses."""
        groups, arrays = self._groups()
        settings = flat_config(self.folder / CONFIG)
        header = {
            "name": self.name,
            "folder": str(self.folder),
            "curves": _curves(self.metrics),
            "panels": _panels(self.metrics),
            "checkpoints": _checkpoints(self.folder),
            "alarms": [*self._broken, *alarms(self.metrics, _safety(settings))],
            "config": settings,
            **groups,
        }
        return header, arrays

    @property
    def n_chunks(self) -> int:
        """Number of groups, once :meth:`index` was called."""
        return len(self.places)

    def chunk(self, number: int) -> bytes:
        """The chunk of a group, by its number in :attr:`places`; :meth:`index` fills these.

        Raises:
            InputError: where there is no such group (any more).
        """
        if not 0 <= number < len(self.places):
            raise InputError(f"{self.name}: no group {number}")
        place = self.places[number]
        return group_chunk(read_group(place.file, place.number))

    def chunks(self) -> Iterator[bytes]:
        """The chunks of all groups, in the order of :attr:`places`."""
        for file in dict.fromkeys(place.file for place in self.places):
            yield from map(group_chunk, read_groups(file))

    def state(self) -> tuple[Any, ...]:
        """What changes when the folder has something new."""
        files = [self.folder / METRICS, *(path for _, _, path in recorded_files(self.folder))]
        return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.exists())

    def _groups(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        strings, self.places = Strings(), []
        read = list(self._read())
        cuts = [
            _Excerpt([rows[0]["prompt"] for _, of, _, groups in read for rows in groups if of == held_out]) for held_out in (False, True)
        ]
        of_groups: list[tuple[float, ...]] = []
        of_rows: list[tuple[float, ...]] = []
        for step, held_out, path, groups in read:
            for number, rows in enumerate(groups):
                self.places.append(GroupPlace(path, number))
                of_groups.append(_group_numbers(rows[0], step, held_out, strings, cuts[held_out], len(of_rows)))
                of_rows += [_row_numbers(row, strings) for row in rows]
        self.tokens = int(sum(row[ROW_COLUMNS.index("length")] for row in of_rows))
        arrays = {
            **_columns("group", GROUP_COLUMNS, of_groups),
            **_columns("row", ROW_COLUMNS, of_rows),
        }
        return {"strings": strings.texts}, arrays

    def _read(self) -> Iterator[tuple[int, bool, Path, list[list[dict[str, Any]]]]]:
        """Step, kind and groups of each record that can be read; of one that cannot, an alarm says so."""
        self._broken = []
        for step, held_out, path in self._recorded:
            try:
                yield step, held_out, path, read_facts(path)
            except InputError as error:
                logger.warning("not shown: %s", error)
                self._broken.append({"step": step, "text": f"groups not shown: {error}"})


GROUP_COLUMNS = ("step", "held_out", "key", "data_source", "chosen", "share", "prompt", "first_row")
ROW_COLUMNS = ("reward", "advantage", "source", "trace", "reason", "answer", "length", "weight")


def _group_numbers(
    facts: Mapping[str, Any], step: int, held_out: bool, strings: Strings, cut: _Excerpt, first_row: int
) -> tuple[float, ...]:
    return (
        step,
        held_out,
        facts["prompt_key"],
        strings(facts["data_source"]),
        strings(facts["chosen"]),
        _number(facts["gradient_share"]),
        strings(cut(facts["prompt"])),
        first_row,
    )


def _row_numbers(facts: Mapping[str, Any], strings: Strings) -> tuple[float, ...]:
    texts = (strings(facts[name]) for name in ("source", "trace", "reason", "answer"))
    return (_number(facts["reward"]), _number(facts["advantage"]), *texts, facts["length"], _number(facts["weight"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _columns(kind: str, names: Sequence[str], rows: Sequence[tuple[float, ...]]) -> dict[str, np.ndarray]:
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    return {f"{kind}_{name}": np.ascontiguousarray(table[:, number]) for number, name in enumerate(names)}


class _Excerpt:
    """What tells a run's prompts apart: without the beginning and end that all of them share (system message, template)."""

    def __init__(self, prompts: Sequence[str]) -> None:
        distinct = sorted(set(prompts))
        first, last = (distinct[0], distinct[-1]) if len(distinct) > 1 else ("", "")
        self._start = len(os.path.commonprefix([first, last]))
        turned = sorted(each[::-1] for each in distinct)
        self._end = len(os.path.commonprefix([turned[0], turned[-1]])) if len(distinct) > 1 else 0

    def __call__(self, prompt: str) -> str:
        inner = prompt[self._start : len(prompt) - self._end] if self._start + self._end < len(prompt) else prompt
        return inner[-EXCERPT:] if inner == prompt else inner[:EXCERPT]


def _curves(records: Sequence[dict[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of every metric, and of the held-out accuracies."""
    names = dict.fromkeys(name for record in records for name in record["data"])
    found = {name: curve(records, name) for name in names}
    curves: dict[str, tuple[list[float], list[float]]] = {
        name: (list(each.steps), [_rounded(value) for value in each.values]) for name, each in found.items() if each.steps
    }
    for record in records:
        for name, value in held_out_accuracy(record["data"]).items():
            steps, values = curves.setdefault(f"held-out {name}", ([], []))
            steps.append(record["step"])
            values.append(value)
    return curves


def _rounded(value: float) -> float:
    return float(f"{value:.7g}")


def _panels(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The usual pictures (:func:`luffy.training_report.plot_training`): title, unit and metrics of each."""
    held_out = dict.fromkeys(f"held-out {name}" for record in records for name in held_out_accuracy(record["data"]))
    panels = {"held-out": tuple(held_out), **CURVES}
    return [{"title": title.replace("_", " "), "unit": UNITS.get(title, ""), "metrics": list(names)} for title, names in panels.items()]


def _checkpoints(folder: Path) -> list[dict[str, Any]]:
    found = {int(path.name.removeprefix("global_step_")): False for path in folder.glob("global_step_*") if path.name[12:].isdecimal()}
    found |= {int(path.name[12:]): True for path in (folder / "best").glob("global_step_*") if path.name[12:].isdecimal()}
    return [{"step": step, "best": best} for step, best in sorted(found.items())]


def alarms(records: Sequence[dict[str, Any]], config: SafetyConfig) -> list[dict[str, Any]]:
    """Step and text of what a person should look at: numbers that are not finite, what was lost, and the alarms that a run says."""
    found, watch = [], Alarms(config)
    for record in records:
        step, data = record["step"], {name: value for name, value in record["data"].items() if isinstance(value, int | float)}
        said = [f"{name} is {value}" for name, value in data.items() if not math.isfinite(value)]
        said += [f"{words}: {data[name]:g}" for name, words in LOST.items() if data.get(name, 0) > 0]
        if step > 0:
            said += watch.look(data)
        found += [{"step": step, "text": text} for text in said]
    return found


def _safety(settings: Mapping[str, str]) -> SafetyConfig:
    """The run's ``luffy.safety`` as far as alarms read it."""
    import yaml

    given = {name: yaml.safe_load(settings[key]) for name in names(SafetyConfig) if (key := f"luffy.safety.{name}") in settings}
    return SafetyConfig(**{name: value for name, value in given.items() if name.startswith("alarm_")})


def flat_config(file: Path) -> dict[str, str]:
    """Settings of a run by full key, as texts; empty where the file is not there.

    Raises:
        InputError: where it is no YAML mapping.
    """
    import yaml

    if not file.is_file():
        return {}
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        leaves = list(islice(_leaves("", config), MOST_SETTINGS + 1)) if isinstance(config, dict) else []
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{file}: is no YAML ({str(error).splitlines()[0]}); remove it") from error
    except RecursionError as error:
        raise InputError(f"{file}: is nested without end; remove it") from error
    if len(leaves) > MOST_SETTINGS:
        raise InputError(f"{file}: has more than {MOST_SETTINGS} settings; remove it")
    return dict(leaves)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), below)
    else:
        yield key, "null" if value is None else str(value)
