"""The embedded base model: it writes the task's format fluently and adds rightly, but carries mostly noise.

It is trained on responses whose left operands are right too rarely to solve a problem by chance, so reinforcement
learning alone finds no reward, while the weak skill is there for a demonstration to amplify.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from luffy.progress import Bar
from luffy.tiny.noise import CarryNoise
from luffy.tiny.recipe import BaseRecipe
from luffy.tiny.task import DIGITS, question, response_length, write_response
from luffy.tiny.tokenizer import MAX_LENGTH, prompt_ids


def new_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2ForCausalLM:
    """An untrained model of about 0.18M parameters, in float32."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=2,  # heads of 32 numbers: the smallest that vLLM's CPU attention knows
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.06,  # Half of 1 / sqrt(64): with the default of 0.02, training takes twice as many steps.
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


class NoisyResponses:
    """An endless source of token rows to imitate, all of one length.

    Args:
        tokenizer: of the model.
        noise: how links are carried.
        seed: of questions, separators and noise.
        digits: length of the questions.
    """

    def __init__(self, tokenizer: Qwen2Tokenizer, noise: CarryNoise, seed: int, *, digits: int = DIGITS) -> None:
        self._noise = noise
        self._rng = random.Random(seed)
        self._digits = digits
        self._vocabulary = _character_ids(tokenizer)
        ids = prompt_ids(tokenizer, question("0" * digits))
        end = len(ids) - ids[::-1].index(tokenizer.eos_token_id) - 1
        self._before, self._after = ids[: end - digits - 1], ids[end:]
        self._eos = tokenizer.eos_token_id
        self.response_tokens = response_length(digits) + 1

    def batch(self, rows: int) -> torch.Tensor:
        """Rows of (prompt + response + end-of-sequence): int64, (rows, tokens)."""
        return torch.tensor([self._row() for _ in range(rows)])

    def _row(self) -> list[int]:
        rng = self._rng
        digits = f"{rng.randrange(10**self._digits):0{self._digits}d}"
        response = write_response(digits, rng, carry=lambda last: self._noise.draw(last, rng))
        return [*self._before, *self._ids(question(digits)), *self._after, *self._ids(response), self._eos]

    def _ids(self, text: str) -> list[int]:
        return self._vocabulary[np.frombuffer(text.encode("ascii"), dtype=np.uint8)].tolist()


def response_loss(model: Qwen2ForCausalLM, rows_BT: torch.Tensor, response_tokens: int) -> torch.Tensor:
    """Mean cross-entropy of the response's tokens, in nats.

    Args:
        model: the policy.
        rows_BT: token rows, all of one length, that end with the response.
        response_tokens: length of the response, with its end-of-sequence token.
    """
    logits_BRV = model(input_ids=rows_BT, use_cache=False, logits_to_keep=response_tokens + 1).logits[:, :-1]
    return cross_entropy(logits_BRV.flatten(0, 1), rows_BT[:, -response_tokens:].flatten())


def train_base(model: Qwen2ForCausalLM, source: NoisyResponses, recipe: BaseRecipe, *, show_progress: bool = True) -> list[float]:
    """Train a model in place to imitate noisy responses.

    Args:
        model: a new model.
        source: the responses.
        recipe: length and rates of the training.
        show_progress: draw a progress bar on stderr.

    Returns:
        The loss of each step, in nats a response token.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)
    losses = []
    model.train()
    with Bar(range(recipe.steps), desc="pre-training the tiny base", unit="step", disable=not show_progress) as bar:
        for _ in bar:
            loss = response_loss(model, source.batch(recipe.batch), source.response_tokens)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
    model.eval()
    return losses


def _character_ids(tokenizer: Qwen2Tokenizer) -> np.ndarray:
    ids = np.full(128, -1)
    for character in "0123456789+=,;>":
        (ids[ord(character)],) = tokenizer.encode(character, add_special_tokens=False)
    return ids
