"""Build the embedded example: a model folder and data files, each either whole or not there."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from luffy.errors import InputError
from luffy.files import replacing, replacing_folder, write_json
from miniature.dataset import HARDER_FILE, HELDOUT_FILE, TRAIN_FILE, DataRecipe, tables
from miniature.recipe import BaseRecipe

MANIFEST = "tiny_manifest.json"
VERSION = 2  # Raise it when the same parameters come to give another model or other data.

Parameters = dict[str, Any]


def parameters(recipe: BaseRecipe | DataRecipe, seed: int) -> Parameters:
    """All that a build depends on, as JSON values."""
    return json.loads(json.dumps({"version": VERSION, "seed": seed} | asdict(recipe)))


def is_built(folder: Path, wanted: Parameters) -> bool:
    """Whether the folder's manifest has the wanted parameters."""
    return _read(folder / MANIFEST) == wanted


def write_manifest(folder: Path, built: Parameters | None) -> None:
    """Say with what parameters the folder's files were built; None: a build is under way, or was broken off."""
    write_json(folder / MANIFEST, built)


def refuse_foreign(folder: Path, in_the_way: Path) -> None:
    """Refuse to overwrite what has no manifest beside it.

    Raises:
        InputError: where ``in_the_way`` exists and the folder has no manifest.
    """
    if in_the_way.exists() and not (folder / MANIFEST).exists():
        raise InputError(f"{in_the_way} is in the way, and no part of an embedded example; give another output folder")


def _read(path: Path) -> Parameters | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); delete it to build the example again") from error


logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"


@dataclass(frozen=True, kw_only=True)
class TinyExample:
    """Where an example lies.

    Attributes:
        model: a Hugging Face model folder: the base.
        train: training prompts with traces.
        heldout: problems of the training size that no training prompt asks.
        heldout_harder: problems that are one digit longer.
    """

    model: Path
    train: Path
    heldout: Path
    heldout_harder: Path


def build(
    output_dir: str | Path,
    seed: int = 0,
    *,
    data: DataRecipe | None = None,
    base: BaseRecipe | None = None,
    show_progress: bool = True,
    only: Literal["data", "model"] | None = None,
) -> TinyExample:
    """Build what is not yet there with the same parameters.

    Args:
        output_dir: gets the folder ``model`` and the data files.
        seed: of everything random. On one machine, equal parameters give equal bytes.
        data: what the data files hold.
        base: how the base model is made.
        show_progress: draw a progress bar while the base is trained.
        only: one of the two; None builds both.

    Raises:
        InputError: where other files than an example's are in the way.
        miniature.base.UnfitBaseError: where the base is under-trained, or solves problems by itself.
    """
    folder = Path(output_dir)
    example = TinyExample(
        model=folder / MODEL_FOLDER,
        train=folder / TRAIN_FILE,
        heldout=folder / HELDOUT_FILE,
        heldout_harder=folder / HARDER_FILE,
    )
    if only != "model":
        _build_data(folder, data or DataRecipe(), seed)
    if only != "data":
        _build_model(example.model, base or BaseRecipe(), seed, show_progress)
    return example


def _build_data(folder: Path, recipe: DataRecipe, seed: int) -> None:
    wanted = parameters(recipe, seed)
    paths = [folder / name for name in (TRAIN_FILE, HELDOUT_FILE, HARDER_FILE)]
    if is_built(folder, wanted) and all(path.exists() for path in paths):
        logger.info("data: already in %s", folder)
        return
    for path in paths:
        refuse_foreign(folder, path)
    write_manifest(folder, None)
    for name, table in tables(recipe, seed).items():
        with replacing(folder / name) as temporary:
            pq.write_table(table, temporary)
    write_manifest(folder, wanted)
    logger.info("data: written to %s", folder)


def _build_model(folder: Path, recipe: BaseRecipe, seed: int, show_progress: bool) -> None:
    wanted = parameters(recipe, seed)
    if is_built(folder, wanted):
        logger.info("model: already in %s", folder)
        return
    refuse_foreign(folder, folder)
    from miniature.base import save_base  # Only here: a rerun that has nothing to build must not wait for torch.

    with replacing_folder(folder) as temporary:
        save_base(temporary, recipe, seed, show_progress=show_progress)
        write_manifest(temporary, wanted)
    logger.info("model: written to %s", folder)
