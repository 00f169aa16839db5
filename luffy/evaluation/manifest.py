"""The file beside a result that says which run it belongs to, so that no other run adds to it by mistake."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from luffy.digests import text_digest
from luffy.errors import InputError
from luffy.evaluation.samples import write_failure
from luffy.files import replacing

GENERATION = "generation"
SCORING = "scoring"
PLAN = "plan"  # what the run is to make: for each benchmark its samples and problems, and the problems of the whole file
ENVIRONMENT = "environment"  # where it ran: versions, device, dtype; a list where it went on somewhere else
NOTES = (PLAN, ENVIRONMENT)  # said, and not compared
ADVICE = {
    GENERATION: "give --overwrite to start anew, or another --output_file",
    SCORING: "give --overwrite to eval_scripts/score.py to score its responses again, or give another --output_file",
}
MODEL_PARTS = ("model_fingerprint", "model")  # of the generation: what tells models apart, the surest first
LABELS = ("model", "input_file")  # names for people; digests beside them say what the names stand for

logger = logging.getLogger(__name__)


def decoded_path(output: Path) -> Path:
    """Where the responses of a run go before they are scored (the name that the released script gave this file)."""
    return output.with_name(_stem(output) + ".decoded.jsonl")


def manifest_path(output: Path) -> Path:
    """Where the parameters of a run are kept; the decoded and the scored file of a run share it."""
    return output.with_name(_stem(output).removesuffix(".decoded") + ".manifest.json")


def read_manifest(output: Path) -> dict[str, Any]:
    """The parameters of the run that a result file belongs to, by part; empty where there is no manifest.

    Raises:
        InputError: where the manifest is damaged.
    """
    path = manifest_path(output)
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); give --overwrite to start anew") from error
    parts = manifest.items() if isinstance(manifest, dict) else [("", None)]
    if not all(_is_part(name, part) for name, part in parts):
        raise InputError(f"{path}: not a manifest of an evaluation; give --overwrite to start anew")
    return manifest


def claim(output: Path, part: str, parameters: dict[str, Any], *, results: Path, overwrite: bool) -> None:
    """Make sure that a result file belongs to this run, and write down the parameters of a new one.

    Args:
        output: the run's output file; its manifest lies beside it.
        part: :data:`GENERATION` or :data:`SCORING`.
        parameters: all that the results depend on.
        results: the file that this part writes.
        overwrite: delete results of another run instead of refusing.

    Raises:
        InputError: where the file holds results of a run with other parameters.
    """
    manifest = read_manifest(output) if not overwrite else _read_leniently(output)
    parameters = json.loads(json.dumps(parameters))
    has_results = results.is_file() and results.stat().st_size > 0
    if overwrite:
        results.unlink(missing_ok=True)
    elif has_results and _compared(manifest.get(part)) != _compared(parameters):
        raise InputError(f"{results}: {_difference(manifest.get(part), parameters)}; {ADVICE[part]}")
    kept = {name: value for name, value in manifest.items() if not (overwrite and part == GENERATION and name in NOTES)}
    _write(manifest_path(output), {**kept, part: parameters})


def note(output: Path, part: str, content: Any) -> None:
    """Write down one of :data:`NOTES`, which makes no difference to whose results a file holds."""
    _write(manifest_path(output), {**_read_leniently(output), part: json.loads(json.dumps(content))})


def note_environment(output: Path, environment: dict[str, str]) -> None:
    """Write down where samples are generated; an earlier part of the run that was generated elsewhere is kept, and said."""
    earlier: list[dict[str, str]] = _read_leniently(output).get(ENVIRONMENT, [])
    if earlier and environment not in earlier:
        last = earlier[-1]
        changes = [f"{name} {last.get(name)}, now {value}" for name, value in environment.items() if last.get(name) != value]
        logger.warning("the samples that are there come from another environment: %s", "; ".join(changes))
    if environment not in earlier:
        note(output, ENVIRONMENT, [*earlier, environment])


def copy_generation(decoded: Path, output: Path) -> None:
    """Let the manifest of a scored file say how its samples were generated, where it lies elsewhere than theirs."""
    theirs = read_manifest(decoded)
    if GENERATION in theirs and manifest_path(decoded).resolve() != manifest_path(output).resolve():
        parts = {part: theirs[part] for part in (GENERATION, *NOTES) if part in theirs}
        _write(manifest_path(output), {**_read_leniently(output), **parts})


def part_digest(output: Path, part: str) -> str | None:
    """A digest of one part of a manifest; None where the manifest has no such part."""
    parameters = _compared(read_manifest(output).get(part))
    if parameters is None:
        return None
    return text_digest(json.dumps(parameters, sort_keys=True))


def _is_part(name: str, part: Any) -> bool:
    if name == ENVIRONMENT:
        return isinstance(part, list) and all(isinstance(each, dict) for each in part)
    if name == PLAN:
        return isinstance(part, dict) and all(isinstance(each, dict) and {"samples", "of"} <= each.keys() for each in part.values())
    return isinstance(part, dict)


def _stem(output: Path) -> str:
    return output.name.removesuffix(".jsonl")


def _compared(parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    return parameters and {name: value for name, value in parameters.items() if name not in LABELS}


def _difference(theirs: dict[str, Any] | None, ours: dict[str, Any]) -> str:
    if theirs is None:
        return "holds results, but no manifest beside it says of which run"
    changes = [
        f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} here"
        for name in sorted({*theirs, *ours})
        if name not in LABELS and theirs.get(name) != ours.get(name)
    ]
    return "holds results of another run (" + "; ".join(changes) + ")"


def _read_leniently(output: Path) -> dict[str, Any]:
    try:
        return read_manifest(output)
    except InputError:
        return {}


def _write(path: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise write_failure(path, error, kept=0) from error
