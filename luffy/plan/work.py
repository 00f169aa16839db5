"""Operations and seconds of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from luffy.plan.devices import Device
from luffy.plan.memory import MASTER, Layout, cache_tokens
from luffy.plan.shapes import Shape

# Shares of a data sheet's figures that are reached. Published: FSDP2 with compiled layers computes Llama 3 8B at 57 % of an A100's figure
# and, recomputing, 70B at 52 % x 4/3 (torchtitan, docs/performance.md); Hugging Face's layers are not compiled and rows are ragged: 40 %.
COMPUTE = 0.40
BANDWIDTH = 0.60  # of vLLM's reads of weights and keys; the rest is launches and small kernels
TICK = 0.006  # seconds of scheduling, sampling and detokenizing for each token of a batch of hundreds of rows, beside the reads
MASKED = 88e12  # operations a second of PyTorch's attention with a mask, whatever it masks: one H200, 8 192 tokens (docs/performance.md)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The rows of one step, and how long they are in the mean.

    Attributes:
        prompts, group, demonstrations: prompts, rows of each, and how many of those are whole demonstrations.
        prompt, response, demonstration: tokens in the mean.
        longest: of a response; the batch ends with its longest row.
        old_pass: share of the rows whose old log-probabilities are computed in a pass of their own.
        reference: whether those of a reference are.
        checkpointing: see :class:`Layout`.
    """

    prompts: int
    group: int
    demonstrations: int
    prompt: float
    response: float
    demonstration: float
    longest: int
    old_pass: float
    reference: bool
    checkpointing: bool

    @property
    def rollouts(self) -> int:
        """Rows that the policy samples."""
        return self.prompts * (self.group - self.demonstrations)

    @property
    def sampled(self) -> float:
        """Tokens that the policy samples."""
        return self.rollouts * self.response

    @property
    def tokens(self) -> float:
        """Of all rows, prompts included: what an update computes."""
        return self.sampled + self.prompts * (self.demonstrations * self.demonstration + self.group * self.prompt)

    @property
    def pairs(self) -> float:
        """Pairs of positions, the sum of squared lengths; rollouts spread as an exponential does, E[l²] = 2 E[l]², up to the longest."""
        spread = min(2.0, max(1.0, self.longest / max(self.response, 1.0)))
        rollouts = self.rollouts * ((self.response**2) * spread + 2 * self.prompt * self.response + self.prompt**2)
        return rollouts + self.prompts * self.demonstrations * (self.prompt + self.demonstration) ** 2


def forward_flops(shape: Shape, tokens: float, pairs: float) -> float:
    """Operations of a forward pass: two a weight of each matrix a token, and two products of half the pairs (causal) in each layer."""
    return 2 * (shape.layers * shape.matrices + shape.embedding) * tokens + 2 * shape.layers * shape.query * pairs


def masked_flops(shape: Shape, tokens: float, together: int) -> float:
    """Operations of a forward pass's attention where packed rows are kept apart by a mask: each token with all of its micro-batch."""
    return 4 * shape.layers * shape.query * tokens * together


def _passes(work: Work) -> dict[str, float]:
    """Forward passes by phase: an update is three, four where layers are computed again."""
    passes = {"old log-prob": work.old_pass, "reference": float(work.reference), "update": 4.0 if work.checkpointing else 3.0}
    return {phase: number for phase, number in passes.items() if number}


def step_flops(shape: Shape, work: Work) -> dict[str, float]:
    """Operations of one step by phase."""
    forward = forward_flops(shape, work.tokens, work.pairs)
    flops = {"rollout": forward_flops(shape, work.sampled + work.prompts * work.prompt, work.rollouts * work.response**2)}
    return flops | {phase: passes * forward for phase, passes in _passes(work).items()}


def rollout_seconds(shape: Shape, layout: Layout, work: Work, device: Device, gpus: int) -> float:
    """Of a batch of rollouts: each next token reads all weights once, each row its keys and values, and the longest row is waited for."""
    replicas = max(1, gpus // layout.tensor_parallel)
    rows, reached = work.rollouts / replicas, BANDWIDTH * device.bandwidth * layout.tensor_parallel
    weights = layout.rollout_number * (shape.layers * shape.matrices + shape.embedding) / reached
    half = work.prompt + work.pairs / max(work.tokens, 1.0) / 2  # tokens that a token looks back at, in the mean
    keys = rows * work.response * half * layout.rollout_number * shape.key_values / reached
    full = cache_tokens(shape, layout, device.memory) if layout.share else math.inf
    waves = max(1.0, rows * (work.prompt + work.response) / max(full, 1.0))  # rows that find no place in the cache wait
    compute = step_flops(shape, work)["rollout"] / (COMPUTE * device.flops * gpus)
    return waves * work.longest * (weights + TICK) + keys + compute


def step_seconds(shape: Shape, layout: Layout, work: Work, device: Device, *, rollout_gpus: int) -> dict[str, float]:
    """Seconds of one step by phase; weights are sent at half of the GPU's bandwidth for each of two copies."""
    speed = COMPUTE * device.flops * layout.gpus
    computed = {phase: flops / speed for phase, flops in step_flops(shape, work).items() if phase != "rollout"}
    if layout.mask:
        for phase, passes in _passes(work).items():
            together = layout.update_tokens if phase == "update" else layout.log_prob_tokens
            computed[phase] += passes * masked_flops(shape, work.tokens, together) / (MASKED * layout.gpus)
    sync = 4 * (MASTER + layout.rollout_number) * shape.parameters / device.bandwidth
    return {"rollout": rollout_seconds(shape, layout, work, device, rollout_gpus)} | computed | {"weight sync": sync}
