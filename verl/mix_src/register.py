"""What ``import verl`` loads in every process, by the entry point ``verl.plugins``.

veRL swallows errors of its plugins, so :data:`LOADED` lets the start-up check see that this module ran.
"""

from __future__ import annotations

import verl.mix_src.config  # noqa: F401  interpolations
from verl.mix_src.upstream import runs_on_cpu

if runs_on_cpu():
    from verl.mix_src import cpu  # registers the platform "cpu"

    cpu.patch()

from verl.workers.rollout import base as rollouts

from verl.mix_src.run.sockets import patch_store

patch_store()
rollouts._ROLLOUT_REGISTRY["vllm", "async"] = "verl.mix_src.rl.weight_sync.MixServerAdapter"
LOADED = True
