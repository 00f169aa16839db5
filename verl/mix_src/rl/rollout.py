"""Demonstrations inside a rollout group: veRL's single-turn agent loop, its worker and its manager, with guidance.

Each row of a group is one session of the agent loop. ``luffy.guidance`` says for a row whether it is a demonstration and
how much of the trace it gets: the whole (nothing is generated), a prefix that the policy continues, or nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import ray
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ, apply_greedy_sampling_params
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.rollout_trace import rollout_trace_attr

from luffy.config import RunConfig
from luffy.digests import request_seed, text_digest
from luffy.guidance import ALL_ROWS, Demonstration, GuidanceConfig, demonstration_for_row, prefix_length
from luffy.stages import Result, StagesConfig, kept_rounds, next_round
from luffy.traces import POLICY_SUCCESS, TARGET, TARGET_PROBS, TARGET_SOURCE, read_traces, trace_tokens
from verl.mix_src.config import luffy_config

logger = logging.getLogger(__name__)

AGENT_NAME = "mix_agent"
PLACE = "place_in_data"
GREEDY = "greedy"  # column of a validation row: one greedy answer instead of a sampled one
OFF_POLICY_MASK = "off_policy_mask"
BEHAVIOUR_PROB = "behaviour_prob"
TEACHER_PROMPT = "teacher_prompt"  # key in the extra fields of a row whose teacher sees more than the student: its tokens
DEMONSTRATION = "demonstration"  # key in the extra fields of a row with forced tokens
GIVEN = "given"  # column of what a row is forced to: a kept row's "tokens" and "log_probs", or a "share" of a trace
RIGHT = 1  # reward from which a row counts as right, as in the released code
STAGES = "stages"  # key in the extra fields of a row whose group was rolled in rounds
FAILED_REQUESTS = "failed_requests"  # key in the extra fields of every row: requests that failed before the one that did not
RETRY_AFTER_S = 0.5  # twice as long before each further one
REPLAY = "replay"  # source of a forced row that the policy itself sampled earlier
DEMONSTRATION_COLUMNS = (TARGET, TARGET_SOURCE, TARGET_PROBS, POLICY_SUCCESS, GIVEN)
BLANK_LINE = "\n\n"
PROMPT_END_TOKENS = 16  # enough to see a thought tag that the prompt has opened

Answer = TypeVar("Answer")


class PlacedDataset(RLHFDataset):
    """veRL's dataset, whose rows carry their number among the rows that are used.

    ``extra_info.index`` names a problem, which a validation file repeats and two sources may both count from 0; the
    place names a row, so that each repeat draws a sample of its own.
    """

    def __getitem__(self, item: int) -> dict[str, Any]:
        """One row, with its place (int) in the column :data:`PLACE`."""
        return {**super().__getitem__(item), PLACE: int(item)}


def place_of(row: dict[str, Any]) -> int:
    """The place of a row as the agent loop sees it; of a dataset that keeps none (``data.custom_cls``), its index."""
    return int(row[PLACE] if PLACE in row else row["index"])


class MixAgentLoopOutput(AgentLoopOutput):
    """One row of a group, with two more columns of a token each: forced or not, and the teacher's probability."""

    off_policy_mask: list[int]
    behaviour_prob: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Fields for the TransferQueue: ``off_policy_mask`` int64 [T] and ``behaviour_prob`` float32 [T]."""
        fields = super().as_dict()
        fields[OFF_POLICY_MASK] = torch.tensor(self.off_policy_mask, dtype=torch.int64)
        fields[BEHAVIOUR_PROB] = torch.tensor(self.behaviour_prob, dtype=torch.float32)
        return fields


@dataclass(frozen=True, kw_only=True)
class Forced:
    """Tokens that a row is given.

    Attributes:
        tokens: their ids.
        whole: number of the tokens of which these are the first.
        probabilities: of each under the policy that wrote it; empty where unknown.
        source: its teacher, or :data:`REPLAY`.
        ratio: share of the whole, in (0, 1].
    """

    tokens: list[int]
    whole: int
    probabilities: list[float]
    source: str
    ratio: float


@register(AGENT_NAME)
class MixAgentLoop(SingleTurnAgentLoop):
    """veRL's single-turn agent loop, in which some rows of a group are demonstrations."""

    @cached_property
    def _guidance(self) -> GuidanceConfig:
        return luffy_config(self.config).guidance

    @cached_property
    def _stages(self) -> StagesConfig:
        return luffy_config(self.config).stages

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> MixAgentLoopOutput:
        """Produce one row: ``row`` holds the dataset's columns, ``session_id`` and ``global_steps``."""
        given = row.get(GIVEN) or {}
        replays = "tokens" in given
        session = int(row["session_id"]) - replays  # among the rows beside a replayed one
        demonstration = None if session < 0 else self._demonstration(row, session, given)
        if session >= 0 and demonstration is None:
            return self._on_policy(await super().run(sampling_params, **row))
        prompt_ids = await self.ct_build_initial_tokens(list(row["raw_prompt"]))
        forced = self._kept(given) if demonstration is None else self._forced(demonstration, prompt_ids)
        if not forced.tokens:
            return self._on_policy(await super().run(sampling_params, **row))
        truncated = len(forced.tokens) > self.response_length
        tokens = forced.tokens[: self.response_length]
        if len(tokens) in (forced.whole, self.response_length):
            generated, log_probs, fields = [], [], _current_version(row)
        else:
            generated, log_probs, fields = await self._continue(prompt_ids + tokens, len(tokens), sampling_params)
        fields[DEMONSTRATION] = {"source": forced.source, "ratio": forced.ratio, "truncated": truncated}
        output = self._row(prompt_ids, tokens, generated, forced.probabilities, log_probs, fields, sampling_params)
        if not given.get("judged", True):
            output.reward_score = 0.0
        return output

    async def privileged_prompt(self, template: str, row: dict[str, Any]) -> list[int] | None:
        """Tokens of the prompt whose last message goes on with the prompt's first trace; None where it has no trace."""
        traces = read_traces(row.get(TARGET), row.get(TARGET_SOURCE), row.get(TARGET_PROBS))
        if not traces:
            return None
        *before, last = list(row["raw_prompt"])
        text = last["content"] + template.replace("{solution}", traces[0].text)
        return await self.ct_build_initial_tokens([*before, {**last, "content": text}])

    def _demonstration(self, row: dict[str, Any], session: int, given: dict[str, Any]) -> Demonstration | None:
        traces = read_traces(row.get(TARGET), row.get(TARGET_SOURCE), row.get(TARGET_PROBS))
        found = demonstration_for_row(
            replace(self._guidance, n_demonstrations=ALL_ROWS, schedule="full") if "share" in given else self._guidance,
            traces,
            row=0 if "share" in given else session,  # a hint of one trace for the whole group
            group_size=self.rollout_config.n,
            step=int(row["global_steps"]),
            prompt_key=place_of(row),
            policy_success=row.get(POLICY_SUCCESS),
        )
        if found is None or "share" not in given:
            return found
        return replace(found, ratio=given["share"]) if given["share"] > 0 else None

    def _forced(self, demonstration: Demonstration, prompt_ids: list[int]) -> Forced:
        prompt_end, snap = self.tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:]), self._stages.snap
        tokens = trace_tokens(demonstration.trace, self.tokenizer, prompt_ends_with=prompt_end)
        forced = tokens[: prefix_length(demonstration.ratio, len(tokens))]
        if snap and len(forced) < len(tokens):
            forced = self._snapped(tokens, len(forced), snap)
        return Forced(
            tokens=forced,
            whole=len(tokens),
            probabilities=list(demonstration.trace.probabilities or ()),
            source=demonstration.trace.source,
            ratio=demonstration.ratio,
        )

    def _snapped(self, tokens: list[int], length: int, snap: float) -> list[int]:
        """The first tokens, on to the first that ends a blank line, where one of the next ``snap`` of the whole does."""
        for end in range(max(1, length), min(len(tokens) - 1, length + int(snap * len(tokens))) + 1):
            if BLANK_LINE in self.tokenizer.decode(tokens[max(0, end - 2) : end]):
                return tokens[:end]
        return tokens[:length]

    @staticmethod
    def _kept(given: dict[str, Any]) -> Forced:
        tokens, probabilities = given["tokens"].tolist(), np.exp(given["log_probs"].astype(np.float64))
        smallest = np.finfo(np.float32).tiny  # a probability of 0 has no logarithm
        return Forced(tokens=tokens, whole=len(tokens), probabilities=probabilities.clip(smallest).tolist(), source=REPLAY, ratio=1.0)

    async def _continue(
        self, context: list[int], used: int, sampling_params: dict[str, Any]
    ) -> tuple[list[int], list[float], dict[str, Any]]:
        params = {**sampling_params, "max_tokens": self.response_length - used}
        request_id = text_digest(repr((context, params)))
        output = await self.server_manager.generate(request_id=request_id, prompt_ids=context, sampling_params=params)
        return list(output.token_ids), list(output.log_probs or []), dict(output.extra_fields)

    @staticmethod
    def _on_policy(output: AgentLoopOutput) -> MixAgentLoopOutput:
        length = len(output.response_ids)
        fields = {name: getattr(output, name) for name in output.model_fields_set}
        return MixAgentLoopOutput(**fields, off_policy_mask=[0] * length, behaviour_prob=[1.0] * length)

    @staticmethod
    def _row(
        prompt_ids: list[int],
        forced: list[int],
        generated: list[int],
        probabilities: list[float],
        log_probs: list[float],
        fields: dict[str, Any],
        sampling_params: dict[str, Any],
    ) -> MixAgentLoopOutput:
        length = len(forced) + len(generated)
        known = probabilities[: len(forced)]
        return MixAgentLoopOutput(
            prompt_ids=prompt_ids,
            response_ids=forced + generated,
            response_mask=[1] * length,
            # Forced tokens have no sampler; the trainer replaces the zeros by the old policy's log-probabilities.
            response_logprobs=[0.0] * len(forced) + log_probs if sampling_params.get("logprobs") else None,
            num_turns=2,
            metrics={},
            extra_fields={"turn_scores": [], "tool_rewards": [], **fields},
            off_policy_mask=[1] * len(forced) + [0] * len(generated),
            behaviour_prob=known + [1.0] * (length - len(known)),
        )


def _written(output: MixAgentLoopOutput) -> int:
    """Tokens of a row that the policy wrote."""
    return len(output.off_policy_mask) - sum(output.off_policy_mask)


def _current_version(row: dict[str, Any]) -> dict[str, int]:
    """veRL's staleness control needs the version of the weights that wrote a row: for a trace, the current one."""
    version = int(row["global_steps"]) - 1
    return {"global_steps": version, "min_global_steps": version, "max_global_steps": version}


async def retried(request: Callable[[], Awaitable[Answer]], retries: int) -> tuple[Answer, int]:
    """Make a request until it succeeds, ``retries`` times again at most; its result, and how often it failed.

    A mistake in what is asked (``ValueError``, ``TypeError``) is not asked again. One that failed keeps its seed, so it gives what it
    would have given.
    """
    for failures in range(retries):
        try:
            return await request(), failures
        except (RuntimeError, OSError, TimeoutError, ray.exceptions.RayError) as error:
            logger.warning("a row's request failed, and is made again: %s: %s", type(error).__name__, str(error)[-300:])
            await asyncio.sleep(RETRY_AFTER_S * 2**failures)
    return await request(), retries


class MixAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """veRL's agent loop worker: seeds each request, keeps demonstrations out of validation and out of the queue."""

    @cached_property
    def _run(self) -> RunConfig:
        return luffy_config(self.config).run

    @cached_property
    def _privileged(self) -> str | None:
        return luffy_config(self.config).teacher.privileged

    @cached_property
    def _retries(self) -> int:
        return luffy_config(self.config).safety.row_retries

    @cached_property
    def _mix_agent_loop(self) -> MixAgentLoop:
        """One loop for all rows: it keeps nothing of a row, and Hydra takes milliseconds to make one."""
        return MixAgentLoop(
            trainer_config=DictConfigWrap(self.config),
            server_manager=self.llm_client,
            tokenizer=self.tokenizer,
            processor=self.processor,
            dataset_cls=self.dataset_cls,
            data_config=DictConfigWrap(self.config.data),
            hf_model_type=self.hf_model_type,
        )

    @cached_property
    def _stages(self) -> StagesConfig:
        return luffy_config(self.config).stages

    @cached_property
    def _rolled(self) -> dict[str, asyncio.Task[list[MixAgentLoopOutput]]]:
        """Groups that are rolled in rounds, by name: each of a group's sessions waits for all of it, and fails with it."""
        return {}

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        if self._stages.mode == "none" or trajectory["validate"] or prompt.get(GIVEN):
            return await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        name = prompt["uid"]
        self._rolled[name] = asyncio.create_task(self._roll(prompt, sampling_params, trajectory))
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            del self._rolled[name]

    async def _roll(self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any]) -> list[MixAgentLoopOutput]:
        """A group's rows, judged: rounds of :mod:`luffy.stages`, each as long as its longest row."""
        n = self.config.actor_rollout_ref.rollout.n
        has_trace = bool(read_traces(prompt.get(TARGET)))
        results: list[Result] = []
        rounds: list[dict[int, MixAgentLoopOutput]] = []
        while (turn := next_round(self._stages, n, results, has_trace=has_trace)) is not None:
            row = {**prompt, GIVEN: {"share": turn.share}}
            made = await asyncio.gather(
                *(self._judged(row, session, len(results), sampling_params, trajectory) for session in turn.rows)
            )  # fmt: skip
            rounds.append(dict(zip(turn.rows, made, strict=True)))
            results.append(Result(round=turn, correct=sum(output.reward_score >= RIGHT for output in made)))
        rows = [rounds[place][session] for session, place in enumerate(kept_rounds(self._stages, n, results))]
        written = sum(_written(output) for made in rounds for output in made.values())
        facts = {"rounds": len(results), "rolled": sum(map(len, rounds)), "dropped_tokens": written - sum(map(_written, rows))}
        for output in rows:
            output.extra_fields[STAGES] = facts
        return rows

    async def _judged(
        self, row: dict[str, Any], session: int, turn: int, sampling_params: dict[str, Any], trajectory: dict[str, Any]
    ) -> MixAgentLoopOutput:
        """One row of a round, with the verifier's reward."""
        params = self._seeded(sampling_params, trajectory, row, session + turn * self.config.actor_rollout_ref.rollout.n)
        output, failures = await retried(partial(self._mix_agent_loop.run, params, **row, session_id=session), self._retries)
        output.extra_fields[FAILED_REQUESTS] = failures
        columns = {name: value for name, value in row.items() if name not in DEMONSTRATION_COLUMNS}
        await self._compute_score([output], kwargs=columns | {"session_id": session})
        if output.reward_score is None:
            raise RuntimeError("luffy.stages needs a verdict as soon as a row is sampled, and the reward model gives it later")
        return output

    def _seeded(self, sampling_params: dict[str, Any], trajectory: dict[str, Any], row: dict[str, Any], session: int) -> dict[str, Any]:
        """The parameters of one request, with a seed of its own where the config says so."""
        params = dict(sampling_params)
        if self._run.seeded_sampling:
            place = trajectory["validate"], trajectory["step"], place_of(row), session
            params["seed"] = request_seed(self._run.seed, *place)
            if params["temperature"] == 0:  # a row without a generator makes vLLM's CPU sampler leave out the seeds of all
                params.update(temperature=1.0, top_k=1)
        return params

    async def _run_agent_loop(
        self,
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        *,
        agent_name: str,
        trace: bool = True,
        **row: Any,
    ) -> None:
        params = dict(sampling_params)
        if trajectory["validate"]:
            for column in DEMONSTRATION_COLUMNS:
                row.pop(column, None)
            if row.get(GREEDY):
                apply_greedy_sampling_params(params)
        session = row["session_id"]
        params = self._seeded(params, trajectory, row, -1 - session if row.get(GIVEN) else session)  # one may be replayed and fresh at once
        if agent_name != AGENT_NAME:
            return await super()._run_agent_loop(params, trajectory, agent_name=agent_name, trace=trace, **row)
        with rollout_trace_attr(**trajectory, name="agent_loop", trace=trace):
            rolled = self._rolled.get(row["uid"]) if "uid" in row else None
            if rolled is None:
                output, failures = await retried(partial(self._mix_agent_loop.run, params, **row), self._retries)
                output.extra_fields[FAILED_REQUESTS] = failures
            else:
                output = (await rolled)[session]
            if self._privileged and not trajectory["validate"]:
                output.extra_fields[TEACHER_PROMPT] = await self._mix_agent_loop.privileged_prompt(self._privileged, row)
            await self._agent_loop_postprocess(output, trajectory["validate"], **row)

    async def _agent_loop_postprocess(self, output: AgentLoopOutput, validate: bool, **row: Any) -> None:
        for column in DEMONSTRATION_COLUMNS:
            row.pop(column, None)
        await super()._agent_loop_postprocess(output, validate, **row)


class MixAgentLoopManager(AgentLoopManagerTQ):
    """veRL's agent loop manager with :class:`MixAgentLoopWorker`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(MixAgentLoopWorker)
