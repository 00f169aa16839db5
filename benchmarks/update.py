#!/usr/bin/env python3
"""An update of the actor through veRL's FSDP worker: tokens a second, MFU and peak memory, beside veRL's vanilla loss and the plan.

usage: python benchmarks/update.py [--device cpu|cuda] [--shape tiny|Qwen2.5-Math-1.5B] [--rows 8] [--length 256] [--rounds 5]
       python benchmarks/update.py --check [2M 20M 100M]   # memory and time beside the plan, on a CPU

The model has random weights and is written to a temporary folder; nothing is fetched. Both losses run in one worker on the same rows, in
turn: veRL, this project, veRL. On a GPU in bf16 with packed rows, gradient checkpointing and fused log-probabilities; on a CPU in fp32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luffy.plan import SHAPES, Layout, Shape, find_device, forward_flops, update_memory
from miniature.tokenizer import build_tokenizer

TINY = Shape(layers=4, hidden=192, heads=3, kv_heads=1, head_size=64, intermediate=512, vocabulary=2048, tied=True, biased=True)
OLD_PROBABILITY_NOISE = 0.1
ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{each}" for each in ("actor", "rollout", "model"))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured: a model's shape, rows, and how they are computed.

    Attributes:
        rows, prompt, response: rows of the update, and tokens of each.
        micro_rows: rows computed at once.
    """

    shape: Shape
    device: str = "cpu"
    rows: int = 8
    prompt: int = 64
    response: int = 192
    micro_rows: int = 4
    checkpointing: bool = False
    entropy: bool = True
    fused: bool = False
    more: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return self.rows * (self.prompt + self.response)


def write_model(shape: Shape, folder: Path) -> Path:
    """A Qwen2 model of that shape with random weights, in bf16 where it is large."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    large = shape.parameters > 1e9
    config = Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, max_position_embeddings=32768,
        tie_word_embeddings=shape.tied, dtype="bfloat16" if large else "float32", eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).to(torch.bfloat16 if large else torch.float32).save_pretrained(folder)
    return folder


def overrides(setting: Setting, model: Path) -> list[str]:
    """Of ``mix_ppo.yaml`` with the profile of the device."""
    gpu = setting.device != "cpu"
    tokens = setting.micro_rows * (setting.prompt + setting.response)
    chosen = {
        f"{MODEL}.path": model,
        f"{MODEL}.enable_gradient_checkpointing": setting.checkpointing,
        f"{MODEL}.use_fused_kernels": setting.fused,
        f"{ACTOR}.ppo_max_token_len_per_gpu" if gpu else f"{ACTOR}.ppo_micro_batch_size_per_gpu": tokens if gpu else setting.micro_rows,
        "luffy.objective.constant_length": setting.response,
    }
    one = ["trainer.n_gpus_per_node=1", f"{ROLLOUT}.tensor_model_parallel_size=1"]
    return [
        f"profile={'gpu' if gpu else 'cpu'}",
        *(["attention=sdpa"] if gpu else []),
        *one,
        *(f"{k}={v}" for k, v in chosen.items()),
        *setting.more,
    ]


@contextmanager
def process_group(rank: int = 0, ranks: int = 1, port: int = 0) -> Iterator[None]:
    """A process group of this process alone, or of several on this machine that know a free port."""
    from verl.utils.distributed import initialize_global_process_group_ray

    place = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    initialize_global_process_group_ray()
    yield
    torch.distributed.destroy_process_group()


def make_rows(setting: Setting, ranks: int) -> Any:
    """A rank's part of the rows, one demonstration in eight, in the format of veRL's actor."""
    from verl.utils import tensordict_utils as tu

    generator, shape = torch.Generator().manual_seed(0), setting.shape
    length, response = setting.prompt + setting.response, setting.response
    columns: dict[str, list[Tensor]] = {}
    for row in range(setting.rows // ranks):
        ids = torch.randint(3, min(256, shape.vocabulary), (length,), generator=generator)
        mask = torch.ones(response, dtype=torch.int64)
        near = -torch.log(torch.tensor(float(shape.vocabulary)))
        made = {
            "prompts": ids[: setting.prompt], "responses": ids[setting.prompt :], "input_ids": ids, "position_ids": torch.arange(length),
            "response_mask": mask, "loss_mask": mask, "advantages": torch.randn(1, generator=generator).expand(response).contiguous(),
            "old_log_probs": near + OLD_PROBABILITY_NOISE * torch.randn(response, generator=generator),
            "off_policy_mask": mask * (row % 8 == 0), "behaviour_prob": torch.ones(response), "row_correct": mask,
        }  # fmt: skip
        for name, value in made.items():
            columns.setdefault(name, []).append(value)
    ragged = {name: torch.nested.as_nested_tensor(values, layout=torch.jagged) for name, values in columns.items()}
    facts = {"calculate_entropy": setting.entropy, "distillation_use_topk": False, "distillation_only": False,
             "global_batch_size": setting.rows, "mini_batch_size": setting.rows, "epochs": 1, "seed": 0,
             "dataloader_kwargs": {"shuffle": False}, "temperature": 1.0, "global_token_num": [length] * setting.rows}  # fmt: skip
    return tu.get_tensordict(ragged, non_tensor_dict=facts)


class Actor:
    """veRL's actor worker on this process's device, with a choice of losses."""

    def __init__(self, setting: Setting, model: Path, ranks: int = 1) -> None:
        from hydra import compose, initialize_config_module
        from verl.utils.config import omega_conf_to_dataclass
        from verl.workers.utils.losses import ppo_loss

        from verl.mix_src.config import luffy_config
        from verl.mix_src.rl.loss import MixWorker, mix_ppo_loss

        with initialize_config_module("verl.mix_src.config", version_base=None):
            config = compose("mix_ppo", overrides=overrides(setting, model))
        self.worker = MixWorker(config.actor_rollout_ref, role="actor")
        self.worker.init_model()
        self.losses = {
            "luffy": partial(mix_ppo_loss, luffy_config(config).objective),
            "veRL": partial(ppo_loss, omega_conf_to_dataclass(config.actor_rollout_ref.actor)),
        }
        self.setting, self.rows = setting, make_rows(setting, ranks)

    @property
    def state(self) -> int:
        """Bytes of weights and moments."""
        engine = self.worker.actor.engine
        moments = [each for entry in engine.optimizer.state.values() for each in entry.values() if torch.is_tensor(each)]
        local = (each.to_local() if hasattr(each, "to_local") else each for each in (*engine.module.parameters(), *moments))
        return sum(each.numel() * each.element_size() for each in local)

    def update(self, loss: str) -> float:
        """One update; its seconds."""
        self.worker.set_loss_fn(self.losses[loss])
        start = time.perf_counter()
        self.worker.update_actor(self.rows.clone())
        if self.setting.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def peak(self, loss: str) -> int:
        """Most bytes of tensors in an update, weights and moments included."""
        if self.setting.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
            self.update(loss)
            return torch.cuda.max_memory_allocated()
        return self.state + peak_bytes(lambda: self.update(loss))


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes that PyTorch's allocations during some work hold at once, on a CPU."""
    with torch.profiler.profile(profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


SIZES = {  # name, so many million parameters; the first one gives the speed that the others' times are planned with
    "20M": replace(TINY, layers=6, hidden=448, heads=7, intermediate=1536, vocabulary=4096),
    "2M": TINY,
    "100M": replace(TINY, layers=12, hidden=768, heads=12, kv_heads=4, intermediate=2304, vocabulary=16384),
}
MATMUL = 1024  # size of the matrices by which a CPU's speed is measured


def layout_of(setting: Setting) -> Layout:
    """The setting as the plan sees it: one device, rows of one length."""
    tokens = setting.micro_rows * (setting.prompt + setting.response)
    gpu = setting.device != "cpu"
    return Layout(
        gpus=1, tensor_parallel=1, share=0.0, number=2 if gpu else 4, rollout_number=4, update_tokens=tokens, log_prob_tokens=tokens,
        row_tokens=setting.prompt + setting.response, checkpointing=setting.checkpointing, repeats_keys=gpu, mask=3 * gpu,
        fused=setting.fused, entropy=setting.entropy, compiled=gpu, offload_weights=False, offload_moments=False, bucket=0.0,
        reference=False, overhead=0.0,
    )  # fmt: skip


def planned_bytes(setting: Setting) -> float:
    """Most bytes of an update, as planned."""
    return sum(update_memory(setting.shape, layout_of(setting)).values())


def operations(setting: Setting, *, again: bool) -> float:
    """Of an update; ``again``: with what checkpointing computes a second time."""
    length = setting.prompt + setting.response
    return (4 if again and setting.checkpointing else 3) * forward_flops(setting.shape, setting.tokens, setting.rows * length**2)


def matmul_rate() -> float:
    """fp32 operations a processor second of one large product of matrices."""
    a = torch.randn(MATMUL, MATMUL)
    (a @ a).sum()
    seconds = min(processor_seconds(lambda: a @ a) for _ in range(10))
    return 2 * MATMUL**3 / seconds


def processor_seconds(work: Callable[[], Any]) -> float:
    """Of this process on all its threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def check(sizes: Sequence[str]) -> None:
    """Memory and time beside the plan: each size, with and without checkpointing; time by the share of a product's speed at the first."""
    rate, share = matmul_rate(), None
    print(f"one product of {MATMUL} x {MATMUL}: {rate / 1e9:.1f} GFLOP/s")
    print(
        "| model, tokens a micro-batch | checkpointing | MiB | planned | off | seconds | planned | off |\n|---|---|---|---|---|---|---|---|"
    )
    for name, checkpointing in ((name, each) for name in sizes for each in (False, True)):
        setting = Setting(shape=SIZES[name], checkpointing=checkpointing, rows=4, micro_rows=2)
        with tempfile.TemporaryDirectory() as folder:
            actor = Actor(setting, write_model(setting.shape, Path(folder)))
        actor.update("luffy")
        seconds = min(processor_seconds(lambda actor=actor: actor.update("luffy")) for _ in range(2))
        peak, planned = actor.peak("luffy"), planned_bytes(setting)
        share = share or operations(setting, again=True) / seconds / rate
        guessed = operations(setting, again=True) / (rate * share)
        print(
            f"| {name}, {setting.micro_rows * (setting.prompt + setting.response)} | {'yes' if checkpointing else 'no'} | {peak / 2**20:.0f} | "
            f"{planned / 2**20:.0f} | {planned / peak - 1:+.1%} | {seconds:.2f} | {guessed:.2f} | {guessed / seconds - 1:+.0%} |",
            flush=True,
        )
    print(f"share of a product's speed, from the first line: {share:.2f}")


def compare(setting: Setting, rounds: int) -> None:
    """This project's loss beside veRL's, in turn: seconds, tokens a second, MFU and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        actor = Actor(setting, write_model(setting.shape, Path(folder)))
    for loss in actor.losses:
        print(f"first update with the loss of {loss}: {actor.update(loss):.1f} s", file=sys.stderr, flush=True)
    seconds: dict[str, list[float]] = {loss: [] for loss in actor.losses}
    ratios = []
    for _ in range(rounds):
        before, mine, after = (actor.update(loss) for loss in ("veRL", "luffy", "veRL"))
        seconds["luffy"].append(mine)
        seconds["veRL"].append((before + after) / 2)
        ratios.append(2 * mine / (before + after))
        print(f"round {len(ratios)} of {rounds}: veRL {before:.2f} s, luffy {mine:.2f} s, veRL {after:.2f} s", file=sys.stderr, flush=True)
    name = "cpu" if setting.device == "cpu" else torch.cuda.get_device_name()
    device, peaks = find_device(name), {loss: actor.peak(loss) for loss in actor.losses}
    print(f"{setting.shape.parameters:,} parameters, {setting.rows} x {setting.prompt + setting.response} tokens, {name}")
    print(f"{'loss':8}{'seconds':>10}{'tokens/s':>12}{'MFU':>8}{'peak GiB':>10}")
    for loss, found in seconds.items():
        middle = statistics.median(found)
        mfu = f"{operations(setting, again=False) / middle / device.flops:.1%}" if device else "-"
        print(f"{loss:8}{middle:>10.3f}{setting.tokens / middle:>12.0f}{mfu:>8}{peaks[loss] / 2**30:>10.2f}")
    ratios.sort()
    low, middle, high = (ratios[int(q * (rounds - 1))] for q in (0.1, 0.5, 0.9))
    print(f"ratio of seconds {middle:.3f} ({low:.3f} to {high:.3f}), of memory {peaks['luffy'] / peaks['veRL']:.3f}; ", end="")
    print(f"planned memory {planned_bytes(setting) / 2**30:.2f} GiB")


def main() -> None:
    """Compare the losses, or check the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=("tiny", *SHAPES), default="tiny")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256, help="tokens of a row, a quarter of them the prompt's")
    parser.add_argument("--micro_rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", nargs="*", choices=tuple(SIZES), metavar="SIZE", help=f"beside the plan: {', '.join(SIZES)}")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="only write the model there")
    arguments = parser.parse_args()
    if arguments.write:
        write_model(TINY if arguments.shape == "tiny" else SHAPES[arguments.shape], arguments.write)
        return
    gpu = arguments.device != "cpu"
    if not gpu:
        torch.set_num_threads(1)
    setting = Setting(
        shape=TINY if arguments.shape == "tiny" else SHAPES[arguments.shape], device=arguments.device, rows=arguments.rows,
        prompt=arguments.length // 4, response=arguments.length - arguments.length // 4, micro_rows=arguments.micro_rows,
        checkpointing=gpu, fused=gpu,
    )  # fmt: skip
    with process_group():
        if arguments.check is None:
            compare(setting, arguments.rounds)
        else:
            check(arguments.check or tuple(SIZES))


if __name__ == "__main__":
    main()
