"""What a config can change where a run does not fit, and the line that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from luffy.plan import GIB, Change, Layout, nearest, short_of
from verl.mix_src.plan.reading import Plan

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
EVERY_STEP = 0.01  # vLLM's share of a GPU is changed by so much


def levers(plan: Plan) -> list[Callable[[Layout], Iterator[Change]]]:
    """What gives room, the least harm first: smaller micro-batches, less for vLLM, more computing, offloading, more GPUs."""
    config, heads = plan.config, plan.shape.kv_heads
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout

    def tokens(field: str, by_tokens: bool, key: str, rows_key: str) -> Callable[[Layout], Iterator[Change]]:
        def lever(layout: Layout) -> Iterator[Change]:
            now, row = getattr(layout, field), layout.row_tokens
            step = 16 * max(1, (now - row) // 1024) if by_tokens else row
            for fewer in [*range(now - step, row, -step), *([row] if now > row else [])]:
                yield Change(overrides={key: fewer} if by_tokens else {rows_key: fewer // row}, layout=replace(layout, **{field: fewer}))

        return lever

    def share(layout: Layout) -> Iterator[Change]:
        for hundredths in range(round(layout.share * 100) - 1, 9, -1):
            less = round(hundredths * EVERY_STEP, 2)
            yield Change(overrides={f"{ROLLOUT}.gpu_memory_utilization": less}, layout=replace(layout, share=less))

    def switch(field: str, key: str, possible: bool = True) -> Callable[[Layout], Iterator[Change]]:
        def lever(layout: Layout) -> Iterator[Change]:
            if possible and not getattr(layout, field):
                yield Change(overrides={key: "true"}, layout=replace(layout, **{field: True}))

        return lever

    def tensor_parallel(layout: Layout) -> Iterator[Change]:
        for size in (2, 4, 8):
            if layout.tensor_parallel < size <= plan.rollout_gpus and not heads % size and not plan.rollout_gpus % size:
                yield Change(overrides={f"{ROLLOUT}.tensor_model_parallel_size": size}, layout=replace(layout, tensor_parallel=size))

    def gpus(layout: Layout) -> Iterator[Change]:
        for nodes, each in ((1, 2), (1, 4), (1, 8), (2, 8), (4, 8), (8, 8)):
            if nodes * each > layout.gpus:
                yield Change(
                    overrides={"trainer.nnodes": nodes, "trainer.n_gpus_per_node": each}, layout=replace(layout, gpus=nodes * each)
                )

    on_gpu = config.trainer.device != "cpu"
    model = "actor_rollout_ref.model"
    found = [
        tokens("update_tokens", actor.use_dynamic_bsz, f"{ACTOR}.ppo_max_token_len_per_gpu", f"{ACTOR}.ppo_micro_batch_size_per_gpu"),
        tokens("log_prob_tokens", rollout.log_prob_use_dynamic_bsz, f"{ROLLOUT}.log_prob_max_token_len_per_gpu",
               f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu"),
        *([share] if plan.layout.share else []),
        switch("fused", f"{model}.use_fused_kernels", bool(config.actor_rollout_ref.model.use_remove_padding)),
        switch("checkpointing", f"{model}.enable_gradient_checkpointing"),
    ]  # fmt: skip
    if on_gpu:
        offload = f"{ACTOR}.fsdp_config"
        found += [switch("offload_moments", f"{offload}.optimizer_offload"), switch("offload_weights", f"{offload}.param_offload"),
                  tensor_parallel, gpus]  # fmt: skip
    return found


def refusal(plan: Plan) -> str | None:
    """One line where the run cannot fit: what is missing, and the overrides to paste; None where it fits."""
    if plan.fits(plan.layout):
        return None
    short, memory_of = short_of(plan.phases(), plan.device.memory), f"{plan.device.memory / GIB:.1f} GiB of {plan.device.name}"
    if short:
        phase = max(short, key=lambda each: short[each])
        why = f"{phase}: about {(short[phase] + plan.device.memory) / GIB:.1f} GiB needed of the {memory_of}"
    else:
        why = f"rollout: vLLM's share of the {memory_of} holds no whole row of {plan.layout.row_tokens} tokens"
    if change := nearest(plan.layout, plan.fits, levers(plan)):
        return f"{why}: set {' '.join(f'{key}={value}' for key, value in change.overrides.items())}"
    return f"{why}: no setting makes it fit; take a smaller model, shorter rows, or GPUs with more memory"
