"""The plan: sizes by hand and by PyTorch's own counts, and what cannot fit is one line with what does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forked import run_module
from test_preflight import composed
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen2ForCausalLM, Qwen3Config

from luffy.errors import InputError
from luffy.plan import (
    GIB,
    GPUS,
    SHAPES,
    Shape,
    Work,
    cache_tokens,
    find_device,
    forward_flops,
    layer_bytes,
    memory,
    named_shape,
    step_flops,
    step_seconds,
    update_memory,
)  # fmt: skip
from verl.mix_src.plan.__main__ import main, planned
from verl.mix_src.plan.fitting import refusal
from verl.mix_src.plan.reading import Command, read_plan
from verl.mix_src.plan.screen import summary

P = 7_615_616_512  # of Qwen2.5-7B, as its card has it
SIZES = {"num_hidden_layers": 3, "hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 2}
PAPER = ("paper_model=qwen2_5_math_7b",)  # the others of its configuration are the defaults


def plan(*overrides: str, gpu: str = "A100-80GB", **given: float):
    return read_plan(composed(*overrides, machine="gpu"), Command(gpu=gpu, **given))


def small(tied: bool = True) -> Qwen2Config:
    return Qwen2Config(vocab_size=300, tie_word_embeddings=tied, max_position_embeddings=128, **SIZES)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("Qwen/Qwen2.5-Math-7B", P), ("models/Qwen2.5-Math-1.5B-16k/", 1_543_714_304), ("Llama-3.1-8B-cot", 8_030_261_248)],
)
def test_built_in_shapes_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert named_shape(name).parameters == parameters


def test_key_value_cache_of_a_token() -> None:
    assert 2 * SHAPES["Qwen2.5-7B"].key_values == 57_344 == 2 * 28 * 4 * 128 * 2


@pytest.mark.parametrize(
    "config",
    [small(), small(tied=False), LlamaConfig(vocab_size=300, **SIZES), LlamaConfig(vocab_size=300, attention_bias=True, **SIZES),
     Qwen3Config(vocab_size=300, head_dim=32, **SIZES)],
    ids=["qwen2", "qwen2 untied", "llama", "llama with biases", "qwen3"],
)  # fmt: skip
def test_parameters_are_those_that_transformers_makes(config, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    shape = Shape.from_config(json.loads((tmp_path / "config.json").read_text()))
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_layer_keeps_is_what_autograd_saves(dtype: torch.dtype) -> None:
    """Bytes of the storages that a layer saves for its backward pass, weights and positions aside: its share of one more layer."""
    saved = []
    for layers in (2, 3):
        config = small()
        config.num_hidden_layers = layers
        model = Qwen2ForCausalLM(config).to(dtype)
        weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept=kept, weights=weights) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        ids = torch.arange(64).unsqueeze(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = model(input_ids=ids, use_cache=False).logits
        saved.append(sum(kept.values()))
        del logits
    shape = Shape.from_config(small().to_dict())
    layout = replace(plan(*PAPER).layout, number=dtype.itemsize, repeats_keys=False)
    assert saved[1] - saved[0] == pytest.approx(64 * layer_bytes(shape, layout), rel=0.02)


def test_operations_are_those_that_pytorch_counts() -> None:
    model, rows, length = AutoModelForCausalLM.from_config(small(), attn_implementation="eager"), 2, 48
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.arange(length).repeat(rows, 1), use_cache=False)
    shape = Shape.from_config(small().to_dict())
    half = 2 * shape.layers * shape.query * rows * length**2  # what a causal kernel leaves out
    angles = 2 * shape.head_size // 2 * rows * length  # of the positions
    assert forward_flops(shape, rows * length, rows * length**2) + half == pytest.approx(counter.get_total_flops(), abs=angles)


def test_state_of_the_paper_run() -> None:
    parts = memory(SHAPES["Qwen2.5-Math-7B"], plan(*PAPER).layout, GPUS["A100-80GB"])["update"]
    assert parts["weights"] == parts["gradients"] == 4 * P / 8
    assert parts["optimizer"] == 8 * P / 8
    assert parts["logits"] == 3 * 2 * 152_064 * 18_432  # logits and two gradients, bf16, two whole rows


def test_key_value_cache_of_the_paper_run() -> None:
    layout, shape, gpu = plan(*PAPER).layout, SHAPES["Qwen2.5-Math-7B"], GPUS["A100-80GB"]
    rows = 256 * 152_064 * (2 + 8)
    own = 16_384 * 2 * (4 * 3584 + 3 * 18_944 / 2) + rows
    assert cache_tokens(shape, layout, gpu.memory) == pytest.approx(2 * (0.7 * gpu.memory - P - own) / 57_344)


def test_what_is_offloaded_leaves_between_its_phases() -> None:
    phases = plan(*PAPER, "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true").phases()
    assert {phase for phase, parts in phases.items() if "optimizer" in parts} == {"update"}


def test_without_logits_at_once_the_vocabulary_costs_a_chunk() -> None:
    layout, shape = plan(*PAPER).layout, SHAPES["Qwen2.5-Math-7B"]
    few = replace(layout, fused=True, update_tokens=1024)  # of many tokens a layer is the largest moment then
    assert update_memory(shape, few)["logits"] == 512 * 152_064 * 7 * 4 + 2 * 152_064 * 3584
    whole, fused = (sum(update_memory(shape, replace(layout, fused=each)).values()) for each in (False, True))
    assert fused < whole - 5 * GIB


WORK = Work(
    prompts=128, group=8, demonstrations=1, prompt=256, response=2048, demonstration=4096, longest=8192, old_pass=1.0, reference=False,
    checkpointing=True,
)  # fmt: skip


def test_tokens_and_operations_of_a_step() -> None:
    assert (WORK.rollouts, WORK.sampled, WORK.tokens) == (896, 896 * 2048, 128 * (7 * 2048 + 4096 + 8 * 256))
    shape = SHAPES["Qwen2.5-Math-7B"]
    flops = step_flops(shape, WORK)
    dense = 2 * (P - 152_064 * 3584) * WORK.tokens  # but for the input embedding every weight is used once a token
    assert flops["update"] == 4 * flops["old log-prob"]
    assert dense < flops["old log-prob"] < 1.1 * dense


def test_time_follows_the_sheet() -> None:
    layout, shape = plan(*PAPER).layout, SHAPES["Qwen2.5-Math-7B"]
    times = {name: step_seconds(shape, layout, WORK, GPUS[name], rollout_gpus=8) for name in ("A100-80GB", "H100")}
    assert times["A100-80GB"]["update"] / times["H100"]["update"] == pytest.approx(989 / 312)
    assert times["A100-80GB"]["rollout"] > times["H100"]["rollout"] > times["A100-80GB"]["rollout"] / 3


def test_a_mask_lets_every_token_see_all_of_its_micro_batch() -> None:
    """Seen on one H200: 6.45 s for 16 rows of 4 096 tokens of the 1.5B shape, two rows at once."""
    shape, paper = SHAPES["Qwen2.5-Math-1.5B"], plan("paper_model=qwen2_5_math_1_5b", "attention=sdpa").layout
    assert paper.mask and not plan("paper_model=qwen2_5_math_1_5b").layout.mask
    layout = replace(paper, gpus=1, update_tokens=8192)
    work = replace(WORK, prompts=2, prompt=1024, response=3072, demonstration=3072, longest=3072, old_pass=0.0)
    masked, alone = (step_seconds(shape, each, work, GPUS["H200"], rollout_gpus=1)["update"] for each in (layout, replace(layout, mask=0)))
    assert masked - alone == pytest.approx(4 * 4 * 28 * (12 * 128) * 65_536 * 8192 / 88e12)  # passes, products, layers, width, pairs
    assert masked == pytest.approx(6.45, rel=0.05)


def test_no_second_pass_takes_its_time() -> None:
    assert "old log-prob" not in step_flops(SHAPES["Qwen2.5-7B"], replace(WORK, old_pass=0.0))


def test_rows_of_the_first_update_have_no_second_pass() -> None:
    assert plan(*PAPER).work.old_pass == 0.5  # two updates a step
    assert plan(*PAPER, "actor_rollout_ref.actor.ppo_mini_batch_size=128").work.old_pass == 0
    assert plan(*PAPER, "luffy.run.own_pass=false").work.old_pass == 1


@pytest.mark.parametrize(
    ("given", "name"),
    [("NVIDIA A100-SXM4-80GB", "A100-80GB"), ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA GeForce RTX 4090", "RTX-4090"), ("h200", "H200")],
)
def test_names_of_drivers(given: str, name: str) -> None:
    assert find_device(given) is GPUS[name]


def test_paper_runs_fit_their_gpus() -> None:
    for model in ("qwen2_5_math_7b", "qwen2_5_math_1_5b", "qwen2_5_7b_instruct", "llama_3_1_8b"):
        assert refusal(plan(f"paper_model={model}")) is None, model


def settings_of(line: str) -> tuple[str, ...]:
    return tuple(line.partition(": set ")[2].split())


CANNOT = {
    "long micro-batches": (("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=73728",), "update"),
    "vLLM takes all": (("actor_rollout_ref.rollout.gpu_memory_utilization=0.95",), "rollout"),
    "one GPU": (("trainer.n_gpus_per_node=1", "actor_rollout_ref.rollout.tensor_model_parallel_size=1"), "update"),
    "no second": (("actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=294912",), "old log-prob"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_fit_is_told_what_does(name: str) -> None:
    overrides, phase = CANNOT[name]
    line = refusal(plan(*PAPER, *overrides))
    assert line.startswith(f"{phase}: about ")
    changed = [each for each in overrides if each.partition("=")[0] not in {other.partition("=")[0] for other in settings_of(line)}]
    assert refusal(plan(*PAPER, *changed, *settings_of(line))) is None


def test_the_nearest_setting_is_the_smallest_change() -> None:
    key = "actor_rollout_ref.rollout.gpu_memory_utilization"
    (setting,) = settings_of(refusal(plan(*PAPER, f"{key}=0.95")))
    share = float(setting.removeprefix(f"{key}="))
    assert refusal(plan(*PAPER, f"{key}={share + 0.01:.2f}")) is not None


def test_what_nothing_makes_fit() -> None:
    tiny = {"trainer.n_gpus_per_node": 1, "actor_rollout_ref.rollout.tensor_model_parallel_size": 1, "data.max_response_length": 4_000_000}
    line = refusal(plan(*PAPER, *(f"{key}={value}" for key, value in tiny.items()), gpu="RTX-4090"))
    assert "no setting makes it fit" in line and "\n" not in line


def test_a_folder_needs_its_configuration_alone(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    assert plan(f"actor_rollout_ref.model.path={tmp_path}").shape == Shape.from_config(small().to_dict())


@pytest.mark.parametrize(
    ("overrides", "gpu", "said"),
    [
        (("actor_rollout_ref.model.path=models/unknown",), None, "no config.json there"),
        (PAPER, "TPU", "--gpu TPU: not in the table"),
        (("data.train_batchsize=3",), None, "train_batch_size"),
    ],
)
def test_mistakes_are_a_line(overrides: tuple[str, ...], gpu: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        planned(Command(overrides=overrides, gpu=gpu))
    assert "\n" not in str(error.value)


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="'mamba'"):
        Shape.from_config({"model_type": "mamba", "num_attention_heads": 1})


def test_the_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", "--gpu", "H100", "--response_tokens", "1000", "--validation-rows=812", *PAPER])
    assert main() is None
    out = capsys.readouterr().out
    assert "7 615 616 512 parameters" in out and "8 x H100" in out and "hours for 500 steps and 51 validations of 812 answers" in out
    assert len(out.splitlines()) < 30


def test_on_a_cpu_it_is_the_machine_that_holds_all(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    found = read_plan(composed(f"actor_rollout_ref.model.path={tmp_path}"), Command())
    assert found.device.name == "this machine" and refusal(found) is None
    assert found.phases()["update"]["KV cache"] == GIB and found.layout.number == 4
    alone = read_plan(composed(f"actor_rollout_ref.model.path={tmp_path}", "luffy.run.fork_workers=false"), Command())
    assert (found.layout.overhead, alone.layout.overhead) == (3.4 * GIB, 5.6 * GIB)  # whole runs took 4.8 and 7.0 GiB


def test_the_dry_run_says_the_largest_phase(tmp_path: Path) -> None:
    assert summary(composed(*PAPER, machine="gpu")).startswith("rollout about ")
    assert summary(composed(f"actor_rollout_ref.model.path={tmp_path}")) is None


def test_the_command_ends_with_2() -> None:
    done = run_module("verl.mix_src.plan.__main__", "--gpu", "RTX-4090", *PAPER)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ") and "set " in done.stderr.splitlines()[-1]


@pytest.mark.integration
def test_memory_of_an_update_is_what_pytorch_allocates() -> None:
    """Through veRL's FSDP worker: the benchmark's own table, whose columns are model, checkpointing, measured and planned MiB."""
    script = Path(__file__).resolve().parent.parent / "benchmarks" / "update.py"
    done = subprocess.run([sys.executable, str(script), "--check", "2M"], capture_output=True, text=True, timeout=600)
    rows = [line.split("|")[2:5] for line in done.stdout.splitlines() if line.startswith("| 2M")]
    assert [row[0].strip() for row in rows] == ["no", "yes"], done.stderr[-2000:]
    for _, measured, expected in rows:
        assert float(expected) == pytest.approx(float(measured), rel=0.03)
