"""What a training needs before it starts: memory by part and phase, operations and time. Arithmetic alone, nothing is loaded.

Letters of the formulas: P parameters, N GPUs that share the weights (FSDP), h hidden size, I intermediate size, q and kv widths of all
query and key heads, V vocabulary, L layers, T tokens of a micro-batch, c bytes of a number in the forward pass (2 in bf16, 4 in fp32).
docs/performance.md holds the results against measurements.
"""

from luffy.plan.devices import GIB, GPUS, Device, find_device
from luffy.plan.fitting import Change, nearest, short_of
from luffy.plan.memory import PARTS, Layout, Parts, cache_tokens, layer_bytes, memory, update_memory
from luffy.plan.shapes import SHAPES, Shape, named_shape
from luffy.plan.work import Work, forward_flops, step_flops, step_seconds

__all__ = [
    "GIB", "GPUS", "PARTS", "SHAPES", "Change", "Device", "Layout", "Parts", "Shape", "Work", "cache_tokens", "find_device",
    "forward_flops", "layer_bytes", "memory", "named_shape", "nearest", "short_of", "step_flops", "step_seconds", "update_memory",
]  # fmt: skip
