"""Is an embedded base model fit for its purpose: fluent, and without success?"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from luffy.tiny.base_model import NoisyResponses, response_loss
from luffy.tiny.noise import CarryNoise
from luffy.tiny.task import draw_problems, is_fluent, question, response_length, totals, verify
from luffy.tiny.tokenizer import prompt_ids

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
