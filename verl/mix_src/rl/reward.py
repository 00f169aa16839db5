"""The verifier in veRL's reward loop: ``reward.reward_manager`` for training and validation.

    reward:
      reward_manager: {source: importlib, name: MixRewardManager, module: {path: "pkg://verl.mix_src.rl.reward"}}
      reward_kwargs: {thought_gate: true, time_limit_s: 5.0, memory_limit_mb: 2048, workers: null}

A function in ``reward.custom_reward_function`` replaces the verifier; it is then called by veRL's own manager.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

from luffy.rewards import Grader, Reason, Verdict, kind_for
from luffy.rewards.options import WHERE, RewardOptions, WorkerLimits
from luffy.rewards.verdict import METRIC_PREFIX
from luffy.settings import build, names
from luffy.traces import THINK_CLOSE, THINK_OPEN
from luffy.training_report import GREEDY_SUFFIX
from verl import DataProto

logger = logging.getLogger(__name__)

REASON, ANSWER = "reason", "answer"
METRIC_OF_REASON = {reason: METRIC_PREFIX + reason.name.lower() for reason in Reason if reason not in (Reason.CORRECT, Reason.WRONG)}
"""Name of each indicator (0 or 1 a row) in a row's ``reward_extra_info``."""


class MixRewardManager(NaiveRewardManager):
    """veRL's manager of single rows, with the project's verifier in place of its table of scorers."""

    def __init__(self, config: DictConfig, tokenizer: Any, compute_score: Any, **others: Any) -> None:
        super().__init__(config, tokenizer, compute_score, **others)
        self._custom = config.reward.custom_reward_function.path is not None
        if self._custom:
            self.compute_score = under_own_source(self.compute_score)
        self._max_length = int(config.data.max_response_length)
        self._stripped = stripped_tokens(tokenizer)
        self._options = reward_options(config)
        shared = max(1, min(8, (os.cpu_count() or 1) // max(1, int(config.reward.num_workers))))
        limits = {name: getattr(self._options, name) for name in names(WorkerLimits)}
        self._grader = Grader(**limits | {"workers": self._options.workers or shared})

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Judge one row (the last of several outputs counts): ``reward_score`` and ``reward_extra_info`` of :func:`score_row`."""
        if self._custom:
            judged = await super().run_single(data)
            if "score" not in judged["reward_extra_info"]:  # a bare number, which veRL calls accuracy, whatever it is
                judged["reward_extra_info"] = {"score": judged["reward_score"]}
            return judged
        row = data[-1]
        response = row.batch["responses"]
        length = int(row.batch["attention_mask"][-response.shape[-1] :].sum())
        submitted = await self.loop.run_in_executor(
            None,
            self._submit,
            response[:length],
            row.non_tensor_batch["data_source"],
            row.non_tensor_batch["reward_model"]["ground_truth"],
        )
        scored = score_row(await asyncio.wrap_future(submitted), partial=self._options.partial_scores)
        return {"reward_score": scored["score"], "reward_extra_info": scored}

    def _submit(self, tokens: torch.Tensor, data_source: str, gold: object) -> Future[Verdict]:
        """Decode [T] token ids and begin to judge them; runs beside the event loop."""
        ids = tokens.tolist()
        stopped = bool(ids) and ids[-1] in self._stripped
        text = self.tokenizer.decode([each for each in ids if each not in self._stripped], skip_special_tokens=False)
        return self._grader.submit(
            text,
            gold,
            kind=kind_for(str(data_source).removesuffix(GREEDY_SUFFIX)),
            thought_gate=self._options.thought_gate,
            truncated=len(ids) >= self._max_length and not stopped,
        )


def under_own_source(function: Callable[..., Any]) -> Callable[..., Any]:
    """A user's reward function, plain or ``async``, called with the row's own ``data_source`` where a greedy row has another."""

    def call(*, data_source: Any, **others: Any) -> Any:
        return function(data_source=str(data_source).removesuffix(GREEDY_SUFFIX), **others)

    return call


def reward_options(config: DictConfig) -> RewardOptions:
    """The checked ``reward.reward_kwargs`` of a whole training config.

    Raises:
        InputError: an unknown key, or a wrong value.
    """
    node = config.reward.get("reward_kwargs")
    return build(RewardOptions, None if node is None else OmegaConf.to_container(node, resolve=True), WHERE)


def score_row(verdict: Verdict, *, partial: bool = False) -> dict[str, Any]:
    """A verdict as veRL's reward dict: ``score`` and ``acc`` (0.0 or 1.0; a partial score as ``score`` where ``partial`` says so), one indicator for each of ``METRIC_OF_REASON``, and as text,
    which veRL writes into its dumps but not into its metrics, ``reason`` and ``answer``.
    """
    score = float(verdict.correct)
    indicators = {name: float(verdict.reason is reason) for reason, name in METRIC_OF_REASON.items()}
    return {
        "score": max(score, verdict.partial) if partial else score,
        "acc": score,
        **indicators,
        REASON: str(verdict.reason),
        ANSWER: verdict.answer or "",
    }


def stripped_tokens(tokenizer: Any) -> frozenset[int]:
    """Ids of the special tokens that are no part of a response's text.

    A tokenizer may declare ``</think>`` special; decoding with ``skip_special_tokens`` would then lose it, and with it
    every reward behind the thought gate.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    thought = {tokenizer.added_tokens_encoder.get(tag) for tag in (THINK_OPEN, THINK_CLOSE)}
    return frozenset((special | set(tokenizer.all_special_ids)) - thought)
