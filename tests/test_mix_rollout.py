"""Rows of a group as the agent loop makes them: whole, partial, cut demonstrations, and rollouts.

The server is a stand-in that answers with fixed tokens and remembers what it was asked; whole and cut demonstrations
have no server at all. ``tests/test_training.py`` runs the loop with vLLM.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
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

from luffy.digests import request_seed
from miniature.tokenizer import build_tokenizer, prompt_ids, response_ids
from verl.mix_src.rl import rollout
from verl.mix_src.rl.rollout import (
    AGENT_NAME,
    DEMONSTRATION,
    GREEDY,
    MixAgentLoop,
    MixAgentLoopOutput,
    MixAgentLoopWorker,
    PlacedDataset,
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
    others: Sequence[str] = (),
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
            target=[{"role": "assistant", "content": each} for each in (trace, *others)],
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


@pytest.mark.parametrize(("share", "forced"), [(None, True), (0.25, True), (0.5, False), (np.float64(1.0), False), (float("nan"), True)])
def test_a_prompt_that_the_policy_solves_by_itself_gets_no_demonstration(config, share, forced):
    row = make_row(config, "policy_success_below=0.5", server=Server(), policy_success=share)
    assert (row.response_ids, row.off_policy_mask) == ((TOKENS, [1] * 6) if forced else (ANSWER, [0] * 3))


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


def test_the_teachers_prompt_goes_on_with_the_solution(config):
    """OPSD: the student is asked "1+2", its teacher "1+2 1+2=3"; a prompt without a trace has no more to tell."""

    async def asked(**columns: Any) -> list[int] | None:
        loop = MixAgentLoop(
            trainer_config=DictConfigWrap(config), server_manager=None, tokenizer=TOKENIZER, processor=None,
            dataset_cls=RLHFDataset, data_config=DictConfigWrap(config.data),
        )  # fmt: skip
        return await loop.privileged_prompt(" {solution}", {"raw_prompt": [{"role": "user", "content": "1+2"}], **columns})

    told = asyncio.run(asked(target=[{"role": "assistant", "content": TRACE}]))
    assert told == prompt_ids(TOKENIZER, f"1+2 {TRACE}") and len(told) > len(PROMPT)
    assert asyncio.run(asked()) is None


KEPT = {"tokens": np.array([7, 8, 9, 2], np.int32), "log_probs": np.log(np.array([0.5, 0.25, 1.0, 0.125], np.float32))}


def test_a_kept_row_is_forced_with_its_recorded_probabilities(config):
    row = make_row(config, "n_demonstrations=0", given=KEPT)
    assert row.prompt_ids == PROMPT and row.response_ids == [7, 8, 9, 2]
    assert row.off_policy_mask == row.response_mask == [1] * 4
    assert row.behaviour_prob == pytest.approx([0.5, 0.25, 1.0, 0.125], rel=1e-7)
    assert row.extra_fields[DEMONSTRATION] == {"source": "replay", "ratio": 1.0, "truncated": False}
    assert row.reward_score is None  # the verifier judges it


def test_the_rows_beside_a_kept_one_are_a_group_of_their_own(config):
    """The first of them takes the demonstration, where the method has one."""
    assert make_row(config, given=KEPT, session=1, target_source=["big"]).response_ids == TOKENS
    assert make_row(config, given=KEPT, session=2, server=Server()).response_ids == ANSWER
    assert make_row(config, "n_demonstrations=0", given=KEPT, session=1, server=Server()).response_ids == ANSWER


def test_a_row_for_an_update_of_fine_tuning_is_the_whole_trace_and_is_not_judged(config):
    row = make_row(config, "n_demonstrations=0", given={"share": 1.0, "judged": False})
    assert row.response_ids == TOKENS and row.reward_score == 0.0
    assert make_row(config, "n_demonstrations=0", given={}, server=Server()).response_ids == ANSWER


def test_a_recorded_probability_of_zero_has_a_logarithm(config):
    given = {"tokens": np.array([7]), "log_probs": np.array([-200.0], np.float32)}
    (probability,) = torch.tensor(make_row(config, given=given).behaviour_prob, dtype=torch.float32)
    assert probability > 0


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


def test_a_hint_goes_on_to_the_next_blank_line(config):
    """1 2 \\n \\n 3 4 5 and EOS: 8 tokens, of which 0.3 more are 2."""
    snapping = OmegaConf.merge(config, {"luffy": {"stages": {"mode": "sequential", "snap": 0.3}, "guidance": {"n_demonstrations": 0}}})

    def hint(settings: DictConfig, share: float) -> str:
        row = make_row(settings, trace="12\n\n345", given={"share": share}, server=Server())
        return TOKENIZER.decode(row.response_ids[: sum(row.off_policy_mask)])

    assert len(response_ids(TOKENIZER, "12\n\n345")) == 8
    assert [hint(snapping, share) for share in (0.125, 0.25, 0.5, 0.625)] == ["1", "12\n\n", "12\n\n", "12\n\n3"]
    assert [hint(config, share) for share in (0.25, 0.5)] == ["12", "12\n\n"]


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


class Judging(Worker):
    """A worker whose rows are right where they begin with enough of the trace; what it would put into the queue is kept."""

    def __init__(self, config: DictConfig, needed: int) -> None:
        super().__init__(config)
        self.needed, self.rows = needed, list[MixAgentLoopOutput]()

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        assert not {"target", "given"} & set(kwargs)
        outputs[-1].reward_score = float(sum(outputs[-1].off_policy_mask) >= self.needed)

    async def _agent_loop_postprocess(self, output: AgentLoopOutput, validate: bool, **row: Any) -> None:
        self.rows.append(output)


def rolled_group(config: DictConfig, mode: str, needed: int) -> Judging:
    """A group of 8 that is rolled in rounds; the trace has 6 tokens."""
    worker = Judging(OmegaConf.merge(config, {"luffy": {"stages": {"mode": mode}, "guidance": {"n_demonstrations": 0}}}), needed)
    prompt = {
        "uid": "a", "agent_name": AGENT_NAME, "raw_prompt": [{"role": "user", "content": "1+2"}], "index": 0, "global_steps": 4,
        "target": [{"role": "assistant", "content": TRACE}],
    }  # fmt: skip
    trajectory = {"step": 4, "sample_index": 0, "rollout_n": 0, "validate": False}

    async def roll() -> None:
        worker._rolled["a"] = asyncio.create_task(worker._roll(prompt, {"temperature": 1.0}, trajectory))
        for session in range(8):
            await worker._run_agent_loop({"temperature": 1.0}, trajectory, trace=False, session_id=session, **prompt)

    asyncio.run(roll())
    return worker


def test_a_group_is_rolled_again_with_a_longer_hint_while_no_row_is_right(config):
    worker = rolled_group(config, "reroll", needed=3)
    assert [row.response_ids for row in worker.rows] == [TOKENS[:3] + ANSWER] * 8
    assert all(row.off_policy_mask == [1, 1, 1, 0, 0, 0] and row.reward_score == 1.0 for row in worker.rows)
    assert all(row.extra_fields["stages"] == {"rounds": 3, "rolled": 24, "dropped_tokens": 2 * 8 * 3} for row in worker.rows)
    requests = worker.llm_client.requests
    assert [len(request["prompt_ids"]) - len(PROMPT) for request in requests] == [0] * 8 + [1] * 8 + [3] * 8
    assert len({request["sampling_params"]["seed"] for request in requests}) == 24
    assert rolled_group(config, "reroll", needed=0).rows[0].response_ids == ANSWER


def test_the_shortest_hint_that_helps_stays(config):
    worker = rolled_group(config, "search", needed=2)  # of 6 tokens: 0.4 gives 2, 0.3 gives 1
    assert [row.response_ids for row in worker.rows] == [TOKENS[:2] + ANSWER] * 8
    assert worker.rows[0].extra_fields["stages"] == {"rounds": 5, "rolled": 40, "dropped_tokens": 4 * 8 * 3}


def test_parts_of_a_group_are_rolled_one_after_the_other(config):
    worker = rolled_group(config, "sequential", needed=6)
    assert [sum(row.off_policy_mask) for row in worker.rows] == [0, 0, 0, 0, 1, 1, 3, 6]
    assert worker.rows[-1].response_ids == TOKENS and [row.reward_score for row in worker.rows] == [0.0] * 7 + [1.0]
    assert worker.rows[0].extra_fields["stages"] == {"rounds": 4, "rolled": 8, "dropped_tokens": 0}


def asked(config: DictConfig, rows: list[dict[str, Any]], sessions: int = 1, *, validate: bool = True) -> list[dict[str, Any]]:
    """Sampling parameters of the requests for ``rows``, in their order."""
    worker = Worker(config)

    async def ask() -> None:
        for row, session in itertools.product(rows, range(sessions)):
            place = {"step": 4, "sample_index": 0, "rollout_n": session, "validate": validate}
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


def test_a_group_holds_a_kept_row_traces_of_two_teachers_and_rollouts_at_once(config):
    group = [
        make_row(
            config, "n_demonstrations=2", server=Server(), given=KEPT, session=session, others=["1+2=03"], target_source=["big", "small"]
        )
        for session in range(8)
    ]
    sources = [row.extra_fields.get(DEMONSTRATION, {}).get("source", "rollout") for row in group]
    assert sources == ["replay", "big", "small", *["rollout"] * 5]
    assert [row.response_ids for row in group[1:4]] == [TOKENS, response_ids(TOKENIZER, "1+2=03"), ANSWER]
    assert [sum(row.off_policy_mask) for row in group] == [len(KEPT["tokens"]), 6, 7, 0, 0, 0, 0, 0]


def test_a_prompt_that_is_replayed_and_fresh_in_one_step_draws_other_samples(config):
    row = {"raw_prompt": [{"role": "user", "content": "1+2"}], "index": 0}
    fresh, replayed = (
        asked_seeds(config, [row | given], sessions=8, validate=False) for given in ({"given": {}}, {"given": {"share": 1.0}})
    )
    assert fresh == asked_seeds(config, [row], sessions=8, validate=False)
    assert len({*fresh, *replayed}) == 16


class Engine:
    """A request that fails so often before it succeeds."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.asked, self._failures, self._error = 0, failures, error

    async def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        return "row"


@pytest.mark.parametrize(("failures", "retries", "asked"), [(0, 2, 1), (1, 2, 2), (2, 2, 3)])
def test_a_failed_request_is_made_again_and_counted(failures: int, retries: int, asked: int, monkeypatch) -> None:
    monkeypatch.setattr(rollout, "RETRY_AFTER_S", 0.01)
    engine = Engine(failures, OSError("connection reset"))
    assert asyncio.run(rollout.retried(engine, retries)) == ("row", failures) and engine.asked == asked


@pytest.mark.parametrize(("error", "asked"), [(OSError("down"), 3), (ValueError("prompt too long"), 1)])
def test_a_request_that_fails_for_good_is_an_error(error: Exception, asked: int, monkeypatch) -> None:
    monkeypatch.setattr(rollout, "RETRY_AFTER_S", 0.01)
    engine = Engine(9, error)
    with pytest.raises(type(error)):
        asyncio.run(rollout.retried(engine, 2))
    assert engine.asked == asked
