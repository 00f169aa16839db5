"""Checkpoints: whole under their name or not there, looked at before they are used, and which of them stay.

A checkpoint is written into a folder aside (:data:`ASIDE`), gets a manifest of every file's size and SHA-256, is synced to the disk
and takes its name by one rename; then veRL's note of the newest one follows. Whatever ends a save on its way, the checkpoint before it is
still the newest. At a start the newest one is compared with its manifest before any part of the run is started.

veRL keeps the newest checkpoints of a process's own lifetime; here those of an earlier part of the run count too. The best one by
validation is kept as ``best/global_step_N``, by hard links: it takes no space of its own until the original goes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luffy.digests import sha256
from luffy.errors import InputError
from luffy.files import link, replacing, sync, write_json
from verl.mix_src.upstream import CHECKPOINT, LATEST, OUT_OF_SPACE

ASIDE, BROKEN, BEST = ".saving", "broken", "best"
MANIFEST, SCORE, STEP_METRICS = "manifest.json", "score.json", "step_metrics.json"
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # environment variable of PyTorch
READERS = 8  # threads that read files for their digests
MODEL_SHAPE = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "tie_word_embeddings",
)  # fmt: skip


@contextmanager
def unpickling_numbers_alone() -> Iterator[None]:
    """Let PyTorch unpickle nothing but tensors, plain values and the states of random number generators in the body.

    veRL asks it to unpickle all that a checkpoint holds, which may be code; the environment's word stands above that. veRL's batches
    between processes are pickles too, so it does not hold for the whole run.
    """
    numbers = [np._core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals(numbers):
            yield
    finally:
        os.environ.pop(WEIGHTS_ONLY) if before is None else os.environ.update({WEIGHTS_ONLY: before})


class CheckpointFailed(Exception):
    """A checkpoint could not be written, in one line; the one before it is untouched."""


def step_of(checkpoint: Path) -> int:
    """The step of ``global_step_N``; 0 where the folder is called otherwise."""
    match = CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def checkpoints(folder: Path) -> list[Path]:
    """The ``global_step_N`` of a run's folder, the newest first."""
    return sorted((each for each in folder.glob("global_step_*") if each.is_dir()), key=step_of, reverse=True)


def noted(folder: Path) -> Path | None:
    """The checkpoint that veRL's note names, where it is there."""
    try:
        found = folder / f"global_step_{int((folder / LATEST).read_text())}"
    except (OSError, ValueError):
        return None
    return found if found.is_dir() else None


def note(folder: Path, step: int | None) -> None:
    """Write veRL's note of the newest checkpoint; None: there is none."""
    if step is None:
        (folder / LATEST).unlink(missing_ok=True)
        return
    with replacing(folder / LATEST) as temporary:
        temporary.write_text(str(step))


@contextmanager
def written_aside(folder: Path, step: int, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Give the folder in which ``global_step_N`` is to be written, and let it take its place once the body has ended.

    Args:
        folder: the run's folder.
        step: N.
        facts: what the manifest says beside the files (JSON values).
    """
    aside = folder / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    new = aside / f"global_step_{step}"
    try:
        yield aside
        write_manifest(new, {"step": step, **facts})
        place = folder / new.name
        if place.exists():  # of an earlier part of the run
            place.rename(aside / "replaced")
        new.rename(place)
        sync(folder)
        note(folder, step)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_manifest(checkpoint: Path, facts: Mapping[str, Any]) -> None:
    """Write size and SHA-256 of each file of a checkpoint into its manifest, and sync all of them."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(sync, files))
        digests = list(pool.map(sha256, files))
    found = {
        str(path.relative_to(checkpoint)): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(files, digests, strict=True)
    }
    write_json(checkpoint / MANIFEST, {**facts, "files": found})
    for inner in [path for path in checkpoint.rglob("*") if path.is_dir()]:
        sync(inner)


def manifest_of(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint's manifest says; None where it has none, or one that cannot be read."""
    try:
        found = json.loads((checkpoint / MANIFEST).read_text())
        return found if isinstance(found["files"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where its files are those that were saved.

    One of an earlier version of the project has no manifest: its archives are opened, which shows a cut end.
    """
    if not (checkpoint / MANIFEST).exists():
        return _fault_of_archives(checkpoint)
    manifest = manifest_of(checkpoint)
    if manifest is None:
        return f"{MANIFEST} cannot be read"
    for name, entry in manifest["files"].items():
        path = checkpoint / name
        if not path.resolve().is_relative_to(checkpoint.resolve()):
            return f"{name} leads out of the checkpoint"
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != entry["bytes"]:
            return f"{name} has {size} bytes, {entry['bytes']} were saved"
    with ThreadPoolExecutor(READERS) as pool:
        digests = pool.map(lambda name: sha256(checkpoint / name), manifest["files"])
        changed = (name for name, digest in zip(manifest["files"], digests, strict=True) if digest != manifest["files"][name]["sha256"])
        return next((f"{name} is not what was saved (another SHA-256)" for name in changed), None)


def _fault_of_archives(checkpoint: Path) -> str | None:
    archives = sorted(checkpoint.rglob("*.pt"))
    if not archives:
        return "it has no files"
    for path in archives:
        try:
            with zipfile.ZipFile(path):
                pass
        except (OSError, zipfile.BadZipFile):
            return f"{path.relative_to(checkpoint)} is cut off, or no checkpoint file"
    return None


def settle_newest(folder: Path, *, broken: str) -> list[str]:
    """Make the newest good checkpoint the one that a run goes on from.

    What a save that was cut off left aside goes. A checkpoint that is newer and broken moves to ``broken/``.

    Args:
        folder: the run's folder.
        broken: ``skip`` such a one, or ``refuse``.

    Returns:
        Lines for the console.

    Raises:
        InputError: under ``refuse``, or where no checkpoint is good.
    """
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    _finish_best(folder)
    newest = noted(folder)
    candidates = [each for each in checkpoints(folder) if each == newest or (each / MANIFEST).exists()]
    faults: list[tuple[Path, str]] = []
    good = None
    for each in candidates:
        if (found := fault(each)) is None:
            good = each
            break
        faults.append((each, found))
    if good is None and not faults:
        return []
    told = "; ".join(f"{each}: {found}" for each, found in faults)
    if good is None:
        raise InputError(f"no checkpoint is good ({told}): trainer.resume_mode=disable begins anew, and moves the old files aside")
    if faults and broken == "refuse":
        raise InputError(
            f"the newest checkpoint is broken ({told}): luffy.safety.broken_checkpoint=skip goes on from {good.name}, the newest good one"
        )
    for each, _ in faults:
        (folder / BROKEN).mkdir(exist_ok=True)
        shutil.rmtree(folder / BROKEN / each.name, ignore_errors=True)
        each.rename(folder / BROKEN / each.name)
    if good != newest or faults:
        note(folder, step_of(good))
    return [f"broken checkpoint, moved to {folder / BROKEN}: {each.name}: {found}; {good.name} is used" for each, found in faults]


def ranks_of(checkpoint: Path) -> int | None:
    """How many ranks wrote a checkpoint, by the names of their files; None where none tells."""
    names = (path.stem.split("_") for path in checkpoint.rglob("model_world_size_*_rank_*.pt"))
    return next((int(parts[3]) for parts in names if parts[3].isdigit()), None)


def refuse_foreign(checkpoint: Path, *, ranks: int, model: Path) -> None:
    """Refuse a checkpoint that the run cannot load: of another number of ranks, or of a model of another shape.

    Raises:
        InputError: with the difference.
    """
    if (wrote := ranks_of(checkpoint)) not in (None, ranks):
        raise InputError(
            f"{checkpoint} was written by {wrote} ranks and this run has {ranks} (trainer.nnodes x trainer.n_gpus_per_node): veRL loads a "
            f"checkpoint on as many as wrote it; run on {wrote}, or start anew from its exported model (actor_rollout_ref.model.path)"
        )
    saved = next(iter([*checkpoint.glob("actor/huggingface/config.json"), *checkpoint.glob("huggingface/config.json")]), None)
    if saved is None or not (model / "config.json").is_file():
        return
    old, new = (json.loads(path.read_text()) for path in (saved, model / "config.json"))
    if found := [f"{key} {old[key]} -> {new[key]}" for key in MODEL_SHAPE if key in old and key in new and old[key] != new[key]]:
        raise InputError(f"{checkpoint} is of another model ({'; '.join(found)}): give the model that it was trained from")


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that the disk, or the user's share of it, is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        seen = seen.__cause__ or seen.__context__
    return any(text in str(error) for text in OUT_OF_SPACE)


def require_room(folder: Path, needed: int | None = None) -> None:
    """Raise CheckpointFailed where the disk has less room than a checkpoint takes.

    Args:
        folder: the run's folder.
        needed: bytes; None: as many as the newest checkpoint there has, and nothing is known before the first.
    """
    if needed is None:
        manifest = next((found for each in checkpoints(folder) if (found := manifest_of(each))), None)
        if manifest is None:
            return
        needed = sum(entry["bytes"] for entry in manifest["files"].values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointFailed(f"the disk of {folder} is full: {free} bytes are free, a checkpoint takes {needed}")


def score_of(validation: Mapping[str, float]) -> float | None:
    """Mean accuracy over the held-out sets of a validation's metrics; None where it has none."""
    means = [value for name, value in validation.items() if name.startswith("val-core/") and "/mean@" in name]
    return sum(means) / len(means) if means else None


def keep_newest(folder: Path, number: int) -> None:
    """Remove all but the ``number`` newest ``global_step_N`` of a run's folder."""
    for old in checkpoints(folder)[number:]:
        shutil.rmtree(old)


def keep_best(folder: Path, step: int, score: float) -> bool:
    """Keep the checkpoint of ``step`` as the run's best one.

    Args:
        folder: the run's folder.
        step: a step that was validated; nothing happens where it has no checkpoint.
        score: its held-out accuracy.

    Returns:
        Whether it is the best so far: it has a checkpoint and a higher score than the one that was kept.
    """
    checkpoint, best = folder / f"global_step_{step}", folder / BEST
    known = json.loads((best / SCORE).read_text())["score"] if (best / SCORE).exists() else None
    if not checkpoint.is_dir() or (known is not None and score <= known):
        return False
    new = folder / f"{BEST}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(checkpoint, new / checkpoint.name, copy_function=link)
    with replacing(new / SCORE) as temporary:
        temporary.write_text(json.dumps({"step": step, "score": score}) + "\n")
    _finish_best(folder)
    return True


def _finish_best(folder: Path) -> None:
    """Let a whole new best one (its score is written last) take the place of the old one, by renames alone."""
    best, new, old = (folder / f"{BEST}{suffix}" for suffix in ("", ".new", ".old"))
    shutil.rmtree(old, ignore_errors=True)
    if (new / SCORE).exists():
        if best.exists():
            best.rename(old)
        new.rename(best)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that :func:`keep_best` kept, or None."""
    return next((folder / BEST).glob("global_step_*"), None)
