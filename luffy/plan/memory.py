"""Memory of a run by part and phase. The letters: :mod:`luffy.plan`."""

from __future__ import annotations

from dataclasses import dataclass

from luffy.plan.devices import GIB, Device
from luffy.plan.shapes import Shape

MASTER = 4  # bytes of a weight and of a gradient that is kept: veRL's FSDP keeps fp32
MOMENTS = 8  # bytes of Adam's two moments, fp32
CONTEXT = 3 * GIB  # of CUDA and NCCL, of the trainer and a sleeping vLLM together; 2.3 GiB seen of the trainer alone (docs/gpu.md)
FUSED_CHUNK = 512  # tokens whose logits veRL's fused log-probabilities hold at once


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a run is laid over its GPUs: what its memory depends on.

    Attributes:
        gpus: that share the weights of the trainer.
        tensor_parallel: GPUs that share a copy of the weights for rollouts.
        share: of each GPU's memory, for vLLM; 0 where the rollouts have GPUs of their own.
        number: c, bytes of a number in the forward pass.
        rollout_number: bytes of a number in the rollouts.
        update_tokens, log_prob_tokens: T, of an update and of a pass without one.
        row_tokens: longest prompt and response together.
        checkpointing: whether a layer's activations are computed again in the backward pass.
        repeats_keys: whether attention takes one key head a query head (PyTorch's with a mask), or as they are (flash-attn).
        mask: bytes of a mask for each pair of positions of a micro-batch.
        fused: whether log-probabilities are computed without all logits at once.
        entropy: whether the entropy of each token is computed.
        compiled: whether the entropy's kernel is compiled, and so keeps nothing of a logit's size.
        offload_weights, offload_moments: whether they leave the GPU while another phase runs.
        bucket: bytes of the weight sync's buffer.
        reference: whether a second model of this size computes log-probabilities.
        reference_stays: whether its weights are in this memory (a GPU gets them layer by layer from the host's).
        key_value_bytes: of the cache, where it has a size of its own (on a CPU); 0: what is left of ``share``.
        batched_tokens, sequences: that vLLM computes at once.
        overhead: bytes of what is no tensor: contexts on a GPU, the parts' processes on a CPU.
        sleeps: whether vLLM gives its memory back between rollouts.
    """

    gpus: int
    tensor_parallel: int
    share: float
    number: int
    rollout_number: int
    update_tokens: int
    log_prob_tokens: int
    row_tokens: int
    checkpointing: bool
    repeats_keys: bool
    mask: int
    fused: bool
    entropy: bool
    compiled: bool
    offload_weights: bool
    offload_moments: bool
    bucket: float
    reference: bool
    reference_stays: bool = False
    key_value_bytes: float = 0.0
    batched_tokens: int = 8192
    sequences: int = 1024
    overhead: float = CONTEXT
    sleeps: bool = True


Parts = dict[str, float]  # bytes by part
PARTS = ("weights", "optimizer", "gradients", "gathered", "activations", "logits", "reference", "rollout weights", "KV cache",
         "vLLM's own", "sync", "overhead")  # fmt: skip


def layer_bytes(shape: Shape, layout: Layout) -> int:
    """Bytes a token that one layer keeps for its backward pass.

    Each of two norms keeps its input in fp32, its normed input and its output: (4 + 2c)h, and an fp32 number. Attention keeps queries, keys, values and output,
    and an fp32 number a head; the MLP gate, activated gate, up and their product: 4cI. Source: counted on transformers' Qwen2.
    """
    c, key = layout.number, shape.query if layout.repeats_keys else shape.key
    return 2 * (4 + 2 * c) * shape.hidden + c * (2 * shape.query + 2 * key) + 4 * shape.heads + 8 + 4 * c * shape.intermediate


def logit_bytes(shape: Shape, layout: Layout, *, update: bool) -> float:
    """Bytes a token that logits and what is computed from them take at once.

    On a GPU an update has the logits, the gradient of the log-probabilities and that of the entropy, whose kernel is compiled. Where nothing
    is compiled, five of that size, and two more for the entropy (softmax and product), as PyTorch's profiler counts them.
    """
    if layout.compiled:
        alive = 2 + layout.entropy if update else 1
    else:
        alive = (5 if update else 3) + 2 * layout.entropy * update
    return alive * layout.number * shape.vocabulary


def _logits(shape: Shape, layout: Layout, tokens: int, *, update: bool) -> float:
    if layout.fused:  # of a chunk, in fp32; with an update also two gradients of the head's weights
        alive = (5 + 2 * layout.entropy if update else 4) * MASTER
        sums = layout.number * shape.embedding * update * (1 if _shards(layout) else 2)
        return FUSED_CHUNK * shape.vocabulary * alive + sums
    return logit_bytes(shape, layout, update=update) * tokens


def _shards(layout: Layout) -> bool:
    """Whether FSDP computes with copies of its weights: whole ones of shards, or in another number format."""
    return layout.gpus > 1 or layout.number != MASTER


def _gathered(shape: Shape, layout: Layout, *, update: bool, head: bool) -> float:
    """Whole weights that FSDP holds beside its shards, and the gradients of them before they are shared out in fp32."""
    c, group = layout.number, shape.embedding if head else shape.layer
    if not _shards(layout):
        return group * 2 * MASTER if update and not head else 0.0
    whole = group * c if head else 2 * group * c  # the next layer is fetched while one computes
    root = shape.embedding * c if shape.tied and not head else 0  # tied embeddings stay whole
    return whole + root + (group * (c + MASTER) if update else 0)


def _state(shape: Shape, layout: Layout, *, weights: bool = True, moments: bool = False) -> Parts:
    """What the trainer holds between its passes; what is offloaded is there only where a phase needs it."""
    parts = {"overhead": layout.overhead}
    if layout.reference and layout.reference_stays:
        parts["reference"] = MASTER * shape.parameters / layout.gpus
    if weights or not layout.offload_weights:
        parts["weights"] = MASTER * shape.parameters / layout.gpus
    if moments or not layout.offload_moments:
        parts["optimizer"] = MOMENTS * shape.parameters / layout.gpus
    return parts


def update_memory(shape: Shape, layout: Layout) -> Parts:
    """Of the largest moment of an update: the head's backward pass, that of a layer, or Adam's step."""
    tokens, c = layout.update_tokens, layout.number
    one = layer_bytes(shape, layout) * tokens
    kept = shape.layers * (c * shape.hidden * tokens if layout.checkpointing else one) + layout.mask * tokens**2
    final = (4 + 3 * c) * shape.hidden * tokens  # the last norm, and the embeddings
    gradients = {"gradients": MASTER * shape.parameters / layout.gpus}
    head = {
        "activations": kept + final,
        "logits": _logits(shape, layout, tokens, update=True),
        "gathered": _gathered(shape, layout, update=True, head=True),
    }
    layer = {
        "activations": kept
        + (one if layout.checkpointing else 0)
        + c * (4 * shape.hidden + 3 * shape.intermediate) * tokens,  # and gradients
        "gathered": _gathered(shape, layout, update=True, head=False),
    }
    step = {"activations": MASTER * shape.parameters / layout.gpus}  # Adam's square roots, all at once
    largest = max((head, layer, step), key=lambda parts: sum(parts.values()))
    return _state(shape, layout, moments=True) | gradients | largest


def forward_memory(shape: Shape, layout: Layout) -> Parts:
    """Of a pass without a gradient: nothing is kept from layer to layer, so that its most is one MLP or the logits."""
    tokens, c = layout.log_prob_tokens, layout.number
    logits, inside = _logits(shape, layout, tokens, update=False), 3 * c * shape.intermediate * tokens
    moment = {"logits": logits, "activations": 0.0} if logits > inside else {"logits": 0.0, "activations": inside}
    moment["activations"] += 3 * c * shape.hidden * tokens + layout.mask * tokens**2
    return _state(shape, layout) | moment | {"gathered": _gathered(shape, layout, update=False, head=logits > inside)}


def engine_memory(shape: Shape, layout: Layout, memory: float) -> Parts:
    """Of vLLM on one GPU of so many bytes: its weights, what its largest batch takes, and the key-value cache."""
    weights = layout.rollout_number * shape.parameters / layout.tensor_parallel
    own = layout.batched_tokens * layout.rollout_number * (4 * shape.hidden + 3 * shape.intermediate / layout.tensor_parallel)
    own += layout.sequences * shape.vocabulary * (layout.rollout_number + 8)  # logits, and the sampler's two copies in fp32
    cache = layout.key_value_bytes or layout.share * memory - weights - own
    return {"rollout weights": weights, "vLLM's own": own, "KV cache": cache}


def cache_tokens(shape: Shape, layout: Layout, memory: float) -> float:
    """Tokens that the key-value cache of one replica holds."""
    cache = engine_memory(shape, layout, memory)["KV cache"]
    return cache * layout.tensor_parallel / (layout.rollout_number * shape.key_values)


def memory(shape: Shape, layout: Layout, device: Device) -> dict[str, Parts]:
    """Bytes on each GPU of the trainer, by phase and part; a phase's sum is what must fit.

    Where the rollouts have GPUs of their own (``share`` 0), the trainer's rollout phase is its state.
    """
    together = bool(layout.share or layout.key_value_bytes)
    engine = engine_memory(shape, layout, device.memory) if together else {}
    asleep = {} if layout.sleeps else engine
    largest = max(shape.embedding, shape.hidden * shape.intermediate)
    phases = {
        "rollout": _state(shape, layout, weights=False) | engine,
        "old log-prob": forward_memory(shape, layout) | asleep,
        "update": update_memory(shape, layout) | asleep,
        "weight sync": _state(shape, layout)
        | {name: size for name, size in engine.items() if name == "rollout weights" or not layout.sleeps}
        | {"sync": layout.bucket + (MASTER + layout.rollout_number) * largest * (layout.gpus > 1)},
    }
    if layout.reference:
        phases["reference"] = phases["old log-prob"]
    return phases
