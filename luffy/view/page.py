"""The page: one HTML file with everything in it, or, of large runs, that file and a folder of chunks beside it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from luffy.digests import text_digest
from luffy.errors import InputError
from luffy.files import replacing
from luffy.progress import Bar
from luffy.view.chunks import in_base64, pack
from luffy.view.results import ResultFile
from luffy.view.runs import Run

logger = logging.getLogger(__name__)

BYTES_A_TOKEN = 23  # of a recorded token in the page: five numbers and its text, packed and in base64
MIB = 1 << 20
SCRIPTS = ("data.js", "colours.js", "groups.js", "trace.js", "run.js", "evaluation.js", "main.js")
UNSCORED = ".decoded.jsonl"
MARK = ".luffy_view"  # in a folder of chunks


class Shown:
    """The runs and results of a page.

    Args:
        paths: folders of runs, and files of scored samples.
        names: a name for each; None takes those of the folders and files.

    Raises:
        InputError: where one of them is neither, or two have one name.
    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str] | None = None) -> None:
        self._paths = list(paths)
        self._names = _names(self._paths, names)
        self.read()

    def read(self) -> None:
        """Read all of it as it is now."""
        self.runs: list[Run] = []
        self.results: list[ResultFile] = []
        given = {path.resolve() for path in self._paths}
        for path, name in zip(self._paths, self._names, strict=True):
            if path.is_dir():
                self.runs.append(Run(path, name))
                self.results += list(_results_of(path, name, given))
            else:
                self.results.append(ResultFile(path, name))
        self.state = self._state()

    def changed(self) -> bool:
        """Whether there is something new since the last :meth:`read`."""
        return self.state != self._state()

    def index(self) -> bytes:
        """The chunk that a page shows at first."""
        header: dict[str, Any] = {"runs": [], "results": []}
        arrays: dict[str, np.ndarray] = {}
        for kind, member, shown in self._members():
            facts, columns = shown.index()
            header[kind].append(facts)
            arrays |= {f"{kind}{member}.{name}": column for name, column in columns.items()}
        return pack(header, arrays)

    def chunk(self, kind: str, member: int, number: int) -> bytes:
        """One chunk of a run (``runs``) or of a result (``results``); :meth:`index` was called before.

        Raises:
            InputError: where there is none.
        """
        members: Sequence[Run | ResultFile] = self.runs if kind == "runs" else self.results
        if not 0 <= member < len(members):
            raise InputError(f"no {kind} {member}")
        return members[member].chunk(number)

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """All chunks with their names, ``runs-0-12``."""
        for kind, member, shown in self._members():
            for number, chunk in enumerate(shown.chunks()):
                yield f"{kind}-{member}-{number}", chunk

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return sum(shown.n_chunks for _, _, shown in self._members())

    def _members(self) -> Iterator[tuple[str, int, Run | ResultFile]]:
        yield from (("runs", member, run) for member, run in enumerate(self.runs))
        yield from (("results", member, result) for member, result in enumerate(self.results))

    @property
    def tokens(self) -> int:
        """Number of recorded tokens."""
        return sum(run.tokens for run in self.runs)

    @property
    def title(self) -> str:
        """Names of what is shown."""
        return ", ".join(self._names)

    def _state(self) -> list[tuple[Any, ...]]:
        return [shown.state() for _, _, shown in self._members()]


def _names(paths: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    found = list(names) if names is not None else [path.resolve().name.removesuffix(".jsonl") for path in paths]
    if len(found) != len(paths):
        raise InputError(f"--names gives {len(found)} names for {len(paths)} runs and results; give one for each, in their order")
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise InputError(f"two of what is shown are called {twice}; give --names")
    return found


def _results_of(folder: Path, name: str, given: Set[Path]) -> Iterator[ResultFile]:
    """Scored samples in a run's folder, where the command that a run names at its end writes them; without those under way and given."""
    for path in sorted(folder.glob("heldout*.jsonl")):
        if not path.name.endswith(UNSCORED) and path.resolve() not in given:
            try:
                yield ResultFile(path, f"{name}: {path.stem}")
            except InputError as error:
                logger.warning("left out: %s", error)


def write_page(shown: Shown, output: Path, *, most_bytes: int = 200 * MIB) -> list[Path]:
    """Write the page.

    Args:
        shown: what is on it.
        output: the HTML file.
        most_bytes: a page of more gets its chunks from files in a folder beside it.

    Returns:
        What was written: the page, and the folder if there is one.

    Raises:
        InputError: where the output is no name of a page, or a folder is in its way.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output} will be a page; give it a name that ends with .html")
    index = in_base64(shown.index())
    beside = output.with_name(f"{output.stem}_chunks")
    apart = shown.tokens * BYTES_A_TOKEN > most_bytes
    _remove_chunks(beside)
    if apart:
        _write_chunks(shown, beside)
    inside = () if apart else _with_bar(shown)
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(
            page(shown, index=index, chunks=((name, in_base64(chunk)) for name, chunk in inside), folder=beside.name if apart else "")
        )
    return [output, beside] if apart else [output]


def page(
    shown: Shown,
    *,
    index: str = "",
    chunks: Iterator[tuple[str, str]] | Sequence[tuple[str, str]] = (),
    folder: str = "",
    live: bool = False,
) -> Iterator[str]:
    """The page as pieces of HTML.

    Args:
        shown: what is on it.
        index: the first chunk, in base64; empty where the page fetches it.
        chunks: name and base64 of the others that are in the page.
        folder: where the others are, beside the page; empty where there are none.
        live: whether the page is served, and fetches.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_file("page.html"))
    style, script = _file("page.css"), "\n".join(map(_file, SCRIPTS))
    return template.generate(
        title=shown.title,
        style=style,
        script=script,
        index=index,
        chunks=chunks,
        folder=folder,
        live=live,
        nonce=text_digest(script + index),
    )


def _file(name: str) -> str:
    return resources.files("luffy.view").joinpath("page", name).read_text(encoding="utf-8")


def _write_chunks(shown: Shown, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    for name, chunk in _with_bar(shown):
        (folder / f"{name}.js").write_text(f'received("{name}","{in_base64(chunk)}")\n', encoding="ascii")


def _with_bar(shown: Shown) -> Iterable[tuple[str, bytes]]:
    return Bar(shown.chunks(), total=shown.n_chunks, desc="page", unit="chunk")


def _remove_chunks(folder: Path) -> None:
    """Remove the chunks of an earlier page.

    Raises:
        InputError: where the folder is something else.
    """
    if folder.exists() and not (folder / MARK).exists():
        raise InputError(f"{folder} is in the way, and was not written by this command; give another --output")
    shutil.rmtree(folder, ignore_errors=True)
