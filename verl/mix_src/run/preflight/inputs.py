"""Data files and the model: what a run reads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import AutoConfig

from luffy.data.check import check_layout, require_parquet
from luffy.data.rows import columns_of, row_count
from luffy.errors import InputError
from luffy.models import ModelFiles, find_model, load_tokenizer, require_whole_weights
from luffy.traces import POLICY_SUCCESS, TARGET_PROBS
from luffy.vllm_cpu import CPU_HEAD_SIZES
from verl.mix_src.config import AUTO, is_rl, luffy_config, model_key, model_node
from verl.mix_src.run.data import files_of, rows_held_out
from verl.mix_src.run.preflight.lengths import Lengths, check_rl, check_sft
from verl.mix_src.sft.dataset import DemonstrationDataset

OLD_PROBABILITIES = "target_ds_qwen_7b_probs"


def train_files(config: DictConfig) -> Iterator[str]:
    """Reinforcement learning's: of the layout that the method needs, and enough rows for a step."""
    files, batch = files_of(config.data.train_files), config.data.train_batch_size
    _check_train_layout(config)
    for file in files:
        if OLD_PROBABILITIES in columns_of(Path(file)):
            yield f"{file} has a column {OLD_PROBABILITIES}, the released code's name, which nothing reads here: rename it to {TARGET_PROBS}"
        if luffy_config(config).guidance.policy_success_below is not None and POLICY_SUCCESS not in columns_of(Path(file)):
            yield (
                f"{file} has no column {POLICY_SUCCESS}, which luffy.guidance.policy_success_below reads: make it with "
                "data/collect_traces.py --policy MODEL, or leave the setting null"
            )
    if (rows := sum(row_count(Path(file)) for file in files)) < batch:
        yield f"data.train_files has {rows} rows, fewer than data.train_batch_size={batch}: no step is possible"
    elif config.data.val_files == AUTO:
        rows_held_out(config)


def _check_train_layout(config: DictConfig) -> None:
    for file in files_of(config.data.train_files):
        check_layout(file, "train" if luffy_config(config).reads_traces else "eval")


def val_files(config: DictConfig) -> None:
    """Held-out problems, of any kind of run."""
    for file in files_of(config.data.val_files):
        check_layout(file, "eval")


def sft_files(config: DictConfig) -> Iterator[str]:
    """All files of supervised fine-tuning; its dataset reads the layout."""
    missing = [(key, file) for key in ("train_files", "val_files") for file in files_of(config.data[key]) if not Path(file).is_file()]
    yield from (f"data.{key}={file} is not a file" for key, file in missing)
    if missing:
        return
    for file in files_of(config.data.train_files):
        require_parquet(Path(file))
    val_files(config)
    if config.data.val_files == AUTO:
        rows_held_out(config)


def sft_steps(config: DictConfig) -> int:
    """Optimizer steps of supervised fine-tuning, from the number of traces.

    Raises:
        InputError: where there are none, or fewer than the config asks for.
    """
    batch, epochs = config.data.train_batch_size, config.trainer.total_epochs
    traces = _number_of_traces(tuple(files_of(config.data.train_files)), config.data.train_max_samples)
    if traces < batch:
        raise InputError(f"data.train_files has {traces} traces, fewer than data.train_batch_size={batch}: no step is possible")
    available = traces // batch * epochs
    steps = config.trainer.total_training_steps or available
    if steps > available:
        raise InputError(f"trainer.total_training_steps={steps} but {epochs} epochs have {available} steps: raise trainer.total_epochs")
    return steps


@cache
def _number_of_traces(files: tuple[str, ...], most: int) -> int:
    return len(DemonstrationDataset(files, None, {"max_length": 0}, max_samples=most))


def sft_traces(config: DictConfig) -> None:
    """Enough of them for a step; nothing where files or model are not there (others say so)."""
    if _readable(config):
        sft_steps(config)


def model(config: DictConfig) -> None:
    """Files of the start model against its tokenizer and the device."""
    if not is_rl(config) and not Path(config.model.path).is_dir():
        raise InputError(f"model.path={config.model.path} is not a folder; data/prepare_model.py makes one")
    _check_model(config, _load_tokenizer(config))


def teacher(config: DictConfig) -> None:
    """The teacher's files, and whether a token is the same word to it and to the start model."""
    path = luffy_config(config).teacher.path
    if path is None:
        return
    trust = bool(config.data.get("trust_remote_code"))
    theirs = load_tokenizer(path, named=f"luffy.teacher.path={path}", trust_remote_code=trust).get_vocab()
    if Path(path).is_dir():
        require_whole_weights(find_model(path).folder)
    ours = _load_tokenizer(config).get_vocab()
    differ = sorted(word for word in ours.keys() | theirs.keys() if ours.get(word) != theirs.get(word))
    if differ:
        raise InputError(
            f"luffy.teacher.path={path} has another vocabulary than {model_node(config).path} ({len(differ)} words differ, {differ[0]!r} for "
            "one): its log-probabilities would be of other words; take a teacher of the same tokenizer"
        )


def lengths(config: DictConfig) -> Iterator[str]:
    """Rows against every budget that must hold them."""
    return row_lengths(config).problems()


def row_lengths(config: DictConfig) -> Lengths:
    """What the lengths of the data mean for the run; nothing where data or model are not there (others say so)."""
    if not (found := _readable(config)):
        return Lengths()
    tokenizer, known = found
    given = model_node(config).override_config.get("max_position_embeddings")
    try:
        return (check_rl if is_rl(config) else check_sft)(config, tokenizer, given or (known.positions if known else 0))
    except InputError as error:
        return Lengths(reasons=[str(error)])


def _readable(config: DictConfig) -> tuple[Any, ModelFiles | None] | None:
    """Tokenizer and model, where nothing is wrong with them and the data files."""
    try:
        if is_rl(config):
            _check_train_layout(config)
            val_files(config)
        elif list(sft_files(config)):
            return None
        tokenizer = _load_tokenizer(config)
        return tokenizer, _check_model(config, tokenizer)
    except InputError:
        return None


def _load_tokenizer(config: DictConfig) -> Any:
    """The tokenizer of the model that is trained.

    Raises:
        InputError: none there, or one that can neither render nor end a chat; a vision-language model.
    """
    path, named = str(model_node(config).path), f"{model_key(config)}={model_node(config).path}"
    trust = bool(config.data.get("trust_remote_code"))
    tokenizer = load_tokenizer(path, named=named, trust_remote_code=trust)
    try:
        known = AutoConfig.from_pretrained(path, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise InputError(f"no model at {named}: {' '.join(str(error).split())[:400]}") from error
    if hasattr(known, "vision_config"):
        raise InputError(f"{path} is a vision-language model, whose demonstrations would be read without their images: take a text model")
    names = known.architectures or []
    if names and all(name.endswith("Model") and not name.endswith("LMHeadModel") for name in names):
        raise InputError(
            f"{path} is a {names[0]}, which has no head that predicts tokens: take a model whose config.json names a ...ForCausalLM"
        )
    return tokenizer


def _check_model(config: DictConfig, tokenizer: Any) -> ModelFiles | None:
    """What is known of the model; None for a hub name.

    Raises:
        InputError: no weights, or broken ones, a vocabulary smaller than the tokenizer's, or heads that vLLM does not know here.
    """
    path = str(model_node(config).path)
    if not Path(path).is_dir():
        return None
    known = find_model(path)
    require_whole_weights(known.folder)
    highest = max(tokenizer.get_vocab().values(), default=0)
    if known.vocabulary and highest >= known.vocabulary:
        raise InputError(
            f"the tokenizer of {path} has ids up to {highest}, but the model's vocabulary has {known.vocabulary} (vocab_size): they "
            "do not belong together; copy the model's own tokenizer files there, or resize its embeddings"
        )
    uses_vllm = is_rl(config) or config.data.val_files is not None
    if uses_vllm and config.trainer.device == "cpu" and known.head_size and known.head_size not in CPU_HEAD_SIZES:
        sizes = ", ".join(map(str, CPU_HEAD_SIZES))
        raise InputError(
            f"{path} has attention heads of {known.head_size} numbers; vLLM's CPU attention knows {sizes}: take a model of such heads "
            "(hidden_size / num_attention_heads, or head_dim, in config.json), or a GPU"
        )
    return known
