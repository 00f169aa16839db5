"""The folder of an SFT run: its checkpoints, and one metrics file of training steps and held-out answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from luffy.training_report import read_metrics, write_metrics
from verl.mix_src.run_files import CHECKPOINT, RunFiles


@dataclass(frozen=True)
class SftFiles(RunFiles):
    """Names within the run's folder, where veRL's SFT trainer puts things."""

    @property
    def held_out(self) -> Path:
        """Answers to the held-out problems, by step."""
        return self.folder / "heldout"

    @property
    def hf_model(self) -> Path | None:
        """The newest checkpoint's Hugging Face model, or None."""
        exported = self.exported_models()
        return exported[max(exported)] if exported else None

    def exported_models(self) -> dict[int, Path]:
        """Hugging Face models of the checkpoints, by step, in order."""
        found = {}
        for folder in self.folder.glob("global_step_*/huggingface"):
            match = CHECKPOINT.fullmatch(folder.parent.name)
            if match and any(folder.glob("*.safetensors")):
                found[int(match[1])] = folder
        return dict(sorted(found.items()))

    def add_metrics(self, by_step: Mapping[int, Mapping[str, float]]) -> None:
        """Join further metrics to the steps of the metrics file, which stays one line a step, in order."""
        steps = {record["step"]: record["data"] for record in (read_metrics(self.metrics) if self.metrics.exists() else [])}
        for step, data in by_step.items():
            steps[step] = steps.get(step, {}) | data
        write_metrics(self.metrics, [{"step": step, "data": steps[step]} for step in sorted(steps)])
