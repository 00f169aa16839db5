"""Weight sync into vLLM's CPU worker, chosen by ``rollout.engine_kwargs.vllm.worker_extension_cls``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from verl.mix_src.weight_sync import MixWorkerExtension


class CpuWorkerExtension(MixWorkerExtension):
    """Reload weights by vLLM's own layerwise reload, which packs each layer anew for oneDNN after every sync."""

    def update_weights_from_ipc(self, *args: Any, **kwargs: Any) -> None:
        """Receive one full set of weights through shared memory."""
        model = self.model_runner.model
        initialize_layerwise_reload(model)
        super().update_weights_from_ipc(*args, **kwargs)
        finalize_layerwise_reload(model, self.model_runner.model_config)

    def _update_weights(self, weights: list[tuple[str, Any]], **kwargs: Any) -> None:
        # On the CPU a received tensor is a view of the shared bucket; the reload keeps tensors until a layer is whole.
        super()._update_weights([(name, tensor.clone()) for name, tensor in weights], **kwargs)

    def _iter_all_models_with_config(self) -> Iterator[Any]:
        # veRL would post-process the layers a second time; the reload has done it.
        return iter(())
