"""Rows of a group as the agent loop makes them: whole, partial, cut demonstrations, and rollouts.

The server is a stand-in that answers with fixed tokens and remembers what it was asked; whole and cut demonstrations
have no server at all. ``tests/test_training.py`` runs the loop with vLLM.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput, DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset, get_dataset_class
from verl.workers.rollout.replica import TokenOutput
from vllm.sampling_params import SamplingParams, SamplingType

from luffy.tiny.tokenizer import build_tokenizer, prompt_ids, response_ids
from verl.mix_src.dataset import PlacedDataset
from verl.mix_src.rollout import (
    AGENT_NAME,
    DEMONSTRATION,
    GREEDY,
    MixAgentLoop,
    MixAgentLoopOutput,
    MixAgentLoopWorker,
    request_seed,
)

TOKENIZER = build_tokenizer()
BUDGET = 8
TRACE = "1+2=3"  # six tokens with EOS
TOKENS = response_ids(TOKENIZER, TRACE)
PROMPT = prompt_ids(TOKENIZER, "1+2")
ANSWER = [7, 8, 9]


class Server:
    """Stands for veRL's client of vLLM."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    async def generate(self, **request: Any) -> TokenOutput:
        self.requests.append(request)
        return TokenOutput(token_ids=ANSWER, log_probs=[-0.1, -0.2, -0.3], extra_fields={"global_steps": 4})


@pytest.fixture(scope="module")
def config() -> DictConfig:
    with initialize_config_module("verl.mix_src.config", version_base=None):
        return compose("mix_ppo", overrides=["profile=cpu", f"data.max_response_length={BUDGET}"])


def make_row(
    config: DictConfig,
    *guidance: str,
    server: Server | None = None,
    trace: str = TRACE,
    session: int = 0,
    **columns: Any,
) -> MixAgentLoopOutput:
    settings = OmegaConf.merge(config, OmegaConf.from_dotlist([f"luffy.guidance.{setting}" for setting in guidance]))

    async def run() -> MixAgentLoopOutput:
        loop = MixAgentLoop(
            trainer_config=DictConfigWrap(settings), server_manager=server, tokenizer=TOKENIZER, processor=None,
            dataset_cls=RLHFDataset, data_config=DictConfigWrap(settings.data),
        )  # fmt: skip
        return await loop.run(
            {"temperature": 1.0, "logprobs": True},
            raw_prompt=[{"role": "user", "content": "1+2"}],
            target=[{"role": "assistant", "content": trace}],
            session_id=session,
            global_steps=5,
            index=0,
            **columns,
        )

    return asyncio.run(run())


def test_a_whole_demonstration_needs_no_server(config):
    row = make_row(config, target_source=["big"])
    assert row.prompt_ids == PROMPT
    assert row.response_ids == TOKENS
    assert row.response_mask == row.off_policy_mask == [1] * 6
    assert row.behaviour_prob == [1.0] * 6
    assert row.response_logprobs == [0.0] * 6
    assert row.extra_fields[DEMONSTRATION] == {"source": "big", "ratio": 1.0, "truncated": False}
    assert row.extra_fields["min_global_steps"] == row.extra_fields["max_global_steps"] == 4


def test_the_teachers_probabilities_come_with_the_forced_tokens(config):
    known = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert make_row(config, target_probs=[known]).behaviour_prob == known
    row = make_row(config, "schedule=random", "min_ratio=0.5", "max_ratio=0.5", server=Server(), target_probs=[known])
    assert row.behaviour_prob == [0.9, 0.8, 0.7, 1.0, 1.0, 1.0]


def test_the_policy_continues_a_partial_demonstration(config):
    server = Server()
    row = make_row(config, "schedule=random", "min_ratio=0.5", "max_ratio=0.5", server=server)
    assert row.response_ids == TOKENS[:3] + ANSWER
    assert row.off_policy_mask == [1, 1, 1, 0, 0, 0]
    assert row.response_mask == [1] * 6
    assert row.response_logprobs == [0.0, 0.0, 0.0, -0.1, -0.2, -0.3]
    assert row.extra_fields["global_steps"] == 4
    (request,) = server.requests
    assert request["prompt_ids"] == PROMPT + TOKENS[:3]
    assert request["sampling_params"] == {"temperature": 1.0, "logprobs": True, "max_tokens": BUDGET - 3}


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_a_demonstration_beyond_the_budget_is_cut_and_says_so(config, ratio):
    long = "1" * 30
    row = make_row(config, "schedule=random", f"min_ratio={ratio}", f"max_ratio={ratio}", trace=long)
    assert row.response_ids == response_ids(TOKENIZER, long)[:BUDGET]
    assert row.off_policy_mask == [1] * BUDGET
    assert row.extra_fields[DEMONSTRATION]["truncated"]


def test_a_prefix_that_fills_the_budget_is_not_continued(config):
    row = make_row(config, "schedule=random", "min_ratio=0.5", "max_ratio=0.5", trace="1" * 15)
    assert len(row.response_ids) == BUDGET
    assert not row.extra_fields[DEMONSTRATION]["truncated"]


@pytest.mark.parametrize("reason", ["not among the demonstrations", "no trace", "a prefix of no token"])
def test_other_rows_are_rollouts(config, reason):
    server = Server()
    if reason == "not among the demonstrations":
        row = make_row(config, server=server, session=1)
    elif reason == "no trace":
        row = make_row(config, server=server, trace="")
    else:
        row = make_row(config, "schedule=random", "min_ratio=0.1", "max_ratio=0.1", server=server)
    assert row.response_ids == ANSWER
    assert row.off_policy_mask == [0, 0, 0]
    assert row.behaviour_prob == [1.0, 1.0, 1.0]
    assert DEMONSTRATION not in row.extra_fields
    assert server.requests[0]["prompt_ids"] == PROMPT


def test_both_columns_reach_the_queue():
    output = MixAgentLoopOutput(
        prompt_ids=[1], response_ids=[2, 3], response_mask=[1, 1], metrics=AgentLoopMetrics(),
        off_policy_mask=[1, 0], behaviour_prob=[0.25, 1.0],
    )  # fmt: skip
    fields = output.as_dict()
    assert torch.equal(fields["off_policy_mask"], torch.tensor([1, 0]))
    assert torch.equal(fields["behaviour_prob"], torch.tensor([0.25, 1.0]))
    assert torch.equal(fields["responses"], torch.tensor([2, 3]))
    assert "rollout_log_probs" not in fields


def test_a_request_has_a_seed_of_its_place_alone():
    places = [(step, prompt, session) for step in range(4) for prompt in range(16) for session in range(8)]
    seeds = [request_seed(0, False, *place) for place in places]
    assert seeds == [request_seed(0, False, *place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert not set(seeds) & {request_seed(1, False, *place) for place in places}
    assert not set(seeds) & {request_seed(0, True, *place) for place in places}
    assert request_seed(0, False, torch.tensor(1), 2, 3) == request_seed(0, 0, 1, 2, 3)


class Worker(MixAgentLoopWorker):
    """The worker without Ray and queue: what it would ask of the engine is kept by its client."""

    def __init__(self, config: DictConfig) -> None:
        self.config, self.llm_client, self.tokenizer, self.processor = config, Server(), TOKENIZER, None
        self.dataset_cls, self.hf_model_type = PlacedDataset, None

    async def _agent_loop_postprocess(self, output: AgentLoopOutput, validate: bool, **row: Any) -> None:
        pass


def asked(config: DictConfig, rows: list[dict[str, Any]], sessions: int = 1) -> list[dict[str, Any]]:
    """Sampling parameters of the requests for ``rows``, in their order."""
    worker = Worker(config)

    async def ask() -> None:
        for row, session in itertools.product(rows, range(sessions)):
            place = {"step": 4, "sample_index": 0, "rollout_n": session, "validate": True}
            await worker._run_agent_loop(
                {"temperature": 1.0}, place, agent_name=AGENT_NAME, trace=False, session_id=session, global_steps=4, **row
            )

    asyncio.run(ask())
    return [request["sampling_params"] for request in worker.llm_client.requests]


def asked_seeds(*arguments: Any, **more: Any) -> list[int]:
    """Seeds of the requests."""
    return [params["seed"] for params in asked(*arguments, **more)]


def test_a_greedy_answer_leaves_the_others_their_seeds(config):
    """vLLM's CPU sampler drops all seeds of a batch in which one row has no generator: so it has for temperature 0."""
    rows = [{"raw_prompt": [{"role": "user", "content": "1+2"}], "index": i, GREEDY: greedy} for i, greedy in enumerate((True, False))]
    greedy, sampled = asked(config, rows)
    assert [SamplingParams(**params).sampling_type for params in (greedy, sampled)] == [SamplingType.RANDOM_SEED] * 2
    assert greedy["top_k"] == 1 and "top_k" not in sampled
    greedy, sampled = asked(OmegaConf.merge(config, {"luffy": {"run": {"seeded_sampling": False}}}), rows)
    assert greedy["temperature"] == 0 and sampled["temperature"] == 1


def test_each_repeat_of_a_problem_draws_its_own_sample(config, tmp_path):
    """Eight repeats of one problem, and another source that counts from 0 as well, as validation files have them."""
    rows = [
        {"prompt": [{"role": "user", "content": "1+2"}], "data_source": source, "extra_info": {"index": 0},
         "reward_model": {"style": "rule", "ground_truth": "3"}}
        for source in ("aime", "amc") for _ in range(8)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "valid.parquet")
    assert config.data.custom_cls.name == PlacedDataset.__name__
    kind = get_dataset_class(config.data)
    data = kind([str(tmp_path / "valid.parquet")], TOKENIZER, config.data)
    seeds = asked_seeds(config, [data[i] for i in range(16)])
    assert len(set(seeds)) == 16
    assert asked_seeds(config, [data[i] for i in reversed(range(16))]) == seeds[::-1]  # whoever asks, in whatever order
    assert len({*seeds, *asked_seeds(config, [data[0]], sessions=8)}) == 16 + 7
