"""Sizes of a dense decoder: from its ``config.json``, or of the models that the paper and its neighbours train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from luffy.errors import InputError

BIASED = ("qwen2",)  # model types whose query, key and value projections have biases without saying so
NORMED = ("qwen3",)  # model types that norm each head's queries and keys
KNOWN = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A dense decoder: its sizes, as ``config.json`` says them.

    Attributes:
        biased: whether queries, keys and values have biases.
        biased_output: whether the attention's output has one.
        normed: whether each head's queries and keys are normed.
        tied: whether input and output embeddings are one matrix.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool
    biased: bool = False
    biased_output: bool = False
    normed: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Shape:
        """Of a model's ``config.json``.

        Raises:
            InputError: where it is not a dense decoder of a known form.
        """
        config = config.get("text_config", config)
        kind, heads = config.get("model_type"), int(config.get("num_attention_heads") or 0)
        if kind not in KNOWN or not heads:
            raise InputError(f"the plan knows dense models of the types {', '.join(KNOWN)}, and this one is {kind!r}")
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            biased=kind in BIASED or bool(config.get("attention_bias")),
            biased_output=bool(config.get("attention_bias")),
            normed=kind in NORMED,
        )

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_size

    @property
    def key(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_size

    @property
    def matrices(self) -> int:
        """Weights of one layer's matrices: each costs a multiplication and an addition a token."""
        return self.hidden * (2 * self.query + 2 * self.key + 3 * self.intermediate)

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        biases = self.biased * (self.query + 2 * self.key) + self.biased_output * self.hidden
        return self.matrices + biases + 2 * self.hidden + self.normed * 2 * self.head_size

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, and of the output's where it is another."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them; Qwen2.5-7B: 7 615 616 512."""
        return self.layers * self.layer + (1 if self.tied else 2) * self.embedding + self.hidden

    @property
    def key_values(self) -> int:
        """Numbers that a token leaves in the key-value cache; Qwen2.5-7B: 2 x 28 x 4 x 128 = 28 672, so 57 344 bytes in bf16."""
        return 2 * self.layers * self.key


def _qwen2(layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int, tied: bool = False) -> Shape:
    size = hidden // heads
    return Shape(layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, head_size=size, intermediate=intermediate,
                 vocabulary=vocabulary, tied=tied, biased=True)  # fmt: skip


SHAPES = {  # by the beginning of the name of a model or its folder; from their config.json on the Hugging Face Hub
    "Qwen2.5-Math-1.5B": _qwen2(28, 1536, 12, 2, 8960, 151936, tied=True),
    "Qwen2.5-1.5B": _qwen2(28, 1536, 12, 2, 8960, 151936, tied=True),
    "Qwen2.5-Math-7B": _qwen2(28, 3584, 28, 4, 18944, 152064),
    "Qwen2.5-7B": _qwen2(28, 3584, 28, 4, 18944, 152064),
    "Qwen2.5-32B": _qwen2(64, 5120, 40, 8, 27648, 152064),
    "Llama-3.1-8B": replace(_qwen2(32, 4096, 32, 8, 14336, 128256), biased=False),
}


def named_shape(name: str) -> Shape | None:
    """The built-in shape of a model or folder, such as ``models/Qwen2.5-Math-7B-16k``; None where there is none."""
    base = name.rstrip("/").rpartition("/")[2]
    return next((shape for known, shape in SHAPES.items() if base.startswith(known)), None)
