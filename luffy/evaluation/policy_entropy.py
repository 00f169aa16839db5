"""Entropy of a policy on responses that it sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luffy.progress import Bar

TOKENS_AT_ONCE = 1024  # positions whose distributions over the vocabulary are in memory together


@dataclass(frozen=True, kw_only=True)
class Response:
    """One response.

    Attributes:
        prompt: the rendered prompt.
        text: the response's text.
        ended: whether the policy ended it with EOS, which is then a token of the response.
    """

    prompt: str
    text: str
    ended: bool


def mean_entropy(model_path: str, responses: Sequence[Response]) -> float:
    """Mean entropy of the next-token distribution over the tokens of responses.

    Args:
        model_path: the policy, a Hugging Face model folder; it runs on a GPU where there is one.
        responses: responses that were sampled from the policy at temperature 1.

    Returns:
        Nats a response token, each token counted alike.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype="auto").to(device).eval()
    total, count = 0.0, 0
    for response in Bar(responses, desc="entropy", unit="response"):
        prompt_ids = tokenizer.encode(response.prompt, add_special_tokens=False)
        response_ids = tokenizer.encode(response.text, add_special_tokens=False)
        response_ids += [tokenizer.eos_token_id] if response.ended else []
        entropy_T = _entropies(model, torch.tensor([prompt_ids + response_ids], device=device), len(response_ids))
        total, count = total + entropy_T.sum().item(), count + len(response_ids)
    return total / count


@torch.inference_mode()
def _entropies(model: torch.nn.Module, ids_1L: Tensor, response_tokens: int) -> Tensor:
    """Entropy in nats, float32 [T], of the distributions that the last ``response_tokens`` tokens were drawn from."""
    hidden_TH = model.base_model(input_ids=ids_1L, use_cache=False).last_hidden_state[0, -response_tokens - 1 : -1]
    pieces = []
    for hidden in hidden_TH.split(TOKENS_AT_ONCE):
        log_probs = torch.log_softmax(model.lm_head(hidden).float(), dim=-1)
        pieces.append(-(log_probs.exp() * log_probs).sum(dim=-1))
    return torch.cat(pieces)
