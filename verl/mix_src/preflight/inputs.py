"""Data files and the model: what a run reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from luffy.data.check import check_layout
from luffy.data.columnar import columns, row_count
from luffy.errors import InputError
from luffy.traces import TARGET_PROBS
from verl.mix_src.held_out import files_of, rows_held_out
from verl.mix_src.preflight.lengths import Lengths, check_rl
from verl.mix_src.preflight.model import check_model, load_tokenizer
from verl.mix_src.preflight.problems import Check
from verl.mix_src.resolvers import AUTO
from verl.mix_src.rollout import luffy_config

OLD_PROBABILITIES = "target_ds_qwen_7b_probs"


def _check_layouts(config: DictConfig, *keys: str) -> None:
    guided = luffy_config(config).guidance.n_demonstrations != 0
    for key, kind in (("train_files", "train" if guided else "eval"), ("val_files", "eval")):
        for file in files_of(config.data[key]) if key in (keys or (key,)) else ():
            check_layout(file, kind)


def _train_files(config: DictConfig) -> Iterator[str]:
    _check_layouts(config, "train_files")
    files, batch = files_of(config.data.train_files), config.data.train_batch_size
    for file in files:
        if OLD_PROBABILITIES in columns(Path(file)):
            yield f"{file} has a column {OLD_PROBABILITIES}, the released code's name, which nothing reads here: rename it to {TARGET_PROBS}"
    if (rows := sum(row_count(Path(file)) for file in files)) < batch:
        yield f"data.train_files has {rows} rows, fewer than data.train_batch_size={batch}: no step is possible"
    elif config.data.val_files == AUTO:
        rows_held_out(config)


def _val_files(config: DictConfig) -> None:
    _check_layouts(config, "val_files")


def _model(config: DictConfig) -> None:
    check_model(str(config.actor_rollout_ref.model.path), _tokenizer(config), device=config.trainer.device)


def _tokenizer(config: DictConfig) -> Any:
    key = "actor_rollout_ref.model.path"
    return load_tokenizer(str(OmegaConf.select(config, key)), key=key, trust_remote_code=config.data.trust_remote_code)


def row_lengths(config: DictConfig) -> Lengths:
    """What the lengths of the data mean for the run; nothing where data or model are not there (others say so)."""
    try:
        tokenizer = _tokenizer(config)
        model = check_model(str(config.actor_rollout_ref.model.path), tokenizer, device=config.trainer.device)
        _check_layouts(config)
    except InputError:
        return Lengths()
    given = config.actor_rollout_ref.model.override_config.get("max_position_embeddings")
    try:
        return check_rl(config, tokenizer, given or (model.positions if model else 0))
    except InputError as error:
        return Lengths(reasons=[str(error)])


def _lengths(config: DictConfig) -> Iterator[str]:
    return row_lengths(config).problems()


CHECKS: tuple[Check, ...] = (_train_files, _val_files, _model, _lengths)
