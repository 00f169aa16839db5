"""What cells have come to, one line a cell in one file, so that parts run on other machines and days make one comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luffy.errors import InputError
from luffy.files import replacing
from luffy.ledger import Ledger
from luffy.training_report import Curve
from miniature.comparison.cells import Cell
from miniature.comparison.measure import Measurement
from miniature.comparison.results import CellResult


def read_results(file: Path, cells: Sequence[Cell]) -> list[CellResult]:
    """The results of those cells that the file has with the very parameters of the plan; none where there is no file.

    Raises:
        InputError: where a line is broken.
    """
    lines = _lines(file)
    return [_result(cell, lines[cell.name]) for cell in cells if lines.get(cell.name, {}).get("parameters") == cell.parameters()]


def add_results(file: Path, results: Sequence[CellResult]) -> None:
    """Write the results into the file, each in place of what it has of that cell, and leave its other lines."""
    lines = _lines(file) | {result.cell.name: _line(result) for result in results}
    with replacing(file) as temporary:
        temporary.write_text("".join(f"{json.dumps(line)}\n" for _, line in sorted(lines.items())), encoding="utf-8")


def left(cells: Sequence[Cell], results: Sequence[CellResult]) -> list[Cell]:
    """Cells without a result, and those that they need for their start models and teachers."""
    known = {result.cell.name for result in results}
    own = [cell for cell in cells if cell.name not in known]
    needed = {other.name for cell in own for other in (cell.start, cell.teacher) if other is not None}
    return [cell for cell in cells if cell in own or cell.name in needed]


def _line(result: CellResult) -> dict[str, Any]:
    found = {name: value for name, value in asdict(result).items() if name != "cell"}
    found["curves"] = {name: {"steps": each.steps, "values": each.values} for name, each in result.curves.items()}
    return {"name": result.cell.name, "parameters": result.cell.parameters(), "result": found}


def _result(cell: Cell, line: dict[str, Any]) -> CellResult:
    found = line["result"]
    curves = {name: Curve(name=name, steps=tuple(each["steps"]), values=tuple(each["values"])) for name, each in found["curves"].items()}
    return CellResult(
        cell=cell, **found | {"measured": Measurement(**found["measured"]), "costs": Ledger(**found["costs"]), "curves": curves}
    )


def _lines(file: Path) -> dict[str, dict[str, Any]]:
    try:
        return {line["name"]: line for line in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no file of results, one JSON object a line ({error}); give another --results") from error
