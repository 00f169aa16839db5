"""Demonstrations as SFT samples: which tokens are there, and which of them are learnt."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import default_collate

from luffy.errors import InputError
from miniature.tokenizer import build_tokenizer
from verl.mix_src.sft.dataset import DemonstrationDataset

TOKENIZER = build_tokenizer()
CONFIG = {"max_length": 128}
THINK = TOKENIZER.chat_template.replace("assistant\n' }}", "assistant\n<think>\n' }}")


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text} for text in texts]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def dataset(path: str | list[str], template: str = TOKENIZER.chat_template, **config: Any) -> DemonstrationDataset:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return DemonstrationDataset(path, tokenizer, {**CONFIG, **config})


def learnt_and_masked(sample: dict[str, Any]) -> tuple[str, str]:
    ids, mask = sample["input_ids"], sample["loss_mask"].bool()
    assert sample["position_ids"].tolist() == list(range(len(ids)))
    return TOKENIZER.decode(ids[mask]), TOKENIZER.decode(ids[~mask])


def test_the_trace_and_its_end_are_learnt_and_the_prompt_is_not(tmp_path):
    file = write(tmp_path / "a.parquet", [{"prompt": user("12="), "target": assistant("1+2=03,>3")}])
    (sample,) = dataset(file)
    learnt, masked = learnt_and_masked(sample)
    assert learnt == "1+2=03,>3<|im_end|>"
    assert masked == "<|im_start|>user\n12=<|im_end|>\n<|im_start|>assistant\n"
    assert sample["input_ids"][-1] == TOKENIZER.eos_token_id and sample["loss_mask"][-1] == 1
    assert sample["loss_mask"].sum() == 10  # nine characters and EOS: nothing after EOS is learnt


def test_each_trace_is_a_sample_and_rows_without_one_are_counted(tmp_path, caplog):
    rows = [
        {"prompt": user("1"), "target": assistant("a", "b")},
        {"prompt": user("2"), "target": None},
        {"prompt": user("3"), "target": assistant("c")},
    ]
    with caplog.at_level(logging.WARNING):
        samples = dataset(write(tmp_path / "a.parquet", rows))
    assert [learnt_and_masked(sample)[0] for sample in samples] == ["a<|im_end|>", "b<|im_end|>", "c<|im_end|>"]
    assert "1 of 3 rows have no trace and are left out" in caplog.text


def test_a_thought_that_the_prompt_opens_is_not_doubled(tmp_path):
    rows = [{"prompt": user("1"), "target": assistant("<think>\nhm\n</think>\n\n7")}]
    learnt, masked = learnt_and_masked(dataset(write(tmp_path / "a.parquet", rows), THINK)[0])
    assert masked.endswith("assistant\n<think>\n") and learnt == "hm\n</think>\n\n7<|im_end|>"


def test_tokens_do_not_merge_across_the_border(tmp_path):
    """The trace starts with a line break; its tokens are those of reinforcement learning, not of the whole chat's text."""
    rows = [{"prompt": user("1"), "target": assistant("\n\n7")}]
    sample = dataset(write(tmp_path / "a.parquet", rows), THINK)[0]
    assert sample["loss_mask"].sum() == len(TOKENIZER.encode("\n\n7", add_special_tokens=False)) + 1


def test_messages_layout_learns_the_last_message(tmp_path):
    chat = [{"role": "system", "content": "s"}, *user("1"), *assistant("x"), *user("2"), *assistant("y")]
    learnt, masked = learnt_and_masked(dataset(write(tmp_path / "a.parquet", [{"messages": chat}]))[0])
    assert learnt == "y<|im_end|>"
    assert masked.endswith("assistant\nx<|im_end|>\n<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n")


def test_several_files_and_a_limit(tmp_path):
    files = [write(tmp_path / f"{name}.parquet", [{"prompt": user("1"), "target": assistant(name)}]) for name in "ab"]
    assert len(dataset(files)) == 2
    assert len(DemonstrationDataset(files, TOKENIZER, CONFIG, max_samples=1)) == 1


def test_a_loader_takes_the_samples(tmp_path):
    file = write(tmp_path / "a.parquet", [{"prompt": user("1"), "target": assistant("ab")}] * 2)
    batch = default_collate(list(dataset(file)))
    assert batch["loss_mask"].sum(dim=1).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"prompt": user("1"), "target": assistant("x" * 200)}],
            r"row 0: prompt and trace have 2\d\d tokens, more than data.max_length=128",
        ),
        ([{"prompt": user("1"), "target": []}], "no row has a trace"),
        ([{"text": "x"}], "has columns text; training needs 'prompt' and 'target', or 'messages'"),
        ([{"messages": user("1")}], "role 'user'; it must be 'assistant'"),
        ([{"messages": assistant("1")}], "row 0: 'messages' must be a prompt and one assistant message"),
    ],
)
def test_wrong_files_are_named(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        list(dataset(write(tmp_path / "wrong.parquet", rows)))
