"""The embedded base model: it writes the task format fluently and adds rightly, but carries mostly noise.

It is trained on responses whose left operands are right too rarely to solve a problem by chance, so reinforcement
learning alone finds no reward, while the weak skill is there for a demonstration to amplify. What comes out is checked: fluent, and without
success."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from luffy.progress import Bar
from miniature.recipe import BaseRecipe, CarryNoise
from miniature.task import DIGITS, draw_problems, is_fluent, question, response_length, totals, verify, write_response
from miniature.tokenizer import MAX_LENGTH, build_tokenizer, prompt_ids


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


PROBLEMS = 256
LOSS_MARGIN = 0.02
MIN_FLUENT = 0.8
MAX_SOLVED = 0.02


class UnfitBaseError(RuntimeError):
    """A base model that did not turn out as its recipe promises."""


@dataclass(frozen=True, kw_only=True)
class BaseCheck:
    """What a base model does on fresh problems.

    Attributes:
        loss: nats a response token on noisy responses like those it imitates.
        fluent: share of sampled responses that are right but for the left operands of their links.
        greedy_solved: share of problems solved by greedy decoding.
        sampled_solved: share of problems solved by a sample at temperature 1.
    """

    loss: float
    fluent: float
    greedy_solved: float
    sampled_solved: float

    def require_fit(self, noise: CarryNoise) -> None:
        """Check that the base is fluent, and solves no more than its noise allows by chance.

        Args:
            noise: of the responses that it imitates.

        Raises:
            UnfitBaseError: where it does not. A base that cannot write the format leaves every method at zero.
        """
        max_loss = noise.entropy() + LOSS_MARGIN
        max_solved = max(MAX_SOLVED, 2 * noise.solved_share())
        if self.loss > max_loss or self.fluent < MIN_FLUENT:
            raise UnfitBaseError(
                f"the tiny base model is under-trained: loss {self.loss:.3f} (at most {max_loss:.3f}), "
                f"fluent {self.fluent:.2f} (at least {MIN_FLUENT}); train it for more steps"
            )
        # With right links as frequent as the constant, greedy decoding may solve everything, as it is meant to.
        greedy_is_wrong = noise.right < noise.zero
        if self.sampled_solved > max_solved or (greedy_is_wrong and self.greedy_solved > max_solved):
            raise UnfitBaseError(
                f"the tiny base model already solves problems: greedy {self.greedy_solved:.3f}, sampled "
                f"{self.sampled_solved:.3f} (at most {max_solved:.3f}); lower the share of right links"
            )


def check_base(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, noise: CarryNoise, seed: int) -> BaseCheck:
    """Let a base model solve fresh problems.

    Args:
        model: the base.
        tokenizer: its tokenizer.
        noise: of the responses that it imitates.
        seed: of the problems and the samples.
    """
    rows = draw_problems(PROBLEMS, random.Random(seed))
    fresh = NoisyResponses(tokenizer, noise, seed)
    with torch.no_grad():
        loss = response_loss(model, fresh.batch(PROBLEMS), fresh.response_tokens).item()
    greedy = respond(model, tokenizer, rows)
    sampled = respond(model, tokenizer, rows, sample_seed=seed)
    return BaseCheck(
        loss=loss,
        fluent=_share(is_fluent(response, row) for row, response in zip(rows, sampled, strict=True)),
        greedy_solved=_share(verify(response, totals(row)) for row, response in zip(rows, greedy, strict=True)),
        sampled_solved=_share(verify(response, totals(row)) for row, response in zip(rows, sampled, strict=True)),
    )


@torch.no_grad()
def respond(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, rows: list[str], *, sample_seed: int | None = None) -> list[str]:
    """Responses of a model to rows of digits, all of one length.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        rows: the rows of digits.
        sample_seed: seed of samples at temperature 1; None decodes greedily.
    """
    prompts = torch.tensor([prompt_ids(tokenizer, question(row)) for row in rows])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sample_seed or 0)
        output = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=response_length(len(rows[0])) + 8,
            **({"do_sample": False} if sample_seed is None else {"do_sample": True, "top_k": 0}),
        )
    return tokenizer.batch_decode(output[:, prompts.shape[1] :], skip_special_tokens=True)


def _share(outcomes: Iterable[bool]) -> float:
    counted = list(outcomes)
    return sum(counted) / len(counted)


logger = logging.getLogger(__name__)

THREADS = 1  # Fixed, as the weights depend on it. Two are 1.5 times faster on idle cores, 15 times slower on busy ones.


def save_base(folder: Path, recipe: BaseRecipe, seed: int, *, show_progress: bool = True) -> None:
    """Make a base model and save it with its tokenizer, if it is fit.

    Args:
        folder: an existing folder.
        recipe: how to train it.
        seed: of its weights and its training.
        show_progress: draw a progress bar on stderr.

    Raises:
        miniature.base.UnfitBaseError: where it is under-trained, or solves problems by itself.
    """
    tokenizer = build_tokenizer()
    with _threads(THREADS):
        model = new_model(tokenizer, seed)
        source = NoisyResponses(tokenizer, recipe.noise, seed)
        train_base(model, source, recipe, show_progress=show_progress)
        report = check_base(model, tokenizer, recipe.noise, seed + 1)
    logger.info(
        "base model: loss %.3f, fluent %.2f, solved %.3f greedily and %.3f sampled",
        report.loss, report.fluent, report.greedy_solved, report.sampled_solved,
    )  # fmt: skip
    report.require_fit(recipe.noise)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
