"""Held-out problems of a run that was given none: a part of its training file, or none at all.

``data.val_files`` is a file or several, ``auto`` (a part of ``data.train_files``: :mod:`verl.mix_src.resolvers` says when that is
the default), or null (no validation).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from luffy.data.columnar import columns, row_count
from luffy.data.held_out import split_held_out
from luffy.data.schema import REWARD_MODEL
from luffy.errors import InputError
from luffy.traces import PROMPT
from luffy.training_report import held_out_accuracy, read_metrics
from verl.mix_src.resolvers import AUTO
from verl.mix_src.run_files import RunFiles

SHARE, MOST_ROWS = 0.1, 256  # a tenth of the rows, and no more than so many


def files_of(files: Any) -> list[str]:
    """One path, several, null or ``auto``, as a list of paths."""
    return [] if files in (None, AUTO) else [files] if isinstance(files, str) else list(files)


def settle(config: DictConfig) -> str | None:
    """Give ``auto`` and null of ``data.val_files`` their meaning, in ``config`` and in the run's folder.

    Returns:
        A line for the console, or None where held-out files were given.

    Raises:
        InputError: a training file that cannot be split.
    """
    given = config.data.val_files
    if given not in (AUTO, None):
        return None
    if given == AUTO and (rows := rows_held_out(config)):
        return _split(config, rows)
    with open_dict(config):
        config.data.val_files = None
    why = (
        "data.val_files=null"
        if given is None
        else "the training data has too few rows, or no gold answers, to hold a part out; data.val_files=FILE gives some"
    )
    return f"no validation: {why}"


def rows_held_out(config: DictConfig) -> int:
    """How many rows ``auto`` holds out; 0 where the rest would be less than a batch, or rows have no gold answer."""
    files = files_of(config.data.train_files)
    if len(files) != 1:
        raise InputError("data.val_files=auto splits one training file; with several, give data.val_files=FILE, or null for no validation")
    if not {PROMPT, REWARD_MODEL} <= set(columns(Path(files[0]))):
        return 0
    rows = row_count(Path(files[0]))
    wanted = min(MOST_ROWS, max(1, round(SHARE * rows)))
    return wanted if rows - wanted >= config.data.train_batch_size else 0


def _split(config: DictConfig, rows: int) -> str:
    (file,) = files_of(config.data.train_files)
    folder = RunFiles(Path(config.trainer.default_local_dir)).folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    split = split_held_out(Path(file), folder, seed=config.luffy.run.seed, rows=rows)
    if split.train_rows < config.data.train_batch_size:
        raise InputError(
            f"{file}: holding {split.held_out_rows} rows out leaves {split.train_rows}, fewer than data.train_batch_size="
            f"{config.data.train_batch_size}: lower it, or give data.val_files=FILE, or data.val_files=null for no validation"
        )
    config.data.train_files, config.data.val_files = str(split.train), str(split.held_out)
    return (
        f"held out for validation: {split.held_out_rows} of the {split.train_rows + split.held_out_rows} rows of {file}, drawn by "
        f"luffy.run.seed={config.luffy.run.seed} ({split.held_out}; others: data.val_files=FILE)"
    )


def make_definite(config: DictConfig, files: RunFiles) -> None:
    """Settings of veRL's trainer that follow: no held-out files mean no validation; what was measured is not measured again."""
    with open_dict(config):
        if config.data.val_files is None:  # veRL opens the files all the same
            config.data.val_files, config.data.val_max_samples = config.data.train_files, 1
            config.trainer.test_freq, config.trainer.val_before_train = -1, False
        first = files.first_step(config)
        records = read_metrics(files.metrics) if first and files.metrics.exists() else []
        if any(record["step"] == first and held_out_accuracy(record["data"]) for record in records):
            config.trainer.val_before_train = False
