"""Before Ray starts: the rows' lengths in tokens against every budget that must hold them.

A row that is too long is otherwise cut without a word: veRL cuts prompts on the left whatever ``data.truncation`` says, and a
demonstration loses its end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from luffy.data.atomic import replacing
from luffy.data.row_lengths import RowLengths, measure_rows
from luffy.digests import file_digest
from verl.mix_src.held_out import files_of
from verl.mix_src.resolvers import AUTO
from verl.mix_src.rollout import luffy_config
from verl.mix_src.run_files import RunFiles

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

    def problems(self) -> Iterator[str]:
        """One line with all reasons and overrides, or none."""
        if self.reasons:
            paste = " ".join(f"{key}={value}" for key, value in self.overrides.items())
            yield "; ".join(self.reasons) + (f": set {paste}" if paste else "")


def check_rl(config: DictConfig, tokenizer: Any, context: int) -> Lengths:
    """Compare prompts and traces with the budgets of reinforcement learning.

    Args:
        config: a checked training config.
        tokenizer: of the model.
        context: the longest sequence of the model, in tokens; 0 where unknown.
    """
    data, guidance = config.data, luffy_config(config).guidance
    train = [_measure(file, tokenizer, config, traces=guidance.n_demonstrations != 0) for file in files_of(data.train_files)]
    held_out = [_measure(file, tokenizer, config, traces=False) for file in files_of(data.val_files)]
    found = Lengths()
    longest = _prompts(found, config, train, held_out)
    _traces(found, config, train, guidance.max_cut_share)
    _thoughts(found, config, train)
    prompt = found.overrides.get("data.max_prompt_length", data.max_prompt_length)
    response = found.overrides.get("data.max_response_length", data.max_response_length)
    _context(found, config, longest, prompt, response, context)
    _micro_batches(found, config, min(longest, prompt) + response)
    return found


def check_sft(config: DictConfig, tokenizer: Any, context: int) -> Lengths:
    """Compare samples (prompt, trace and EOS) and held-out prompts with SFT's budgets; arguments as of :func:`check_rl`."""
    data, found = config.data, Lengths()
    measured = [_measure(file, tokenizer, config, traces=True, key="train_max_samples") for file in files_of(data.train_files)]
    samples = [length for each in measured for length in each.samples]
    if over := [length for length in samples if length > data.max_length]:
        longest = _round_up(max(over))
        found.reasons.append(
            f"{len(over)} of {len(samples)} samples{_counted(measured)} have more than data.max_length={data.max_length} tokens of "
            f"prompt, trace and EOS (longest {max(over)})"
        )
        found.overrides["data.max_length"] = longest
        if data.use_dynamic_bsz and data.max_token_len_per_gpu < longest:
            found.overrides["data.max_token_len_per_gpu"] = longest
    if context and samples and max(samples) > context:
        found.reasons.append(f"the longest sample has {max(samples)} tokens, and the model takes {context} (max_position_embeddings)")
    asked = files_of(data.val_files) or (files_of(data.train_files) if data.val_files == AUTO else [])
    prompts = [length for file in asked for length in _measure(file, tokenizer, config, traces=False).prompts]
    if context and prompts and max(prompts) + data.max_response_length > context:
        found.reasons.append(
            f"a held-out prompt of {max(prompts)} tokens and data.max_response_length={data.max_response_length} are more than the "
            f"{context} that the model takes"
        )
        if context > max(prompts):
            found.overrides["data.max_response_length"] = context - max(prompts)
    return found


def _prompts(found: Lengths, config: DictConfig, train: list[RowLengths], held_out: list[RowLengths]) -> int:
    """Compare prompts with their budget; returns the longest one, in tokens."""
    budget, longest = config.data.max_prompt_length, 0
    for what, measured in (("training", train), ("held-out", held_out)):
        prompts = [length for each in measured for length in each.prompts]
        longest = max([longest, *prompts])
        over = [length for length in prompts if length > budget]
        if not over:
            continue
        numbers = f"{len(over)} of {len(prompts)} {what} prompts{_counted(measured)} have more than data.max_prompt_length={budget} tokens"
        if not config.data.filter_overlong_prompts:
            found.reasons.append(f"{numbers} (longest {max(over)})")
            found.overrides["data.max_prompt_length"] = max(_round_up(longest), budget)
            continue
        found.notes.append(f"{numbers} (longest {max(over)}) and are left out (data.filter_overlong_prompts)")
        left = len(prompts) - len(over)
        if left < (config.data.train_batch_size if what == "training" else 1):
            found.reasons.append(f"{numbers} (longest {max(over)}), and the {left} that are left are too few")
            found.overrides["data.max_prompt_length"] = _round_up(longest)
    return longest


def _traces(found: Lengths, config: DictConfig, train: list[RowLengths], max_cut_share: float) -> None:
    budget, traces = config.data.max_response_length, [length for each in train for length in each.traces]
    if not (over := [length for length in traces if length > budget]):
        return
    numbers = (
        f"{len(over)} of {len(traces)} traces{_counted(train)} have more than data.max_response_length={budget} tokens with EOS "
        f"(longest {max(over)})"
    )
    if len(over) <= max_cut_share * len(traces):
        found.notes.append(f"{numbers} and are cut there, which off_policy/truncated_share counts")
        return
    found.reasons.append(f"{numbers}, and luffy.guidance.max_cut_share={max_cut_share} lets no more be cut")
    found.overrides["data.max_response_length"] = _round_up(max(over))


def _thoughts(found: Lengths, config: DictConfig, train: list[RowLengths]) -> None:
    """Where the verifier asks for a closed thought, a demonstration without one earns nothing."""
    key, reward = "reward.reward_kwargs.thought_gate", config.reward
    traces, without = sum(len(each.traces) for each in train), sum(each.without_thought for each in train)
    if not without or not reward.reward_kwargs.thought_gate or reward.custom_reward_function.path is not None:
        return
    line = f"{without} of {traces} traces{_counted(train)} have no </think>, for which {key}=true gives reward 0"
    if without < traces:
        found.notes.append(line)
        return
    found.reasons.append(line)
    found.overrides[key] = "false"


def _context(found: Lengths, config: DictConfig, longest: int, prompt: int, response: int, context: int) -> None:
    """Compare the longest sequence with what the rollout engine and the model take."""
    key = "actor_rollout_ref.rollout.max_model_len"
    budgets = config.data.max_prompt_length + config.data.max_response_length
    given = OmegaConf.select(config, key)
    sequence = min(longest, prompt) + response
    if given is not None and given != budgets and given < sequence:
        found.reasons.append(f"{key}={given} is below the longest sequence of {sequence} tokens (prompt and data.max_response_length)")
        found.overrides[key] = prompt + response
    if not context or (prompt + response if given in (None, budgets) else given) <= context:
        return
    if sequence <= context and longest <= prompt:
        found.reasons.append(
            f"the model takes {context} tokens, fewer than data.max_prompt_length + data.max_response_length = {prompt + response}"
        )
        found.overrides["data.max_prompt_length"] = min(_round_up(longest), context - response)
    else:
        found.reasons.append(
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
        tokens = OmegaConf.select(roles, key)
        if used and tokens is not None and tokens * ranks < sequence:
            found.reasons.append(f"actor_rollout_ref.{key}={tokens} cannot hold one sequence of {sequence} tokens")
            found.overrides[f"actor_rollout_ref.{key}"] = -(-sequence // ranks)


def _measure(file: str, tokenizer: Any, config: DictConfig, *, traces: bool, key: str | None = None) -> RowLengths:
    """Count a file, or take the counts that an earlier start of the run has kept."""
    arguments = OmegaConf.to_container(config.data.get("apply_chat_template_kwargs") or OmegaConf.create({}), resolve=True)
    max_rows = config.data[key] if key else -1
    identity = json.dumps([file_digest(Path(file)), _tokenizer_digest(tokenizer), arguments, traces, max_rows])
    cache = RunFiles(Path(config.trainer.default_local_dir)).lengths
    if identity not in _COUNTED:
        kept = json.loads(cache.read_text()) if cache.exists() else {}
        if identity in kept:
            _COUNTED[identity] = RowLengths(**kept[identity])
        else:
            _COUNTED[identity] = measure_rows(file, tokenizer, with_traces=traces, template_arguments=arguments, max_rows=max_rows)
            if _COUNTED[identity].seconds > CACHE_FROM_S and not config.dry_run:
                with replacing(cache) as temporary:
                    temporary.write_text(json.dumps(kept | {identity: vars(_COUNTED[identity])}))
    return _COUNTED[identity]


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else tokenizer.name_or_path
    return hashlib.sha256(f"{text}\0{tokenizer.chat_template}".encode()).hexdigest()[:16]


def _counted(measured: list[RowLengths]) -> str:
    rows, counted = (sum(getattr(each, name) for each in measured) for name in ("rows", "counted"))
    return "" if counted == rows else f" (of {rows} rows the {counted} longest were counted)"


def _round_up(tokens: int) -> int:
    return -(-tokens // ROUND_TO) * ROUND_TO
