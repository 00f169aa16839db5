"""What can be known to be wrong with an SFT run before it starts, each as one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from luffy.data.check import check_layout, require_parquet
from luffy.errors import InputError
from luffy.evaluation.model_files import find_model
from verl.mix_src.held_out import files_of, rows_held_out
from verl.mix_src.preflight.lengths import check_sft
from verl.mix_src.preflight.model import check_model, load_tokenizer
from verl.mix_src.preflight.problems import found_by
from verl.mix_src.resolvers import AUTO
from verl.mix_src.sft_dataset import DemonstrationDataset

EACH_EPOCH = "after_each_epoch"


def check_config(config: DictConfig) -> None:
    """Raise InputError where keys of the composed config contradict each other."""
    ranks = config.trainer.n_gpus_per_node
    if config.trainer.nnodes != 1:
        raise InputError(
            f"trainer.nnodes={config.trainer.nnodes}: this command starts one node; on several, run torchrun "
            "-m verl.mix_src.sft_trainer CONFIG.yaml on each"
        )
    batch, micro = config.data.train_batch_size, config.data.micro_batch_size_per_gpu
    if batch % ranks:
        raise InputError(f"data.train_batch_size={batch} must be a multiple of trainer.n_gpus_per_node={ranks}")
    if not config.data.use_dynamic_bsz and (batch // ranks) % micro:
        raise InputError(
            f"data.micro_batch_size_per_gpu={micro} must divide the {batch // ranks} rows of a rank; or set data.use_dynamic_bsz=true"
        )
    if config.data.use_dynamic_bsz and config.data.max_token_len_per_gpu < config.data.max_length:
        raise InputError(
            f"data.max_token_len_per_gpu={config.data.max_token_len_per_gpu} must hold one sample of "
            f"data.max_length={config.data.max_length} tokens"
        )
    if config.data.pad_mode != "no_padding":
        raise InputError(f"data.pad_mode={config.data.pad_mode}: veRL's engine takes no_padding alone")
    if not isinstance(config.trainer.save_freq, int) and config.trainer.save_freq != EACH_EPOCH:
        raise InputError(f"trainer.save_freq={config.trainer.save_freq} must be a number of steps or {EACH_EPOCH}")
    if config.trainer.save_freq == 0:
        raise InputError("trainer.save_freq=0: give a number of steps, -1 for the last step alone, or after_each_epoch")
    if "hf_model" not in config.checkpoint.save_contents:
        raise InputError("checkpoint.save_contents must have hf_model: held-out problems are answered from it")
    if config.trainer.test_freq != -1:
        raise InputError("trainer.test_freq has no effect here: held-out problems are answered at every checkpoint (trainer.save_freq)")


def check_machine(config: DictConfig) -> int:
    """The number of optimizer steps of the run.

    Raises:
        InputError: the first of what :func:`examine` finds.
    """
    steps, problems = examine(config)
    if problems:
        raise InputError(problems[0])
    return steps


def examine(config: DictConfig) -> tuple[int, list[str]]:
    """The number of optimizer steps of the run, and what this machine lacks of files, model and GPUs: a line each."""
    problems = list(found_by((_gpus, _files, _model), config))
    if problems:
        return 0, problems
    steps = 0
    try:
        steps = _steps(config, _tokenizer(config))
    except InputError as error:
        problems.append(str(error))
    return steps, list(dict.fromkeys([*problems, *found_by((_lengths,), config)]))


def _gpus(config: DictConfig) -> Iterator[str]:
    wanted, found = config.trainer.n_gpus_per_node, torch.cuda.device_count()
    if config.trainer.device != "cpu" and wanted > found:
        yield (
            f"trainer.n_gpus_per_node={wanted} but this machine has {found} GPUs; lower it, or run the embedded example with profile=cpu"
        )


def _files(config: DictConfig) -> Iterator[str]:
    missing = [
        f"data.{key}={file}" for key in ("train_files", "val_files") for file in files_of(config.data[key]) if not Path(file).is_file()
    ]
    yield from (f"{each} is not a file" for each in missing)
    if missing:
        return
    for file in files_of(config.data.train_files):
        require_parquet(Path(file))
    for file in files_of(config.data.val_files):
        check_layout(file, "eval")
    if config.data.val_files == AUTO:
        rows_held_out(config)


def _model(config: DictConfig) -> None:
    if not Path(config.model.path).is_dir():
        raise InputError(f"model.path={config.model.path} is not a folder; data/prepare_model.py makes one")
    answers = config.trainer.device if config.data.val_files is not None else None  # vLLM answers held-out problems alone
    check_model(config.model.path, _tokenizer(config), device=answers)


def _lengths(config: DictConfig) -> Iterator[str]:
    return check_sft(config, _tokenizer(config), find_model(config.model.path).positions).problems()


def _tokenizer(config: DictConfig) -> Any:
    return load_tokenizer(config.model.path, key="model.path")


def _steps(config: DictConfig, tokenizer: Any) -> int:
    """Optimizer steps of the run, from the number of traces."""
    files, batch = files_of(config.data.train_files), config.data.train_batch_size
    samples = DemonstrationDataset(files, tokenizer, config.data, max_samples=config.data.train_max_samples)
    each_epoch = len(samples) // batch
    if not each_epoch:
        raise InputError(f"data.train_files has {len(samples)} traces, fewer than data.train_batch_size={batch}: no step is possible")
    available = each_epoch * config.trainer.total_epochs
    steps = config.trainer.total_training_steps or available
    if steps > available:
        raise InputError(
            f"trainer.total_training_steps={steps} but {config.trainer.total_epochs} epochs have {available} steps: "
            "raise trainer.total_epochs"
        )
    return steps
