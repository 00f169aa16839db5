"""Demonstrations inside a rollout group: veRL's single-turn agent loop, its worker and its manager, with guidance.

Each row of a group is one session of the agent loop. ``luffy.guidance`` says for a row whether it is a demonstration and
how much of the trace it gets: the whole (nothing is generated), a prefix that the policy continues, or nothing.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import ray
import torch
from omegaconf import DictConfig, OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ, apply_greedy_sampling_params
from verl.utils.rollout_trace import rollout_trace_attr

from luffy.config import LuffyConfig
from luffy.guidance import Demonstration, demonstration_for_row, prefix_length
from luffy.guidance_config import GuidanceConfig
from luffy.run_config import RunConfig
from luffy.traces import TARGET, TARGET_PROBS, TARGET_SOURCE, read_traces, trace_tokens
from verl.mix_src.dataset import place_of

AGENT_NAME = "mix_agent"
GREEDY = "greedy"  # column of a validation row: one greedy answer instead of a sampled one
OFF_POLICY_MASK = "off_policy_mask"
BEHAVIOUR_PROB = "behaviour_prob"
DEMONSTRATION = "demonstration"  # key in the extra fields of a row with forced tokens
DEMONSTRATION_COLUMNS = (TARGET, TARGET_SOURCE, TARGET_PROBS)
PROMPT_END_TOKENS = 16  # enough to see a thought tag that the prompt has opened


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


def luffy_config(config: DictConfig) -> LuffyConfig:
    """The validated ``luffy:`` node of a whole training config."""
    return LuffyConfig.from_mapping(OmegaConf.to_container(config.luffy, resolve=True))


@register(AGENT_NAME)
class MixAgentLoop(SingleTurnAgentLoop):
    """veRL's single-turn agent loop, in which some rows of a group are demonstrations."""

    @cached_property
    def _guidance(self) -> GuidanceConfig:
        return luffy_config(self.config).guidance

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> MixAgentLoopOutput:
        """Produce one row: ``row`` holds the dataset's columns, ``session_id`` and ``global_steps``."""
        demonstration = self._demonstration(row)
        if demonstration is None:
            return self._on_policy(await super().run(sampling_params, **row))
        prompt_ids = await self.ct_build_initial_tokens(list(row["raw_prompt"]))
        prompt_end = self.tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:])
        tokens = trace_tokens(demonstration.trace, self.tokenizer, prompt_ends_with=prompt_end)
        forced = tokens[: prefix_length(demonstration.ratio, len(tokens))]
        if not forced:
            return self._on_policy(await super().run(sampling_params, **row))
        truncated = len(forced) > self.response_length
        forced = forced[: self.response_length]
        if len(forced) in (len(tokens), self.response_length):
            generated, log_probs, fields = [], [], _current_version(row)
        else:
            generated, log_probs, fields = await self._continue(prompt_ids + forced, len(forced), sampling_params)
        fields[DEMONSTRATION] = {
            "source": demonstration.trace.source,
            "ratio": demonstration.ratio,
            "truncated": truncated,
        }
        return self._row(prompt_ids, forced, generated, demonstration, log_probs, fields, sampling_params)

    def _demonstration(self, row: dict[str, Any]) -> Demonstration | None:
        traces = read_traces(row.get(TARGET), row.get(TARGET_SOURCE), row.get(TARGET_PROBS))
        return demonstration_for_row(
            self._guidance,
            traces,
            row=int(row["session_id"]),
            group_size=self.rollout_config.n,
            step=int(row["global_steps"]),
            prompt_key=place_of(row),
        )

    async def _continue(
        self, context: list[int], used: int, sampling_params: dict[str, Any]
    ) -> tuple[list[int], list[float], dict[str, Any]]:
        params = {**sampling_params, "max_tokens": self.response_length - used}
        request_id = hashlib.sha256(repr((context, params)).encode()).hexdigest()
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
        demonstration: Demonstration,
        log_probs: list[float],
        fields: dict[str, Any],
        sampling_params: dict[str, Any],
    ) -> MixAgentLoopOutput:
        length = len(forced) + len(generated)
        known = list(demonstration.trace.probabilities or ())[: len(forced)]
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


def _current_version(row: dict[str, Any]) -> dict[str, int]:
    """veRL's staleness control needs the version of the weights that wrote a row: for a trace, the current one."""
    version = int(row["global_steps"]) - 1
    return {"global_steps": version, "min_global_steps": version, "max_global_steps": version}


class MixAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """veRL's agent loop worker: seeds each request, keeps demonstrations out of validation and out of the queue."""

    @cached_property
    def _run(self) -> RunConfig:
        return luffy_config(self.config).run

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
        if self._run.seeded_sampling:
            place = trajectory["validate"], trajectory["step"], place_of(row), row["session_id"]
            params["seed"] = request_seed(self._run.seed, *place)
            if params["temperature"] == 0:  # a row without a generator makes vLLM's CPU sampler leave out the seeds of all
                params.update(temperature=1.0, top_k=1)
        if agent_name != AGENT_NAME:
            return await super()._run_agent_loop(params, trajectory, agent_name=agent_name, trace=trace, **row)
        with rollout_trace_attr(**trajectory, name="agent_loop", trace=trace):
            output = await self._mix_agent_loop.run(params, **row)
            await self._agent_loop_postprocess(output, trajectory["validate"], **row)

    async def _agent_loop_postprocess(self, output: AgentLoopOutput, validate: bool, **row: Any) -> None:
        for column in DEMONSTRATION_COLUMNS:
            row.pop(column, None)
        await super()._agent_loop_postprocess(output, validate, **row)


def request_seed(seed: int, *place: int) -> int:
    """A 31-bit seed for one request, from the run's seed and the request's place (split, step, row of the data, session).

    With a seed of its own a request draws the same tokens whatever else is in the engine's batch, and whichever worker
    asks.
    """
    digest = hashlib.sha256(repr((seed, *(int(part) for part in place))).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class MixAgentLoopManager(AgentLoopManagerTQ):
    """veRL's agent loop manager with :class:`MixAgentLoopWorker`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(MixAgentLoopWorker)
