"""What a training needs before it starts: memory by part and phase, disk, operations and time. Arithmetic alone, nothing is loaded.

Letters of the formulas: P parameters, N GPUs that share the weights (FSDP), h hidden size, I intermediate size, q and kv widths of all
query and key heads, V vocabulary, L layers, T tokens of a micro-batch, c bytes of a number in the forward pass (2 in bf16, 4 in fp32).
docs/performance.md holds the results against measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from luffy.errors import InputError

GIB = 2**30
MASTER = 4  # bytes of a weight and of a gradient that is kept: veRL's FSDP keeps fp32
MOMENTS = 8  # bytes of Adam's two moments, fp32
CONTEXT = 3 * GIB  # of CUDA and NCCL, of the trainer and a sleeping vLLM together; 2.3 GiB seen of the trainer alone (docs/gpu.md)
FUSED_CHUNK = 512  # tokens whose logits veRL's fused log-probabilities hold at once
BIASED = ("qwen2",)  # model types whose query, key and value projections have biases without saying so
NORMED = ("qwen3",)  # model types that norm each head's queries and keys
KNOWN = ("llama", "mistral", "qwen2", "qwen3")

# Shares of a data sheet's figures that are reached. Published: FSDP2 with compiled layers computes Llama 3 8B at 57 % of an A100's figure
# and, recomputing, 70B at 52 % x 4/3 (torchtitan, docs/performance.md); Hugging Face's layers are not compiled and rows are ragged: 40 %.
COMPUTE = 0.40
BANDWIDTH = 0.60  # of vLLM's reads of weights and keys; the rest is launches and small kernels
TICK = 0.006  # seconds of scheduling, sampling and detokenizing for each token of a batch of hundreds of rows, beside the reads


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A dense decoder: its sizes, as ``config.json`` says them.

    Attributes:
        biased: whether queries, keys and values have biases.
        biased_output: whether the attention's output has one.
        normed: whether each head's queries and keys are normed.
        tied: whether input and output embeddings are one matrix.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool
    biased: bool = False
    biased_output: bool = False
    normed: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Shape:
        """Of a model's ``config.json``.

        Raises:
            InputError: where it is not a dense decoder of a known form.
        """
        config = config.get("text_config", config)
        kind, heads = config.get("model_type"), int(config.get("num_attention_heads") or 0)
        if kind not in KNOWN or not heads:
            raise InputError(f"the plan knows dense models of the types {', '.join(KNOWN)}, and this one is {kind!r}")
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            biased=kind in BIASED or bool(config.get("attention_bias")),
            biased_output=bool(config.get("attention_bias")),
            normed=kind in NORMED,
        )

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_size

    @property
    def key(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_size

    @property
    def matrices(self) -> int:
        """Weights of one layer's matrices: each costs a multiplication and an addition a token."""
        return self.hidden * (2 * self.query + 2 * self.key + 3 * self.intermediate)

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        biases = self.biased * (self.query + 2 * self.key) + self.biased_output * self.hidden
        return self.matrices + biases + 2 * self.hidden + self.normed * 2 * self.head_size

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, and of the output's where it is another."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them; Qwen2.5-7B: 7 615 616 512."""
        return self.layers * self.layer + (1 if self.tied else 2) * self.embedding + self.hidden

    @property
    def key_values(self) -> int:
        """Numbers that a token leaves in the key-value cache; Qwen2.5-7B: 2 x 28 x 4 x 128 = 28 672, so 57 344 bytes in bf16."""
        return 2 * self.layers * self.key


def _qwen2(layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int, tied: bool = False) -> Shape:
    size = hidden // heads
    return Shape(layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, head_size=size, intermediate=intermediate,
                 vocabulary=vocabulary, tied=tied, biased=True)  # fmt: skip


SHAPES = {  # by the beginning of the name of a model or its folder; from their config.json on the Hugging Face Hub
    "Qwen2.5-Math-1.5B": _qwen2(28, 1536, 12, 2, 8960, 151936, tied=True),
    "Qwen2.5-1.5B": _qwen2(28, 1536, 12, 2, 8960, 151936, tied=True),
    "Qwen2.5-Math-7B": _qwen2(28, 3584, 28, 4, 18944, 152064),
    "Qwen2.5-7B": _qwen2(28, 3584, 28, 4, 18944, 152064),
    "Qwen2.5-32B": _qwen2(64, 5120, 40, 8, 27648, 152064),
    "Llama-3.1-8B": replace(_qwen2(32, 4096, 32, 8, 14336, 128256), biased=False),
}


def named_shape(name: str) -> Shape | None:
    """The built-in shape of a model or folder, such as ``models/Qwen2.5-Math-7B-16k``; None where there is none."""
    base = name.rstrip("/").rpartition("/")[2]
    return next((shape for known, shape in SHAPES.items() if base.startswith(known)), None)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or a machine without one.

    Attributes:
        memory: bytes that PyTorch sees; a little under the name's.
        flops: operations a second, dense bf16, of the data sheet.
        bandwidth: bytes a second between memory and processor.
        source: where the figures are from.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    source: str


GPUS = {
    device.name: device
    for device in (
        Device(name="A100-40GB", memory=39.4 * GIB, flops=312e12, bandwidth=1.555e12, source="NVIDIA A100 data sheet, SXM"),
        Device(name="A100-80GB", memory=79.1 * GIB, flops=312e12, bandwidth=2.039e12, source="NVIDIA A100 data sheet, SXM"),
        Device(name="H100", memory=79.1 * GIB, flops=989e12, bandwidth=3.35e12, source="NVIDIA H100 data sheet, SXM, without sparsity"),
        Device(name="H200", memory=139.8 * GIB, flops=989e12, bandwidth=4.8e12, source="NVIDIA H200 data sheet, SXM, without sparsity"),
        Device(name="L40S", memory=44.4 * GIB, flops=362e12, bandwidth=0.864e12, source="NVIDIA L40S data sheet, without sparsity"),
        Device(name="RTX-4090", memory=23.5 * GIB, flops=165e12, bandwidth=1.008e12, source="NVIDIA Ada architecture paper, fp32 sums"),
    )
}


def find_device(name: str) -> Device | None:
    """The GPU that a name of the table, or of the driver ("NVIDIA A100-SXM4-80GB"), means."""
    plain = name.upper().replace(" ", "-")
    return next((device for each, device in GPUS.items() if all(part in plain for part in each.upper().split("-"))), None)


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


def step_flops(shape: Shape, work: Work) -> dict[str, float]:
    """Operations of one step by phase; an update is three forward passes, four where layers are computed again."""
    forward = forward_flops(shape, work.tokens, work.pairs)
    flops = {"rollout": forward_flops(shape, work.sampled + work.prompts * work.prompt, work.rollouts * work.response**2)}
    if work.old_pass:
        flops["old log-prob"] = work.old_pass * forward
    if work.reference:
        flops["reference"] = forward
    return flops | {"update": (4 if work.checkpointing else 3) * forward}


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
    sync = 4 * (MASTER + layout.rollout_number) * shape.parameters / device.bandwidth
    return {"rollout": rollout_seconds(shape, layout, work, device, rollout_gpus)} | computed | {"weight sync": sync}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting of a run that gives room, and how to ask for it.

    Attributes:
        overrides: by key.
        layout: with it.
    """

    overrides: dict[str, Any]
    layout: Layout


def short_of(phases: Mapping[str, Parts], available: float) -> dict[str, float]:
    """Bytes that are missing, by phase."""
    needed = {phase: sum(parts.values()) for phase, parts in phases.items()}
    return {phase: size - available for phase, size in needed.items() if size > available}


def nearest(layout: Layout, fits: Callable[[Layout], bool], levers: Sequence[Callable[[Layout], Iterable[Change]]]) -> Change | None:
    """The first change that fits: of one lever from its smallest step on, then of two together, then of more; None where none does.

    Args:
        layout: what does not fit.
        fits: whether a layout does.
        levers: what can be changed, the least harm first; each yields its changes of a layout, the smallest first.
    """
    for size in range(1, len(levers) + 1):
        for chosen in combinations(levers, size):
            made = Change(overrides={}, layout=layout)
            for lever in chosen[:-1]:  # these as far as they go
                made = _on_top(made, list(lever(made.layout))[-1:])
            if found := next((each for each in chosen[-1](made.layout) if fits(each.layout)), None):
                return _on_top(made, [found])
    return None


def _on_top(change: Change, more: Sequence[Change]) -> Change:
    return Change(overrides=change.overrides | more[0].overrides, layout=more[0].layout) if more else change
