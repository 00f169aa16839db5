"""What a model is asked in training, validation and evaluation, and the lines that say a difference."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luffy.asked_prompt import PROBLEM, asked_prompt, difference, read_record, write_record
from luffy.long_context import carry_system
from miniature.tokenizer import build_tokenizer
from verl.mix_src.run.data import prompt_notes, training_prompt

TRAINED, OTHER = "Think between <think> and </think>.", "Answer."


@pytest.fixture
def tokenizer():
    return build_tokenizer()


def write(file: Path, system: str | None) -> str:
    chat = [{"role": "system", "content": system}] * (system is not None) + [{"role": "user", "content": "1+2"}]
    pq.write_table(pa.Table.from_pylist([{"prompt": chat}]), file)
    return str(file)


def test_a_prompt_is_what_stands_around_the_problem(tokenizer):
    chat = [{"role": "system", "content": OTHER}, {"role": "user", "content": "1+2"}]
    expected = f"<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n"
    assert asked_prompt(tokenizer, chat) == expected
    assert chat[1]["content"] == "1+2"


def test_a_difference_is_where_two_prompts_differ():
    assert difference("a same b", "a same b") is None
    assert difference("begin one end", "begin two end") == "'one' and 'two'"
    assert difference("aa", "aaa") == "nothing and 'a'"
    assert len(difference("x" * 500, "y")) < 100


@pytest.mark.parametrize(
    ("carried", "train", "validation", "expected"),
    [
        (TRAINED, TRAINED, TRAINED, []),
        (TRAINED, TRAINED, None, []),  # the template gives the same to a prompt without one
        (None, None, None, []),
        (None, TRAINED, TRAINED, ["does not carry the training set's system message"]),
        (TRAINED, TRAINED, OTHER, ["training and validation ask differently"]),
        (OTHER, TRAINED, OTHER, ["training and validation ask differently", "does not carry the training set's"]),
    ],
)
def test_differences_are_said_at_the_start(tokenizer, tmp_path, carried, train, validation, expected):
    if carried:
        tokenizer.chat_template = carry_system(tokenizer.chat_template, carried)
    files = write(tmp_path / "train.parquet", train), write(tmp_path / "valid.parquet", validation)
    notes = prompt_notes(tokenizer, *files)
    assert len(notes) == len(expected)
    assert all(text in note and "\n" not in note for text, note in zip(expected, notes, strict=True))


def test_a_run_notes_what_it_was_trained_with_where_its_models_are_found(tokenizer, tmp_path):
    prompt = training_prompt(tokenizer, write(tmp_path / "train.parquet", TRAINED))
    model = tmp_path / "global_step_2" / "actor" / "huggingface"
    model.mkdir(parents=True)
    assert read_record(model) is None
    write_record(tmp_path, prompt)
    assert read_record(model) == read_record(tmp_path / "global_step_2" / "huggingface") == prompt
    assert TRAINED in prompt and PROBLEM in prompt
