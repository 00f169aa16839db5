"""Data sets and models of the Hugging Face Hub, without waiting where there is no network."""

from __future__ import annotations

import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from luffy.errors import InputError

logger = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_hub_name(text: str) -> bool:
    """Whether the text reads as owner/name."""
    return bool(_NAME.fullmatch(text))


def fetch_data(name: str, *, config: str | None = None, split: str = "train", local_flag: str = "--source DIR") -> tuple[Path, ...]:
    """Fetch a data set, or find it in the local cache.

    Args:
        name: owner/name on the hub.
        config: its configuration; None for the default one.
        split: its split.
        local_flag: how the command is given a local copy, for the error.

    Returns:
        The local Arrow files with its rows.

    Raises:
        InputError: where it is neither reachable within seconds nor cached, is gated, or has no such split.
    """
    reachable = prepare_hub(name)
    import datasets
    import httpx  # the hub's client lets its errors through

    datasets.config.HF_HUB_OFFLINE |= not reachable
    try:
        data = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        refuse_damaged(name, "datasets")
        raise InputError(_advice(name, reachable, _reason(error), local_flag)) from error
    files = tuple(Path(file["filename"]) for file in data.cache_files)
    refuse_damaged(name, "datasets", made_from_it={file.parent for file in files})
    return files


def fetch_model(name: str, *, patterns: list[str] | None = None, advice: str) -> Path:
    """Fetch a model, or find it in the local cache.

    Args:
        name: owner/name on the hub.
        patterns: of the files that are wanted; None for all.
        advice: what to give instead, for the errors.

    Returns:
        The folder of its files.

    Raises:
        InputError: where it is gated, is not there, cannot be reached, or was damaged on the way.
    """
    import httpx  # the hub's client lets its errors through
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
    except GatedRepoError as error:
        raise InputError(f"{name} is gated: ask for access on its page, then log in (hf auth login)") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(f"the Hugging Face Hub has no model {name}, or not for you (hf auth login); {advice}") from error
    except httpx.TransportError as error:
        raise InputError(f"the download of {name} broke off ({error}); run the command again") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(f"{name} cannot be downloaded: the Hugging Face Hub is out of reach; {advice}") from error
    refuse_damaged(name, "models")
    return folder


def refuse_damaged(name: str, kind: str, *, made_from_it: Iterable[Path] = ()) -> None:
    """Check the large files of a download, which the hub's cache names by their SHA-256.

    Args:
        name: owner/name.
        kind: "datasets" or "models".
        made_from_it: folders to throw away with a damaged file.

    Raises:
        InputError: where one is not what the hub announced; it is thrown away, so that the next try fetches it anew.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}" / "blobs"
    damaged = [file for file in sorted(folder.glob("*")) if _SHA256.fullmatch(file.name) and not _is_whole(file)]
    for file in damaged:
        file.unlink()
    if damaged:
        for made in made_from_it:
            shutil.rmtree(made, ignore_errors=True)
        raise InputError(
            f"{name}: {len(damaged)} downloaded files are not what the hub announced (their SHA-256 differs); they were thrown "
            "away: run the command again"
        )


def _is_whole(file: Path) -> bool:
    from huggingface_hub.utils.sha import sha_fileobj

    with file.open("rb") as content:
        return sha_fileobj(content).hex() == file.name


def prepare_hub(name: str) -> bool:
    """See within seconds whether the hub can be reached, and turn to the local cache for good where it cannot.

    Args:
        name: what is about to be loaded, for the log.

    Returns:
        Whether the hub can be reached.
    """
    reachable = hub_answers()
    if not reachable:
        logger.warning("the hub cannot be reached; looking for %s in the local cache", name)
        os.environ["HF_HUB_OFFLINE"] = "1"
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True
    return reachable


def hub_answers() -> bool:
    """Whether the hub, or the mirror that ``HF_ENDPOINT`` names, answers within seconds; False where it is set to be offline."""
    # The hub's own client repeats a failing request for half a minute; one short request says it sooner.
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _reason(error: BaseException) -> str:
    """What went wrong first: the libraries wrap the cause several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _advice(name: str, reachable: bool, reason: str, local_flag: str) -> str:
    first_line = reason.splitlines()[0][:160] if reason else "no reason given"
    if reachable:
        return (
            f"{name} could not be loaded from the hub ({first_line}); check name, --config and --split, and log in "
            "(hf auth login) where it is gated"
        )
    return (
        f"{name} is neither reachable on the hub nor in the local cache: fetch it where there is a network "
        f"(hf download --repo-type dataset {name} --local-dir DIR) and give {local_flag} (a folder or a "
        "parquet, JSONL, JSON, CSV or Arrow file), or copy that machine's Hugging Face cache (HF_HOME) here and set "
        "HF_HUB_OFFLINE=1"
    )
