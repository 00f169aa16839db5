"""A small model with rows of very different lengths, as files of an SFT run."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from miniature.tokenizer import build_tokenizer

ROWS, BATCH, STEPS = 24, 8, 3  # one epoch
SGD = ["optim.optimizer=SGD", "optim.lr=0.5", "optim.weight_decay=0.0", "optim.clip_grad=1.0e9"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A small untrained model, and rows as (prompt tokens, learnt tokens)."""

    folder: Path
    data: Path
    model: Path
    rows: list[tuple[list[int], list[int]]]


def write_example(folder: Path, initializer_range: float = 0.02) -> Example:
    """Write model and data into ``folder``; a wide ``initializer_range`` makes the model's distributions uneven."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, dtype="float32",
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        initializer_range=initializer_range,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    rng = random.Random(0)
    table, rows = [], []
    for _ in range(ROWS):
        question = "".join(rng.choices("0123456789", k=rng.randrange(1, 12)))
        trace = "".join(rng.choices("0123456789+=,", k=rng.choice([1, 3, 8, 20, 60])))
        table.append({"prompt": [{"role": "user", "content": question}], "target": [{"role": "assistant", "content": trace}]})
        prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        rows.append((tokenizer.encode(prompt), tokenizer.encode(trace + "<|im_end|>")))
    pq.write_table(pa.Table.from_pylist(table), folder / "train.parquet")
    return Example(folder=folder, data=folder / "train.parquet", model=folder / "model", rows=rows)


def overrides(example: Example, output: Path, extra: list[str]) -> list[str]:
    """Hydra overrides of a run on the example."""
    return [
        f"data.train_files={example.data}",
        f"model.path={example.model}",
        f"trainer.default_local_dir={output}",
        f"data.train_batch_size={BATCH}",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=-1",
        "trainer.logger=[console]",
        "checkpoint.save_contents=[model,optimizer,extra]",
        *extra,
    ]
