"""The two ends of veRL's weight sync into vLLM, which meet at a socket of the run's own (:func:`own_socket`)."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from verl.mix_src.run.processes import own_socket


class MixServerAdapter(ServerAdapter):
    """The sending end, in an actor worker; ``register`` puts it in the place of veRL's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zmq_handle = own_socket(self.zmq_handle)


class MixWorkerExtension(vLLMColocateWorkerExtension):
    """The receiving end, in a vLLM worker; ``rollout.engine_kwargs.vllm.worker_extension_cls`` names it."""

    def update_weights_from_ipc(self, *args: Any, **kwargs: Any) -> None:
        """Receive one full set of weights. A failure ends the process: the sending end has no time limit and would wait for ever."""
        try:
            super().update_weights_from_ipc(*args, **kwargs)
        except Exception:  # noqa: BLE001  whatever it is, nobody else would hear of it
            traceback.print_exc()  # for the run's log, where what failed first is looked for
            sys.stderr.flush()
            os._exit(1)

    def _get_zmq_handle(self) -> str:
        return own_socket(super()._get_zmq_handle())


class CpuWorkerExtension(MixWorkerExtension):
    """In vLLM's CPU worker: weights go in by vLLM's own layerwise reload, which packs each layer anew for oneDNN after every sync."""

    def update_weights_from_ipc(self, *args: Any, **kwargs: Any) -> None:
        """Receive one full set of weights through shared memory."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

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
