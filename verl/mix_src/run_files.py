"""The folder of a run: where its files are, and what is done to them when the run starts, goes on or begins anew."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from luffy.data.atomic import replacing
from luffy.training_report import read_metrics, write_metrics

LATEST = "latest_checkpointed_iteration.txt"  # veRL's note of the newest checkpoint
CHECKPOINT = re.compile(r"global_step_(\d+)")
OF_A_RUN = (
    "global_step_*", LATEST, "run.json", "lengths.json", "summary.json", "config.yaml", "metrics*.jsonl", "heldout*", "train.log", "plots",
    "data/*_train.parquet", "data/*_held_out.parquet",
)  # fmt: skip
EARLIER = "earlier"


@dataclass(frozen=True)
class RunFiles:
    """Names within the run's folder (``trainer.default_local_dir``)."""

    folder: Path

    @property
    def log(self) -> Path:
        """Everything that veRL, Ray and vLLM print."""
        return self.folder / "train.log"

    @property
    def metrics(self) -> Path:
        """One JSON object a step, of the whole run."""
        return self.folder / "metrics.jsonl"

    @property
    def config(self) -> Path:
        """The resolved config of the last start."""
        return self.folder / "config.yaml"

    @property
    def record(self) -> Path:
        """What run this is (:mod:`verl.mix_src.same_run`), and its starts so far."""
        return self.folder / "run.json"

    @property
    def lengths(self) -> Path:
        """Token counts of large data files."""
        return self.folder / "lengths.json"

    @property
    def summary(self) -> Path:
        """The run in one JSON object."""
        return self.folder / "summary.json"

    @property
    def plots(self) -> Path:
        """Pictures of the curves."""
        return self.folder / "plots"

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint, or None."""
        latest = self.folder / LATEST
        found = self.folder / f"global_step_{latest.read_text().strip()}" if latest.exists() else None
        return found if found is not None and found.is_dir() else None

    @property
    def hf_model(self) -> Path | None:
        """The newest checkpoint's Hugging Face model, or None where none was exported."""
        exported = self.checkpoint / "actor" / "huggingface" if self.checkpoint else None
        return exported if exported and any(exported.glob("*.safetensors")) else None

    @property
    def holds_a_run(self) -> bool:
        """Whether an earlier run left steps or a checkpoint here."""
        return self.checkpoint is not None or (self.metrics.exists() and self.metrics.stat().st_size > 0)

    def first_step(self, config: DictConfig) -> int:
        """The step after which the run goes on: that of the checkpoint that veRL will load, or 0."""
        mode, checkpoint = config.trainer.resume_mode, self.checkpoint
        if mode == "resume_path":
            checkpoint = Path(str(config.trainer.resume_from_path))
        match = CHECKPOINT.fullmatch(checkpoint.name) if checkpoint and mode != "disable" else None
        return int(match[1]) if match else 0

    def prepare(self, config: DictConfig, identity: dict[str, Any]) -> None:
        """Make the folder ready for a start: metrics end where the run goes on, the record is this run's."""
        if config.trainer.resume_mode == "disable":
            self._set_aside()
        self.folder.mkdir(parents=True, exist_ok=True)
        goes_on = self.holds_a_run
        if self.metrics.exists():
            first = self.first_step(config)
            write_metrics(self.metrics, [record for record in read_metrics(self.metrics) if record["step"] <= first])
        self.update_record(identity=identity, starts=self.starts if goes_on else [])

    @property
    def read_record(self) -> dict[str, Any]:
        """``identity`` (what run it is), ``starts`` (seconds and peak memory of each that has ended), ``validation`` (a line)."""
        return json.loads(self.record.read_text()) if self.record.exists() else {}

    @property
    def starts(self) -> list[dict[str, float]]:
        """Seconds and peak memory of each start of the run that has ended."""
        return self.read_record.get("starts", [])

    def add_start(self, *, seconds: float, peak_memory_bytes: int) -> None:
        """Note that a start of the run has ended."""
        self.update_record(starts=[*self.starts, {"seconds": round(seconds, 1), "peak_memory_bytes": peak_memory_bytes}])

    def update_record(self, **entries: Any) -> None:
        """Write entries of the record."""
        with replacing(self.record) as temporary:
            temporary.write_text(json.dumps(self.read_record | entries, indent=1) + "\n")

    def _set_aside(self) -> None:
        """Move what an earlier run left into a numbered folder."""
        if not self.holds_a_run:
            return
        folder = self.folder / EARLIER / str(len(list((self.folder / EARLIER).glob("*"))) + 1)
        folder.mkdir(parents=True)
        for path in {path for pattern in OF_A_RUN for path in self.folder.glob(pattern)}:
            path.rename(folder / path.name)
