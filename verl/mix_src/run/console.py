"""What a person sees of a run: its stages, then one line for the steps; everything else goes to a log file."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from luffy.alarms import Alarms
from luffy.progress import Bar
from luffy.rewards import Reason, why_zero
from luffy.safety import SafetyConfig
from luffy.training_report import held_out_accuracy
from verl.mix_src.run.processes import Watch

POLL_S = 0.5
REWARD, ENTROPY = "on_policy/reward", "on_policy/entropy"


@contextmanager
def output_to(log_file: Path) -> Iterator[TextIO]:
    """Add this process's output, and that of all it starts, to ``log_file``; yield the stream that was stderr."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    console = os.fdopen(os.dup(2), "w", buffering=1)
    with log_file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        console.close()


def said(data: dict[str, Any]) -> str:
    """What validation gave, in a record of metrics."""
    return "held-out " + ", ".join(f"{name} {value:.3f}" for name, value in held_out_accuracy(data).items())


@dataclass
class Progress:
    """Shows the stages of the set-up, then the steps, from the process watch and the metrics file.

    Attributes:
        console: where to write.
        metrics_file: JSON lines that veRL's file logger appends; those that are there already are not shown.
        total_steps: steps of the run.
        watch: parts of the run that have started.
        first_step: the step after which the run goes on.
        safety: what is an alarm.
    """

    console: TextIO
    metrics_file: Path
    total_steps: int
    watch: Watch
    first_step: int = 0
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    ending: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Progress:
        self.started = time.monotonic()
        self._read = self.metrics_file.stat().st_size if self.metrics_file.exists() else 0
        self._reason: Reason | None = None
        self._alarms = Alarms(self.safety)
        self._bar: Bar | None = None
        self.thread = threading.Thread(target=self._show, name="progress", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ending.set()
        self.thread.join()

    def say(self, text: str) -> None:
        """Write one line with the time since the start."""
        Bar.write(f"[{time.monotonic() - self.started:4.0f} s] {text}", file=self.console)

    def _show(self) -> None:
        shown = 0
        while True:
            last_look = self.ending.is_set()
            if self._bar is None:
                for part in self.watch.started[shown:]:
                    self.say(f"started {part}")
                shown = len(self.watch.started)
            for line in self._new_lines():
                self._step(json.loads(line))
            if last_look:
                break
            self.ending.wait(POLL_S)
        if self._bar is not None:
            self._bar.close()

    def _new_lines(self) -> list[bytes]:
        if not self.metrics_file.exists():
            return []
        with self.metrics_file.open("rb") as file:
            file.seek(self._read)
            lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        self._read += sum(map(len, lines))
        return lines

    def _step(self, record: dict[str, Any]) -> None:
        step, data = record["step"], {name: value for name, value in record["data"].items() if value is not None}  # NaN is null there
        if self._bar is None:
            self._bar = Bar(total=self.total_steps, initial=self.first_step, desc="training", unit="step", file=self.console)
        if held_out_accuracy(data):
            self.say(f"step {step}: {said(data)}")
        if REWARD in data:
            self._bar.set_postfix_str(f"reward {data[REWARD]:.3f}, entropy {data.get(ENTROPY, float('nan')):.3f}", refresh=False)
            self._say_why_zero(step, data)
            for line in self._alarms.look(data):
                self.say(f"step {step}: {line}")
        self._bar.update(step - self._bar.n)

    def _say_why_zero(self, step: int, data: dict[str, Any]) -> None:
        """At the first step without a reward, and when the largest reason is another."""
        found = why_zero(data) if data[REWARD] == 0 else None
        if found and found[0] is not self._reason:
            self.say(f"step {step}: {found[1]}")
        self._reason = found[0] if found else None
