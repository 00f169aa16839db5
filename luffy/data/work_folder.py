"""The folder beside an output file that holds finished parts, so that a killed run goes on where it was."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from luffy.data.atomic import replacing
from luffy.errors import InputError

_WRITE_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


class WorkFolder:
    """Numbered shards of a run, each an Arrow file and a JSON summary whose presence says that the shard is whole.

    Use as a context manager: it holds a lock, so that two runs never write the same output.

    Args:
        output: the file that the run will write; the folder is ``<output>.partial``.
        parameters: all that shards depend on, as JSON values.
        restart: throw shards of other parameters away.

    Raises:
        InputError: where another run holds the folder, or its shards were made with other parameters.
    """

    def __init__(self, output: Path, parameters: dict[str, Any], *, restart: bool = False) -> None:
        self.path = output.with_name(output.name + ".partial")
        self.parameters = json.loads(json.dumps(parameters))
        self._restart = restart

    def __enter__(self) -> WorkFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run is writing {self.path}; wait for it or choose another output") from error
        try:
            self._match_manifest()
        except InputError:
            self._lock.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.close()

    def has(self, shard: int) -> bool:
        """Whether the shard is whole."""
        return self._summary_file(shard).exists()

    def write(self, shard: int, table: pa.Table, summary: dict[str, Any]) -> None:
        """Write a shard, whole or not at all."""
        with (
            replacing(self._table(shard)) as path,
            pa.ipc.new_file(path, table.schema, options=_WRITE_OPTIONS) as writer,
        ):
            writer.write_table(table)
        with replacing(self._summary_file(shard)) as path:
            path.write_text(json.dumps(summary), encoding="utf-8")

    def read(self, shard: int, columns: Iterable[str] | None = None) -> pa.Table:
        """A shard's rows."""
        with pa.OSFile(str(self._table(shard))) as file:
            fields = None
            if columns is not None:
                fields = [pa.ipc.open_file(file).schema.get_field_index(column) for column in columns]
            return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields)).read_all()

    def summary(self, shard: int) -> dict[str, Any]:
        """A shard's summary."""
        return json.loads(self._summary_file(shard).read_text(encoding="utf-8"))

    def summaries(self) -> Iterator[dict[str, Any]]:
        """The summaries of all shards, in order."""
        shard = 0
        while self.has(shard):
            yield self.summary(shard)
            shard += 1

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path)

    def _table(self, shard: int) -> Path:
        return self.path / f"shard-{shard:06d}.arrow"

    def _summary_file(self, shard: int) -> Path:
        return self.path / f"shard-{shard:06d}.json"

    def _match_manifest(self) -> None:
        manifest = self.path / "manifest.json"
        before = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else None
        if before == self.parameters:
            return
        if before is not None and self.has(0) and not self._restart:
            names = sorted(before.keys() | self.parameters.keys())
            changed = ", ".join(name for name in names if before.get(name) != self.parameters.get(name))
            raise InputError(
                f"{self.path} holds a run with other settings ({changed}); run it with those to go on, or pass --restart to begin anew"
            )
        for old in self.path.glob("shard-*"):
            old.unlink()
        with replacing(manifest) as path:
            path.write_text(json.dumps(self.parameters, indent=1), encoding="utf-8")
