"""The rows' lengths in tokens against every budget that must hold them.

A row that is too long is otherwise cut without a word: veRL cuts prompts on the left whatever ``data.truncation`` says, and a
demonstration loses its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from luffy.data.lengths import RowLengths, measure_rows
from luffy.digests import file_digest, text_digest
from luffy.files import replacing
from verl.mix_src.config import AUTO, luffy_config
from verl.mix_src.run.data import files_of
from verl.mix_src.run.folder import RunFiles

ROUND_TO = 16  # budgets that are proposed are multiples of this
CACHE_FROM_S = 5.0
_COUNTED: dict[str, RowLengths] = {}  # in this process


@dataclass(kw_only=True)
class Lengths:
    """What the lengths mean for a run.

    Attributes:
        reasons: what is too long, with the numbers.
        overrides: by key, what would hold everything; to paste.
        notes: what is left out or cut as the config says, with the numbers.
    """

    reasons: list[str] = field(default_factory=list)
    overrides: dict[str, int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def refuse(self, reason: str, key: str | None = None, value: int | str = 0) -> None:
        """Add a reason, and the override that mends it."""
        self.reasons.append(reason)
        if key:
            self.overrides[key] = value

    def problems(self) -> Iterator[str]:
        """One line with all reasons and overrides, or none."""
        if self.reasons:
            paste = " ".join(f"{key}={value}" for key, value in self.overrides.items())
            yield "; ".join(self.reasons) + (f": set {paste}" if paste else "")


def check_rl(config: DictConfig, tokenizer: Any, context: int) -> Lengths:
    """Prompts and traces against the budgets of reinforcement learning; ``context``: longest sequence of the model, 0 where unknown."""
    data, luffy, found = config.data, luffy_config(config), Lengths()
    train = [_measure(file, tokenizer, config, traces=luffy.reads_traces) for file in files_of(data.train_files)]
    held_out = [_measure(file, tokenizer, config, traces=False) for file in files_of(data.val_files)]
    longest = _prompts(found, config, train, held_out)
    _traces(found, config, train, luffy.guidance.max_cut_share)
    _thoughts(found, config, train)
    prompt = found.overrides.get("data.max_prompt_length", data.max_prompt_length)
    response = found.overrides.get("data.max_response_length", data.max_response_length)
    _context(found, config, longest, prompt, response, context)
    _micro_batches(found, config, min(longest, prompt) + response)
    return found


def check_sft(config: DictConfig, tokenizer: Any, context: int) -> Lengths:
    """Samples (prompt, trace and EOS) and held-out prompts against SFT's budgets; arguments as of :func:`check_rl`."""
    data, found = config.data, Lengths()
    measured = [_measure(file, tokenizer, config, traces=True, most=data.train_max_samples) for file in files_of(data.train_files)]
    samples = [length for each in measured for length in each.samples]
    if over := _above(samples, data.max_length):
        budget = f"data.max_length={data.max_length} tokens of prompt, trace and EOS (longest {max(over)})"
        needed = _round_up(max(over))
        found.refuse(f"{len(over)} of {len(samples)} samples{_counted(measured)} have more than {budget}", "data.max_length", needed)
        if data.use_dynamic_bsz and data.max_token_len_per_gpu < needed:
            found.overrides["data.max_token_len_per_gpu"] = needed
    if context and _above(samples, context):
        found.refuse(f"the longest sample has {max(samples)} tokens, and the model takes {context} (max_position_embeddings)")
    asked = files_of(data.val_files) or (files_of(data.train_files) if data.val_files == AUTO else [])
    prompt = max((length for file in asked for length in _measure(file, tokenizer, config, traces=False).prompts), default=0)
    if context and prompt and prompt + data.max_response_length > context:
        found.refuse(
            f"a held-out prompt of {prompt} tokens and data.max_response_length={data.max_response_length} are more than the {context} "
            "that the model takes",
            "data.max_response_length" if context > prompt else None,
            context - prompt,
        )
    return found


def _prompts(found: Lengths, config: DictConfig, train: list[RowLengths], held_out: list[RowLengths]) -> int:
    """Compare prompts with their budget; returns the longest one, in tokens."""
    key, budget, longest = "data.max_prompt_length", config.data.max_prompt_length, 0
    for what, measured, fewest in (("training", train, config.data.train_batch_size), ("held-out", held_out, 1)):
        prompts = [length for each in measured for length in each.prompts]
        longest = max([longest, *prompts])
        if not (over := _above(prompts, budget)):
            continue
        numbers = (
            f"{len(over)} of {len(prompts)} {what} prompts{_counted(measured)} have more than {key}={budget} tokens (longest {max(over)})"
        )
        left = len(prompts) - len(over)
        if not config.data.filter_overlong_prompts:
            found.refuse(numbers, key, max(_round_up(longest), budget))
            continue
        found.notes.append(f"{numbers} and are left out (data.filter_overlong_prompts)")
        if left < fewest:
            found.refuse(f"{numbers}, and the {left} that are left are too few", key, _round_up(longest))
    return longest


def _traces(found: Lengths, config: DictConfig, train: list[RowLengths], max_cut_share: float) -> None:
    key, budget, traces = "data.max_response_length", config.data.max_response_length, [length for each in train for length in each.traces]
    if not (over := _above(traces, budget)):
        return
    numbers = f"{len(over)} of {len(traces)} traces{_counted(train)} have more than {key}={budget} tokens with EOS (longest {max(over)})"
    if len(over) <= max_cut_share * len(traces):
        found.notes.append(f"{numbers} and are cut there, which off_policy/truncated_share counts")
    else:
        found.refuse(f"{numbers}, and luffy.guidance.max_cut_share={max_cut_share} lets no more be cut", key, _round_up(max(over)))


def _thoughts(found: Lengths, config: DictConfig, train: list[RowLengths]) -> None:
    """Where the verifier asks for a closed thought, a demonstration without one earns nothing."""
    key, reward = "reward.reward_kwargs.thought_gate", config.reward
    traces, without = sum(len(each.traces) for each in train), sum(each.without_thought for each in train)
    if not without or not reward.reward_kwargs.thought_gate or reward.custom_reward_function.path is not None:
        return
    line = f"{without} of {traces} traces{_counted(train)} have no </think>, for which {key}=true gives reward 0"
    if without < traces:
        found.notes.append(line)
    else:
        found.refuse(line, key, "false")


def _context(found: Lengths, config: DictConfig, longest: int, prompt: int, response: int, context: int) -> None:
    """Compare the longest sequence with what the rollout engine and the model take."""
    key = "actor_rollout_ref.rollout.max_model_len"
    budgets = config.data.max_prompt_length + config.data.max_response_length
    given, sequence = OmegaConf.select(config, key), min(longest, prompt) + response
    if given is not None and given != budgets and given < sequence:
        line = f"{key}={given} is below the longest sequence of {sequence} tokens (prompt and data.max_response_length)"
        found.refuse(line, key, prompt + response)
    if not context or (prompt + response if given in (None, budgets) else given) <= context:
        return
    if sequence <= context and longest <= prompt:
        line = f"the model takes {context} tokens, fewer than data.max_prompt_length + data.max_response_length = {prompt + response}"
        found.refuse(line, "data.max_prompt_length", min(_round_up(longest), context - response))
    else:
        found.refuse(
            f"the model takes {context} tokens (max_position_embeddings), fewer than the {sequence} of prompt and response: take a "
            "model of longer context (data/prepare_model.py --max_positions), shorter rows, or a smaller data.max_response_length"
        )


def _micro_batches(found: Lengths, config: DictConfig, sequence: int) -> None:
    """Where micro-batches are made by tokens, each must hold the longest sequence."""
    roles = config.actor_rollout_ref
    ranks = OmegaConf.select(roles.actor, "fsdp_config.ulysses_sequence_parallel_size", default=1)
    for key, used in (
        ("actor.ppo_max_token_len_per_gpu", roles.actor.use_dynamic_bsz),
        ("rollout.log_prob_max_token_len_per_gpu", roles.rollout.log_prob_use_dynamic_bsz),
        ("ref.log_prob_max_token_len_per_gpu", roles.actor.use_kl_loss and roles.ref.log_prob_use_dynamic_bsz),
    ):
        tokens, key = OmegaConf.select(roles, key), f"actor_rollout_ref.{key}"
        if used and tokens is not None and tokens * ranks < sequence:
            found.refuse(f"{key}={tokens} cannot hold one sequence of {sequence} tokens", key, -(-sequence // ranks))


def _measure(file: str, tokenizer: Any, config: DictConfig, *, traces: bool, most: int = -1) -> RowLengths:
    """Count a file, or take the counts that an earlier start of the run has kept."""
    arguments = OmegaConf.to_container(config.data.get("apply_chat_template_kwargs") or OmegaConf.create({}), resolve=True)
    identity = json.dumps([file_digest(Path(file)), _tokenizer_digest(tokenizer), arguments, traces, most])
    if identity not in _COUNTED:
        cache = RunFiles.of(config).lengths
        kept = json.loads(cache.read_text()) if cache.exists() else {}
        if identity in kept:
            _COUNTED[identity] = RowLengths(**kept[identity])
        else:
            _COUNTED[identity] = measure_rows(file, tokenizer, with_traces=traces, template_arguments=arguments, max_rows=most)
            if _COUNTED[identity].seconds > CACHE_FROM_S and not config.dry_run:
                with replacing(cache) as temporary:
                    temporary.write_text(json.dumps(kept | {identity: vars(_COUNTED[identity])}))
    return _COUNTED[identity]


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else tokenizer.name_or_path
    return text_digest(f"{text}\0{tokenizer.chat_template}")


def _above(lengths: list[int], budget: int) -> list[int]:
    return [length for length in lengths if length > budget]


def _counted(measured: list[RowLengths]) -> str:
    rows, counted = (sum(getattr(each, name) for each in measured) for name in ("rows", "counted"))
    return "" if counted == rows else f" (of {rows} rows the {counted} longest were counted)"


def _round_up(tokens: int) -> int:
    return -(-tokens // ROUND_TO) * ROUND_TO
