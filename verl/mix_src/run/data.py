"""The data of a run: problems held out of it where none were given, and what training, validation and evaluation ask the model.

``data.val_files`` is a file or several, ``auto`` (a part of ``data.train_files``: :mod:`verl.mix_src.config` says when that is
the default), or null (no validation).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict
from transformers import AutoTokenizer

from luffy.asked_prompt import asked_prompt, difference, write_record
from luffy.data.held_out import split_held_out
from luffy.data.rows import columns_of, read_batches, row_count
from luffy.data.schema import REWARD_MODEL
from luffy.errors import InputError
from luffy.traces import PROMPT
from luffy.training_report import held_out_accuracy
from verl.mix_src.config import AUTO, model_node
from verl.mix_src.run.folder import RunFiles

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
    if not {PROMPT, REWARD_MODEL} <= set(columns_of(Path(files[0]))):
        return 0
    rows = row_count(Path(files[0]))
    wanted = min(MOST_ROWS, max(1, round(SHARE * rows)))
    return wanted if rows - wanted >= config.data.train_batch_size else 0


def _split(config: DictConfig, rows: int) -> str:
    (file,) = files_of(config.data.train_files)
    folder = RunFiles.of(config).folder / "data"
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
        if first and any(record["step"] == first and held_out_accuracy(record["data"]) for record in files.read_metrics()):
            config.trainer.val_before_train = False


def compare_prompts(config: DictConfig, run_folder: Path | None = None) -> list[str]:
    """Lines of :func:`prompt_notes` for a run; in ``run_folder``, of one that starts, it is noted what the model is trained with."""
    train, validation = files_of(config.data.train_files)[0], next(iter(files_of(config.data.val_files)), None)
    tokenizer = AutoTokenizer.from_pretrained(model_node(config).path, trust_remote_code=bool(config.data.get("trust_remote_code")))
    prompt = training_prompt(tokenizer, train)
    if run_folder is not None and prompt is not None:
        write_record(run_folder, prompt)
    return prompt_notes(tokenizer, train, validation)


def training_prompt(tokenizer: Any, train_file: str) -> str | None:
    """What the training data ask, by their first row; None where it has no chat (SFT's own layout)."""
    messages = first_chat(train_file)
    return asked_prompt(tokenizer, messages) if messages else None


def prompt_notes(tokenizer: Any, train_file: str, val_file: str | None) -> list[str]:
    """A line for each way in which the start model will be asked otherwise than in training; ``val_file``: None without validation."""
    messages, notes = first_chat(train_file), []
    if not messages:
        return notes
    trained = asked_prompt(tokenizer, messages)
    held_out = first_chat(val_file) if val_file else None
    if held_out and (texts := difference(trained, asked_prompt(tokenizer, held_out))):
        notes.append(f"training and validation ask differently ({texts}): prepare {val_file} with the same --system-prompt")
    bare = [message for message in messages if message["role"] != "system"]
    if texts := difference(trained, asked_prompt(tokenizer, bare)):
        notes.append(
            f"the model's chat template does not carry the training set's system message ({texts}): evaluate with "
            "--remove_system False, or prepare the model after the data (data/prepare_model.py)"
        )
    return notes


def first_chat(file: str) -> list[dict[str, str]] | None:
    """The prompt of a data file's first row; None where there is none."""
    path = Path(file)
    if not path.is_file() or PROMPT not in columns_of(path):  # validation held out of the training file; SFT's own layout
        return None
    first = next(read_batches(path, 1, [PROMPT]), None)
    return first.rows()[0][PROMPT] if first else None
