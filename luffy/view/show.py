"""The command ``eval_scripts/view.py``: what is shown is written as a page, or served."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from luffy.command_line import Positive, option
from luffy.view.page import MIB, Shown, write_page
from luffy.view.server import serve

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ViewRequest:
    """What is shown, and how: the flags of ``eval_scripts/view.py``."""

    shown: tuple[Path, ...] = option(
        help="folders of runs, and JSONL files of scored samples", positional=True, nargs="+", metavar="RUN|RESULT"
    )
    names: tuple[str, ...] | None = option(None, "a name for each of them; default: its folder's or file's", metavar="NAME")
    output: Path = option(Path("view.html"), "the page that is written")
    serve: bool = option(False, "serve the page on this machine instead of writing it, and keep it as the runs are")
    port: Positive = option(8765, "where it is served, on 127.0.0.1")
    most_mib: Positive = option(200, "size of a page in MiB above which the groups go to files beside it", metavar="MIB")


def show(request: ViewRequest) -> None:
    """Write the page, or serve it until Ctrl-C.

    Raises:
        InputError: where what is to be shown cannot be read, or the page cannot be written or served.
    """
    shown = Shown(request.shown, request.names)
    if request.serve:
        serve(shown, request.port)
        return
    written = write_page(shown, request.output, most_bytes=request.most_mib * MIB)
    size = sum(path.stat().st_size for each in written for path in ([each] if each.is_file() else each.iterdir()))
    logger.info("%s (%.1f MiB): open it in a browser", " and ".join(map(str, written)), size / MIB)
