"""The folder of a run: its lock, where its files are, and what is done to them at a start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl.utils import tracking

from luffy.files import hold, replacing
from luffy.record import forget_after
from luffy.training_report import read_metrics, write_metrics
from verl.mix_src.run.checkpoints import STEP_METRICS, noted, step_of
from verl.mix_src.upstream import LATEST, METRICS_FILE

OF_A_RUN = (
    "global_step_*", "best", "broken", "bad_rows", LATEST, "run.json", "lengths.json", "summary.json", "config.yaml", "metrics*.jsonl",
    "heldout*", "train.log", "plots", "store", "groups", "tensorboard", "wandb", "trackio", "swanlab", "mlflow.db",
    "data/*_train.parquet", "data/*_held_out.parquet",
)  # fmt: skip
EARLIER, LOCK = "earlier", ".in_use"


class RunFiles:
    """Names within the run's folder (``trainer.default_local_dir``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "train.log"  # everything that veRL, Ray and vLLM print
        self.metrics = folder / "metrics.jsonl"  # one JSON object a step, of the whole run
        self.config = folder / "config.yaml"  # resolved, of the last start
        self.record = folder / "run.json"  # what run this is (verl.mix_src.run.identity), and its starts so far
        self.lengths = folder / "lengths.json"  # token counts of large data files
        self.held_out = folder / "heldout"  # SFT's answers to the held-out problems, by step
        self.summary = folder / "summary.json"  # the run in one JSON object
        self.plots = folder / "plots"

    @classmethod
    def of(cls, config: DictConfig) -> RunFiles:
        """Those of a config's run."""
        return cls(Path(config.trainer.default_local_dir))

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint, or None."""
        return noted(self.folder)

    @property
    def hf_model(self) -> Path | None:
        """The newest checkpoint's Hugging Face model, or None where none was exported."""
        exported = self.exported_models()
        return exported.get(step_of(self.checkpoint) if self.checkpoint else max(exported, default=0))

    def exported_models(self) -> dict[int, Path]:
        """Hugging Face models of the checkpoints, by step, in order; reinforcement learning has them below its actor."""
        folders = [*self.folder.glob("global_step_*/actor/huggingface"), *self.folder.glob("global_step_*/huggingface")]
        found = {step_of(folder.relative_to(self.folder).parents[-2]): folder for folder in folders if any(folder.glob("*.safetensors"))}
        return dict(sorted(found.items()))

    @property
    def holds_a_run(self) -> bool:
        """Whether an earlier run left steps or a checkpoint here."""
        return self.checkpoint is not None or (self.metrics.exists() and self.metrics.stat().st_size > 0)

    def first_step(self, config: DictConfig) -> int:
        """The step after which the run goes on: that of the checkpoint that veRL will load, or 0."""
        mode, checkpoint = config.trainer.resume_mode, self.checkpoint
        if mode == "resume_path":
            checkpoint = Path(str(config.trainer.resume_from_path))
        return step_of(checkpoint) if checkpoint and mode != "disable" else 0

    def prepare(self, config: DictConfig, identity: dict[str, Any]) -> None:
        """Make the folder ready for a start: metrics end where the run goes on, the record is this run's."""
        if config.trainer.resume_mode == "disable" and self.holds_a_run:
            self._set_aside()
        self.folder.mkdir(parents=True, exist_ok=True)
        goes_on, first = self.holds_a_run, self.first_step(config)
        if self.metrics.exists():
            write_metrics(self.metrics, [record for record in self.read_metrics() if record["step"] <= first])
        forget_after(self.folder, first)
        self._add_lost_step(config, first)
        self.update_record(identity=identity, starts=self.starts if goes_on else [])

    def _add_lost_step(self, config: DictConfig, first: int) -> None:
        """A run that ended between a save and the step's line has the numbers of that step in the checkpoint alone."""
        mode = config.trainer.resume_mode
        checkpoint = Path(str(config.trainer.resume_from_path)) if mode == "resume_path" else self.checkpoint
        if first and checkpoint is not None and (saved := checkpoint / STEP_METRICS).exists():
            if all(record["step"] != first for record in self.read_metrics()):
                self.add_metrics({first: json.loads(saved.read_text())})

    def read_metrics(self) -> list[dict[str, Any]]:
        """Records of the metrics file; none where it is not there yet."""
        return read_metrics(self.metrics) if self.metrics.exists() else []

    def add_metrics(self, by_step: Mapping[int, Mapping[str, float]]) -> None:
        """Join further metrics to the steps of the metrics file, which stays one line a step, in order."""
        steps = {record["step"]: record["data"] for record in self.read_metrics()}
        for step, data in by_step.items():
            steps[step] = steps.get(step, {}) | data
        write_metrics(self.metrics, [{"step": step, "data": steps[step]} for step in sorted(steps)])

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
        folder = self.folder / EARLIER / str(len(list((self.folder / EARLIER).glob("*"))) + 1)
        folder.mkdir(parents=True)
        for path in {path for pattern in OF_A_RUN for path in self.folder.glob(pattern)}:
            path.rename(folder / path.name)


@contextmanager
def folder_of_its_own(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder`` during the body; the system lifts the lock when its holder ends, however it ends.

    Raises:
        InputError: where another run uses the folder.
    """
    descriptor = hold(
        folder / LOCK,
        f"another run uses the folder {folder}: wait for it, or give this one a name of its own (trainer.experiment_name=NAME)",
    )
    try:
        yield
    finally:
        os.close(descriptor)


class AppendingFileLogger(tracking.FileLogger):
    """veRL's file logger, which starts a metrics file anew: this one appends, as :meth:`RunFiles.prepare` has ended the file already."""

    def __init__(self, project_name: str, experiment_name: str) -> None:
        self.filepath = os.environ[METRICS_FILE]
        self.fp = open(self.filepath, "ab", buffering=0)  # not super().__init__, which empties the file


def go_on_with_metrics() -> None:
    """Let veRL's ``file`` logger of this process append."""
    tracking.FileLogger = AppendingFileLogger
