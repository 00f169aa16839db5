"""Data files and the model: what a run reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import AutoConfig, AutoTokenizer

from luffy.data.check import check_layout
from luffy.data.columnar import columns, row_count
from luffy.errors import InputError
from luffy.traces import TARGET_PROBS
from verl.mix_src.held_out import files_of, rows_held_out
from verl.mix_src.preflight.lengths import Lengths, check_rl
from verl.mix_src.preflight.model import check_model
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
    check_model(str(config.actor_rollout_ref.model.path), load_tokenizer(config), device=config.trainer.device)


def load_tokenizer(config: DictConfig) -> Any:
    """The tokenizer of the model that is trained.

    Raises:
        InputError: none there, or one that can neither render nor end a chat.
    """
    path = str(config.actor_rollout_ref.model.path)
    if not Path(path).is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "outputs/", "models/"))):
        raise InputError(f"actor_rollout_ref.model.path={path} is not a folder; give a model folder or a hub name")
    try:
        model = AutoConfig.from_pretrained(path, trust_remote_code=config.data.trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=config.data.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"no model and tokenizer at actor_rollout_ref.model.path={path}: {str(error).splitlines()[0]}") from error
    if hasattr(model, "vision_config"):
        raise InputError(f"{path} is a vision-language model, whose demonstrations would be read without their images: take a text model")
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer of {path} has no EOS token, so no response could end: set eos_token in its tokenizer_config.json")
    if not tokenizer.chat_template:
        raise InputError(f"the tokenizer of {path} has no chat template: add chat_template.jinja to the model folder")
    return tokenizer


def row_lengths(config: DictConfig) -> Lengths:
    """What the lengths of the data mean for the run; nothing where data or model are not there (others say so)."""
    try:
        tokenizer = load_tokenizer(config)
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
