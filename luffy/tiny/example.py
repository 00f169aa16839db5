"""Build the embedded example: a model folder and data files, each either whole or not there."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from luffy.data.atomic import replacing
from luffy.tiny.dataset import HARDER_FILE, HELDOUT_FILE, TRAIN_FILE, DataRecipe, tables
from luffy.tiny.manifest import is_built, parameters, refuse_foreign, write_manifest
from luffy.tiny.recipe import BaseRecipe

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
        luffy.tiny.base_check.UnfitBaseError: where the base is under-trained, or solves problems by itself.
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
    from luffy.tiny.base_build import save_base  # Only here: a rerun that has nothing to build must not wait for torch.

    with _replacing_folder(folder) as temporary:
        save_base(temporary, recipe, seed, show_progress=show_progress)
        write_manifest(temporary, wanted)
    logger.info("model: written to %s", folder)


@contextlib.contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    temporary = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
