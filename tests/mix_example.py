"""A step's rows as LUFFY's trainer hands them to veRL's actor: rollouts, whole and partial demonstrations, padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sft_example import write_example
from tensordict import TensorDict
from transformers import Qwen2ForCausalLM
from verl.trainer.ppo.padding_utils import construct_minimal_padding_template
from verl.utils import tensordict_utils as tu

Row = dict[str, torch.Tensor]
ROWS = 12
FORCED_SHARE = (1.0, 0.0, 0.5, 0.0)  # whole demonstration, rollout, partial demonstration, rollout; and over again
WITHHELD = 4  # a whole demonstration that guidance on demand took out: no token of it counts


def write_mix_example(folder: Path) -> tuple[Path, list[Row]]:
    """Write a model of uneven distributions; returns its folder, and rows from the longest response to the shortest."""
    example = write_example(folder, initializer_range=0.3)
    model = Qwen2ForCausalLM.from_pretrained(example.model)
    generator = torch.Generator().manual_seed(0)
    tokens = sorted(example.rows[:ROWS], key=lambda row: -len(row[1]))
    rows = [make_row(*pair, FORCED_SHARE[i % len(FORCED_SHARE)], generator) for i, pair in enumerate(tokens)]
    for row in rows:
        with torch.no_grad():
            sampler = log_probabilities(model, row).gather(1, row["responses"].unsqueeze(1)).squeeze(1)
        row["old_log_probs"] += sampler
    rows[WITHHELD]["response_mask"] = rows[WITHHELD]["loss_mask"] = torch.zeros_like(rows[WITHHELD]["response_mask"])
    return example.model, rows


def make_row(prompt: list[int], response: list[int], forced_share: float, generator: torch.Generator) -> Row:
    """One row, whose first tokens are forced; its ``old_log_probs`` are noise around 0."""
    length = len(response)
    forced = torch.arange(length) < int(forced_share * length)
    known = torch.arange(length) % 2 == 0  # the teacher's probabilities are known on every other token
    teacher = torch.where(forced & known, 0.2 + 0.8 * torch.rand(length, generator=generator), 1.0)
    return {
        "prompts": torch.tensor(prompt),
        "responses": torch.tensor(response),
        "input_ids": torch.tensor(prompt + response),
        "position_ids": torch.arange(len(prompt) + length),
        "response_mask": torch.ones(length, dtype=torch.int64),
        "loss_mask": torch.ones(length, dtype=torch.int64),
        "old_log_probs": 0.3 * torch.randn(length, generator=generator),
        "advantages": torch.randn(length, generator=generator),
        "off_policy_mask": forced.long(),
        "behaviour_prob": teacher,
        "row_correct": torch.full((length,), length % 2),
        "rollout_is_weights": 0.5 + torch.rand(length, generator=generator),
    }


def log_probabilities(model: Qwen2ForCausalLM, row: Row) -> torch.Tensor:
    """[T, vocabulary]: the model's log-probabilities at each response token, the row alone and without padding."""
    logits = model(input_ids=row["input_ids"].unsqueeze(0)).logits[0, :-1]
    return torch.log_softmax(logits[-len(row["responses"]) :], dim=-1)


def with_padding(rows: list[Row], number: int) -> list[Row]:
    """The rows and veRL's own padding rows, in which per-token columns that veRL does not know stay the first row's."""
    padding, _ = construct_minimal_padding_template(rows[0], {}, eos_token_id=2)
    padding |= {name: torch.full((1,), 7.0) for name in ("old_log_probs", "advantages", "rollout_is_weights")}
    return [*rows, *[{name: padding[name] for name in rows[0]} for _ in range(number)]]


def to_batch(rows: list[Row], columns: tuple[str, ...] = (), **facts: Any) -> TensorDict:
    """The rows in veRL's ragged format (``rollout_is_weights`` only if ``columns`` names it), and the batch's facts."""
    names = [name for name in rows[0] if name != "rollout_is_weights" or name in columns]
    ragged = {name: torch.nested.as_nested_tensor([row[name] for row in rows], layout=torch.jagged) for name in names}
    return tu.get_tensordict(ragged, non_tensor_dict=facts)
