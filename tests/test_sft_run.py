"""An SFT run's config, checks, resuming, files and entropy, on a model that the test writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from transformers import Qwen2Config, Qwen2ForCausalLM

from luffy.errors import InputError
from luffy.evaluation.policy_entropy import Response, mean_entropy
from miniature.tokenizer import build_tokenizer
from verl.mix_src.run import preflight
from verl.mix_src.run.console import said
from verl.mix_src.run.folder import RunFiles
from verl.mix_src.run.preflight.inputs import sft_steps


def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("verl.mix_src.config.sft", version_base=None):
        return compose("sft", overrides=list(overrides))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, head_dim=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128, tie_word_embeddings=True, dtype="float32",
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "data_source": "mine", "prompt": [{"role": "user", "content": str(n)}], "target": [{"role": "assistant", "content": str(n)}],
            "ability": "math", "reward_model": {"style": "rule", "ground_truth": str(n)}, "extra_info": {"index": n, "split": "train"},
        }
        for n in range(10)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def machine_overrides(model: Path, data: Path) -> list[str]:
    return ["profile=cpu", f"model.path={model}", f"data.train_files={data}", f"data.val_files={data}"]


def test_the_gpu_profile_is_what_the_authors_published():
    config = composed("profile=gpu")
    preflight.refuse(preflight.SFT_CONFIG, config)
    assert (config.optim.lr, config.trainer.total_epochs, config.data.train_batch_size) == (5e-5, 3, 64)
    assert (config.data.max_length, config.model.use_remove_padding) == (16_384, True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.n_gpus_per_node=3"], "data.train_batch_size=16 must be a multiple of trainer.n_gpus_per_node=3"),
        (["data.micro_batch_size_per_gpu=5"], "data.micro_batch_size_per_gpu=5 must divide the 16 rows of a rank"),
        (["trainer.nnodes=2"], "this command starts one node"),
        (["trainer.save_freq=0"], "trainer.save_freq=0: give"),
        (["trainer.save_freq=sometimes"], "must be a number of steps or after_each_epoch"),
        (["trainer.test_freq=10"], "trainer.test_freq has no effect here"),
        (["data.use_dynamic_bsz=true", "data.max_token_len_per_gpu=100"], "must hold one sample of data.max_length=128 tokens"),
        (["checkpoint.save_contents=[model]"], "checkpoint.save_contents must have hf_model"),
        (["data.pad_mode=right"], "veRL's engine takes no_padding alone"),
    ],
)
def test_contradictions_are_one_line(overrides, message):
    with pytest.raises(InputError, match=message):
        preflight.refuse(preflight.SFT_CONFIG, composed("profile=cpu", *overrides))


def test_steps_come_from_the_traces(model, data):
    overrides = [*machine_overrides(model, data), "data.train_batch_size=4"]
    assert sft_steps(composed(*overrides)) == 100
    assert sft_steps(composed(*overrides, "trainer.total_training_steps=null", "trainer.total_epochs=3")) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train_batch_size=16"], "has 10 traces, fewer than data.train_batch_size=16: no step is possible"),
        (["data.train_batch_size=4", "trainer.total_epochs=5"], "=100 but 5 epochs have 10 steps: raise trainer.total_epochs"),
        (["data.val_files=absent.parquet"], "data.val_files=absent.parquet is not a file"),
        (["model.path=absent"], "model.path=absent is not a folder"),
        (["trainer.device=cuda", "trainer.n_gpus_per_node=64"], "but this machine has"),
    ],
)
def test_what_is_missing_is_one_line(model, data, overrides, message):
    with pytest.raises(InputError, match=message):
        preflight.refuse(preflight.SFT_MACHINE, composed(*machine_overrides(model, data), *overrides))


def test_all_that_is_missing_is_said(model, data, tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    overrides = ["trainer.device=cuda", "trainer.n_gpus_per_node=64", "model.path=absent", f"data.train_files={tmp_path}/rows.jsonl"]
    gpus, file, folder = preflight.problems(preflight.SFT_MACHINE, composed(*machine_overrides(model, data), *overrides))
    assert "this machine has" in gpus and "rows.jsonl is no parquet file; make one with" in file and "absent is not a folder" in folder
    steps, length = preflight.problems(
        preflight.SFT_MACHINE, composed(*machine_overrides(model, data), "data.train_batch_size=16", "data.max_length=9")
    )
    assert "no step is possible" in steps and "data.max_length=9 tokens" in length


def test_held_out_metrics_join_the_steps(tmp_path):
    files = RunFiles(tmp_path)
    files.metrics.write_text('{"step": 1, "data": {"loss": 2.0}}\n{"step": 2, "data": {"loss": 1.0}}\n')
    files.add_metrics({0: {"acc": 0.0}, 2: {"acc": 0.5}})
    assert [json.loads(line) for line in files.metrics.read_text().splitlines()] == [
        {"step": 0, "data": {"acc": 0.0}},
        {"step": 1, "data": {"loss": 2.0}},
        {"step": 2, "data": {"loss": 1.0, "acc": 0.5}},
    ]


def test_exported_models_are_in_order_of_steps(tmp_path):
    for step in (100, 25):
        folder = tmp_path / f"global_step_{step}" / "huggingface"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
    (tmp_path / "global_step_50" / "huggingface").mkdir(parents=True)  # no weights: not exported
    files = RunFiles(tmp_path)
    assert list(files.exported_models()) == [25, 100]
    assert files.hf_model == tmp_path / "global_step_100" / "huggingface"


def test_entropy_of_a_known_policy(model, tmp_path):
    """With zero embeddings every token is as likely as another: the entropy is the logarithm of the vocabulary's size."""
    policy = Qwen2ForCausalLM.from_pretrained(model)
    torch.nn.init.zeros_(policy.model.embed_tokens.weight)
    policy.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    responses = [Response(prompt="<|im_start|>user\n1", text="23", ended=True), Response(prompt="4", text="5", ended=False)]
    assert mean_entropy(str(tmp_path), responses) == pytest.approx(math.log(policy.config.vocab_size), rel=1e-6)


def test_entropy_counts_tokens_alike_and_sees_the_end(model, tmp_path):
    """Against the definition, token by token: two responses of 3 and 1 tokens, one of them ended."""
    policy, tokenizer = Qwen2ForCausalLM.from_pretrained(model), build_tokenizer()
    with torch.no_grad():
        policy.model.embed_tokens.weight.mul_(40)  # far from uniform
    policy.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    entropies = []
    for prompt, response in (("1", "23<|im_end|>"), ("45", "6")):
        ids, count = tokenizer.encode(prompt + response), len(tokenizer.encode(response))
        probabilities = policy(input_ids=torch.tensor([ids])).logits[0, -count - 1 : -1].double().softmax(-1)
        entropies += (-(probabilities * probabilities.log()).sum(-1)).tolist()
    assert len(entropies) == 4 and entropies[0] < 5.0  # log 262 is 5.57
    responses = [Response(prompt="1", text="23", ended=True), Response(prompt="45", text="6", ended=False)]
    assert mean_entropy(str(tmp_path), responses) == pytest.approx(sum(entropies) / 4, rel=1e-5)


def test_held_out_accuracy_reads_as_that_of_reinforcement_learning():
    metrics = {"val-core/a/acc/mean@8": 0.25, "val-core/b/acc/mean@8": 0.75, "val-core/a_greedy/acc/mean@1": 1.0, "val-aux/entropy": 2.0}
    assert said(metrics) == "held-out avg@8 0.500, greedy 1.000"
