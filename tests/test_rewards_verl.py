"""The verifier in veRL's reward loop: real manager, real tokenizer, real batches."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from tensordict import TensorDict
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import load_reward_manager

from luffy.errors import InputError
from luffy.rewards import Reason, gate_warning, load_reward
from luffy.rewards.gym import reference
from luffy.training_report import GREEDY_SUFFIX
from verl import DataProto
from verl.mix_src.rl.reward import METRIC_OF_REASON, MixRewardManager, stripped_tokens
from verl.mix_src.run.preflight.overrides import check_overrides

ROOT = Path(__file__).resolve().parent.parent
MAX_LENGTH = 64
EOS = "<|im_end|>"
PROMPT = [1, 2, 3]


def make_tokenizer(*, thought_special: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with ``</think>`` as one token."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS, pad_token="<|pad|>")
    tokenizer.add_tokens([AddedToken("</think>", special=thought_special)])
    return tokenizer


def make_config(**changes: Any) -> Any:
    """The part of veRL's config that the reward loop reads."""
    reward = {
        "num_workers": 1,
        "custom_reward_function": {"path": None, "name": "compute_score"},
        "reward_manager": {"source": "importlib", "name": "MixRewardManager", "module": {"path": "pkg://verl.mix_src.rl.reward"}},
        "reward_kwargs": {"thought_gate": True, "time_limit_s": 5.0, "workers": 1},
    }
    return OmegaConf.create({"data": {"max_response_length": MAX_LENGTH}, "reward": {**reward, **changes}})


def make_row(tokenizer: Any, response: str, gold: Any, *, source: str = "math", padding: int = 0) -> DataProto:
    """One row as the agent loop hands it to a reward worker."""
    ids = tokenizer.encode(response, add_special_tokens=False)
    mask = torch.tensor([[1] * (len(PROMPT) + len(ids)) + [0] * padding])
    ids = ids + [0] * padding
    batch = TensorDict({"prompts": torch.tensor([PROMPT]), "responses": torch.tensor([ids]), "attention_mask": mask}, batch_size=1)
    columns = {"data_source": source, "reward_model": {"ground_truth": gold, "style": "rule"}, "extra_info": {"index": 0}}
    return DataProto(batch=batch, non_tensor_batch={name: np.array([value], dtype=object) for name, value in columns.items()})


def judge(manager: Any, *rows: DataProto) -> list[dict[str, Any]]:
    """What the manager says on rows that come at once."""

    async def all_rows() -> list[dict[str, Any]]:
        manager.loop = asyncio.get_running_loop()
        return await asyncio.gather(*map(manager.run_single, rows))

    return asyncio.run(all_rows())


def reasons(outputs: list[dict[str, Any]]) -> list[str]:
    """The reason of each output."""
    return [output["reward_extra_info"]["reason"] for output in outputs]


@pytest.mark.parametrize("thought_special", [False, True])
def test_rows_of_every_reason(thought_special: bool) -> None:
    tokenizer = make_tokenizer(thought_special=thought_special)
    manager = load_reward_manager(make_config(), tokenizer)
    assert type(manager).__name__ == "MixRewardManager"
    endless = "x" * (MAX_LENGTH - 1)
    outputs = judge(
        manager,
        make_row(tokenizer, r"a</think>\boxed{1/2}" + EOS, r"\frac{1}{2}", padding=7),
        make_row(tokenizer, r"a</think>\boxed{1/3}" + EOS, r"\frac{1}{2}"),
        make_row(tokenizer, r"a</think>hm" + EOS, "3"),
        make_row(tokenizer, r"\boxed{3}" + EOS, "3"),
        make_row(tokenizer, endless + "x", "3"),
        make_row(tokenizer, endless + EOS, "3"),
        make_row(tokenizer, "a</think>" + "x" * (MAX_LENGTH - 2), "3"),
        make_row(tokenizer, "a</think>ANSWER: C" + EOS, "C", source="arc_c"),
        make_row(tokenizer, "a</think>x" + EOS, None),
    )
    assert reasons(outputs) == [
        "correct", "wrong", "no answer found", "gate failed", "truncated", "gate failed", "truncated", "correct", "error",
    ]  # fmt: skip
    assert [output["reward_score"] for output in outputs] == [1.0, 0, 0, 0, 0, 0, 0, 1.0, 0]
    assert outputs[3]["reward_extra_info"]["reward/gate_failed"] == 1.0
    assert outputs[0]["reward_extra_info"]["answer"] == "1/2"


@pytest.mark.parametrize(("partial", "expected"), [(False, [1.0, 0.0, 0.0, 0.0]), (True, [1.0, 0.25, 0.0, 0.0])])
def test_a_procedural_task_is_scored_by_its_own_scorer(partial: bool, expected: list[float]) -> None:
    """The common scorer gives the share that the answer is of what was said: one sign of four."""
    pytest.importorskip("reasoning_gym", reason="the extra 'gym' is not installed")
    tokenizer, gold = make_tokenizer(thought_special=False), reference("letter_counting", 0, {"seed": 0, "size": 4}, "7")
    kwargs = {"thought_gate": True, "time_limit_s": 10.0, "workers": 1, "partial_scores": partial}
    manager = load_reward_manager(make_config(reward_kwargs=kwargs), tokenizer)
    texts = ("a</think><answer>7</answer>", "</think><answer>is 7</answer>", "</think>7", "<answer>7</answer>")
    outputs = judge(manager, *(make_row(tokenizer, text + EOS, gold, source="gym:letter_counting") for text in texts))
    assert reasons(outputs) == ["correct", "wrong", "no answer found", "gate failed"]
    assert [output["reward_score"] for output in outputs] == expected
    assert [output["reward_extra_info"]["acc"] for output in outputs] == [1.0, 0.0, 0.0, 0.0]


def test_gate_off_and_unknown_option() -> None:
    tokenizer = make_tokenizer(thought_special=False)
    manager = load_reward_manager(make_config(reward_kwargs={"thought_gate": False}), tokenizer)
    assert reasons(judge(manager, make_row(tokenizer, r"\boxed{3}", "3"))) == ["correct"]
    with pytest.raises(InputError, match=r"unknown key reward.reward_kwargs.time_limit; did you mean reward.reward_kwargs.time_limit_s"):
        load_reward_manager(make_config(reward_kwargs={"time_limit": 3}), tokenizer)
    with pytest.raises(InputError, match="reward.reward_kwargs.workers is 0; it must be an integer above 0, or null"):
        load_reward_manager(make_config(reward_kwargs={"workers": 0}), tokenizer)


def test_the_event_loop_is_not_blocked() -> None:
    tokenizer = make_tokenizer(thought_special=False)
    manager = load_reward_manager(make_config(reward_kwargs={"time_limit_s": 3.0, "thought_gate": False}), tokenizer)
    row = make_row(tokenizer, r"\boxed{(10^9)!}", "3")

    async def longest_pause() -> float:
        manager.loop = asyncio.get_running_loop()
        task, pause, last = asyncio.create_task(manager.run_single(row)), 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.01)
            now = time.monotonic()
            pause, last = max(pause, now - last), now
        assert task.result()["reward_extra_info"]["reward/timed_out"] == 1.0
        return pause

    assert asyncio.run(longest_pause()) < 2  # a loop that waits for the verdict stands still for its 3 s


def test_indicators_are_validation_metrics() -> None:
    tokenizer = make_tokenizer(thought_special=False)
    manager = load_reward_manager(make_config(), tokenizer)
    rows = [make_row(tokenizer, text + EOS, "3") for text in (r"\boxed{3}", r"a</think>\boxed{3}")]
    infos = [output["reward_extra_info"] for output in judge(manager, *rows)]
    columns = {name: [info[name] for info in infos] for name in infos[0]}
    metrics = process_validation_metrics(["math"] * 2, ["a", "b"], columns)["math"]
    assert metrics["acc"]["mean@1"] == 0.5
    assert metrics["reward/gate_failed"]["mean@1"] == 0.5
    assert set(METRIC_OF_REASON.values()) <= set(metrics)


def test_special_tokens_are_dropped_but_not_the_thought() -> None:
    tokenizer = make_tokenizer(thought_special=True)
    (thought,) = tokenizer.encode("</think>", add_special_tokens=False)
    assert tokenizer.decode([thought], skip_special_tokens=True) == ""  # what veRL's own managers would see
    assert thought not in stripped_tokens(tokenizer)
    assert {tokenizer.eos_token_id, tokenizer.pad_token_id} <= stripped_tokens(tokenizer)


def test_a_custom_function_replaces_the_verifier(tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    path.write_text(
        "async def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0.0):\n"
        "    return {'score': len(solution_str) + bonus, 'length': len(solution_str)}\n"
    )
    tokenizer = make_tokenizer(thought_special=False)
    custom = {"path": str(path), "name": "compute_score", "reward_kwargs": {"bonus": 0.5}}
    manager = load_reward_manager(make_config(custom_reward_function=custom), tokenizer)
    (output,) = judge(manager, make_row(tokenizer, "four" + EOS, "3"))
    assert output == {"reward_score": 4.5, "reward_extra_info": {"score": 4.5, "length": 4}}
    assert inspect.iscoroutinefunction(load_reward(path))


def documented(language: str) -> list[str]:
    """The blocks of the docs' section on own rewards."""
    section = (ROOT / "docs" / "rewards.md").read_text().split("## A reward of your own")[1].split("## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_the_documented_reward_works_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (function,), (command,), (block,) = documented("python"), documented("bash"), documented("yaml")
    (tmp_path / "my_reward.py").write_text(function)
    monkeypatch.chdir(tmp_path)
    overrides = shlex.split(command)[2:]
    check_overrides(overrides)
    with initialize_config_module("verl.mix_src.config", version_base=None):
        config = compose("mix_ppo", overrides=["profile=cpu", *overrides])
    custom = OmegaConf.to_container(config.reward.custom_reward_function)
    assert custom == OmegaConf.to_container(OmegaConf.create(block).reward.custom_reward_function)
    load_reward(custom["path"], custom["name"], custom["reward_kwargs"])
    tokenizer = make_tokenizer(thought_special=False)
    manager = load_reward_manager(make_config(custom_reward_function=custom), tokenizer)
    rows = [
        make_row(tokenizer, "<think>\nhm</think>\nSo \\boxed{3}." + EOS, "3", source="math_greedy"),
        make_row(tokenizer, "4", "3"),
    ]
    right, wrong = judge(manager, *rows)
    assert right["reward_extra_info"] == {"score": 1.1, "acc": 1.0, "short": 1.0}
    assert wrong["reward_extra_info"] == {"score": 0.0, "acc": 0.0, "short": 0.0}


def test_a_custom_function_sees_the_rows_own_source_and_a_bare_number_is_no_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    path.write_text("def compute_score(data_source, **others): return {'mine': 2.5}.get(data_source, -1)\n")
    tokenizer = make_tokenizer(thought_special=False)
    manager = load_reward_manager(make_config(custom_reward_function={"path": str(path), "name": "compute_score"}), tokenizer)
    (output,) = judge(manager, make_row(tokenizer, "x" + EOS, "3", source="mine" + GREEDY_SUFFIX))
    assert output == {"reward_score": 2.5, "reward_extra_info": {"score": 2.5}}


def test_a_custom_function_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    with pytest.raises(InputError, match="no reward function file"):
        load_reward(path)
    path.write_text("def score(solution_str): return 1\nthing = 3\n")
    with pytest.raises(InputError, match="has no function compute_score"):
        load_reward(path)
    with pytest.raises(InputError, match="cannot be called with data_source, solution_str, ground_truth, extra_info"):
        load_reward(path, "score")
    path.write_text("def compute_score(data_source, solution_str, ground_truth, extra_info, bonus): return bonus\n")
    load_reward(path, keywords={"bonus": 1})
    with pytest.raises(InputError, match="bonus"):
        load_reward(path)
    with pytest.raises(InputError, match="bonsu"):
        load_reward(path, keywords={"bonsu": 1})
    path.write_text("1/0")
    with pytest.raises(InputError, match="does not load: ZeroDivisionError"):
        load_reward(path)
    with pytest.raises(InputError, match="must end with .py"):
        (tmp_path / "reward.txt").write_text("")
        load_reward(tmp_path / "reward.txt")


def test_gate_warning() -> None:
    text = gate_warning([Reason.GATE_FAILED, "truncated", "gate failed"], "user: 2+2?\nassistant:\n", "The answer is 4")
    assert text is not None
    assert "all 3 rows" in text
    assert r"'user: 2+2?\nassistant:\n'" in text
    assert "has no '</think>' and ends with 'The answer is 4'" in text
    assert gate_warning(["gate failed", "wrong"], "", "") is None
    assert gate_warning(["truncated", "truncated"], "", "") is None
    assert gate_warning([], "", "") is None


def test_upstream_is_as_the_manager_expects() -> None:
    assert issubclass(MixRewardManager, NaiveRewardManager)
    parameters = inspect.signature(NaiveRewardManager.__init__).parameters
    assert list(parameters) == ["self", "config", "tokenizer", "compute_score", "reward_router_address", "reward_model_tokenizer"]
    assert list(inspect.signature(NaiveRewardManager.run_single).parameters) == ["self", "data"]
