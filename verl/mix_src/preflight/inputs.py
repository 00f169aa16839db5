"""Data files and the model: what a run reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from transformers import AutoConfig, AutoTokenizer

from luffy.data.check import check_layout
from luffy.data.columnar import row_count
from luffy.errors import InputError
from verl.mix_src.preflight.problems import Check
from verl.mix_src.rollout import luffy_config


def _train_files(config: DictConfig) -> Iterator[str]:
    guided = luffy_config(config).guidance.n_demonstrations != 0
    files, batch = _files(config, "train_files"), config.data.train_batch_size
    for file in files:
        check_layout(file, "train" if guided else "eval")
    if (rows := sum(row_count(Path(file)) for file in files)) < batch:
        yield f"data.train_files has {rows} rows, fewer than data.train_batch_size={batch}: no step is possible"


def _val_files(config: DictConfig) -> None:
    for file in _files(config, "val_files"):
        check_layout(file, "eval")


def _files(config: DictConfig, key: str) -> list[str]:
    files = config.data[key]
    return [files] if isinstance(files, str) else list(files)


def _model(config: DictConfig) -> None:
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


CHECKS: tuple[Check, ...] = (_train_files, _val_files, _model)
