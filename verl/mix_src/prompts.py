"""At the start of a run: what its training data ask the model, and whether validation and evaluation ask the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import AutoTokenizer

from luffy.asked_prompt import asked_prompt, difference, write_record
from luffy.data.files import columns_of, read_batches
from luffy.traces import PROMPT


def compare_prompts(model: str, data: DictConfig, run_folder: Path | None = None) -> list[str]:
    """Lines of :func:`prompt_notes` for a run.

    Args:
        model: folder or hub name of the start model.
        data: the ``data`` node of a training config.
        run_folder: where to note for evaluation what the model is trained with; None for a run that does not start.
    """
    train, validation = (_first(data[key]) for key in ("train_files", "val_files"))
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=bool(data.get("trust_remote_code")))
    prompt = training_prompt(tokenizer, train)
    if run_folder is not None and prompt is not None:
        write_record(run_folder, prompt)
    return prompt_notes(tokenizer, train, validation)


def _first(files: Any) -> str | None:
    return files if isinstance(files, str) or not files else str(files[0])


def training_prompt(tokenizer: Any, train_file: str) -> str | None:
    """What the training data ask, by their first row; None where it has no chat (SFT's own layout)."""
    messages = _first_chat(train_file)
    return asked_prompt(tokenizer, messages) if messages else None


def prompt_notes(tokenizer: Any, train_file: str, val_file: str | None) -> list[str]:
    """A line for each way in which the model will be asked otherwise than in training.

    Args:
        tokenizer: of the start model, with its chat template.
        train_file: parquet file of training problems.
        val_file: parquet file of validation problems; None where there is no validation.
    """
    messages, notes = _first_chat(train_file), []
    if not messages:
        return notes
    trained = asked_prompt(tokenizer, messages)
    held_out = _first_chat(val_file) if val_file else None
    if held_out and (texts := difference(trained, asked_prompt(tokenizer, held_out))):
        notes.append(f"training and validation ask differently ({texts}): prepare {val_file} with the same --system-prompt")
    bare = [message for message in messages if message["role"] != "system"]
    if texts := difference(trained, asked_prompt(tokenizer, bare)):
        notes.append(
            f"the model's chat template does not carry the training set's system message ({texts}): evaluate with "
            "--remove_system False, or prepare the model after the data (data/prepare_model.py)"
        )
    return notes


def _first_chat(file: str) -> list[dict[str, str]] | None:
    path = Path(file)
    if not path.is_file() or PROMPT not in columns_of(path):  # validation held out of the training file; SFT's own layout
        return None
    first = next(read_batches(path, 1, [PROMPT]), None)
    return first.rows()[0][PROMPT] if first else None
