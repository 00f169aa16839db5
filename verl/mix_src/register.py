"""What ``import verl`` loads in every process, by the entry point ``verl.plugins``.

veRL swallows errors of its plugins, so :data:`LOADED` lets the start-up check see that this module ran.
"""

from __future__ import annotations

import torch

from verl.mix_src import resolvers


def runs_on_cpu() -> bool:
    """Whether the installed PyTorch is a CPU build, so that veRL needs the CPU platform."""
    return torch.version.cuda is None and torch.version.hip is None


resolvers.register()

if runs_on_cpu():
    from verl.mix_src.cpu import patches, platform  # noqa: F401  registers the platform "cpu"

    patches.apply()

from verl.workers.rollout import base as rollouts  # noqa: E402  after the patches, as it imports much of veRL

rollouts._ROLLOUT_REGISTRY["vllm", "async"] = "verl.mix_src.weight_sync.MixServerAdapter"
LOADED = True
