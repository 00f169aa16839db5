r"""Which files a source is, and which of a folder are a split: saved data sets, clones of hub sets, folders named by hand.

`datasets` resolves most of this as well, but it leaves files out without naming them, takes ``[`` in a path for a
pattern, and does not follow links to folders below the first level.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from luffy.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".arrow", ".jsonl", ".json", ".csv")
_METADATA = {"dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"}
_IGNORED = {".md", ".txt", ".lock", ".py", ".png", ".jpg", ".svg", ".pdf", ".yaml", ".yml", ""}
_LFS_POINTER = b"version https://git-lfs"
_SHOWN = 5

_WORDS = {
    "train": ("train", "training", "训练"),
    "validation": ("validation", "valid", "val", "dev", "development", "验证"),
    "test": ("test", "testing", "eval", "evaluation", "测试"),
    "held_out": ("held_out", "heldout", "holdout"),
}
_SPLIT_OF_WORD = {word: split for split, words in _WORDS.items() for word in words}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_SPLIT_OF_WORD, key=len, reverse=True))})(?![a-z])")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_CACHED = re.compile(r"cache-[0-9a-f]+\.arrow")  # what `datasets` keeps of a `map` or `filter`
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_FRONT_MATTER = re.compile(r"---\s*\n(.*?)\n---", re.DOTALL)


def find_files(path: Path, split: str | None = None, config: str | None = None, *, unnamed_is_any: bool = False) -> tuple[Path, ...]:
    """The data files of a local file or folder, sorted by path; those of a folder that are left out are named in the log.

    Args:
        path: a file, which is read whatever its name is; or a folder: a data set saved by ``datasets``, a clone of a hub set
            (its README may list configurations), or one whose files or sub-folders are named by split. Without any such
            name all of its files are the split "train".
        split: the split of a folder that is read; None reads all of its files.
        config: the configuration, where the README lists several or a sub-folder has its name; None for the default one.
        unnamed_is_any: a folder that names no split serves for each one.

    Raises:
        InputError: where nothing readable is there, there is no such configuration or split, it cannot be told which files
            are meant, or a file is empty or not fetched.
    """
    if split is not None and not re.fullmatch(r"[\w.-]+", split):
        raise InputError(
            f"--split {split}: of local files one whole split is read; give its name alone (--max-samples of "
            "prepare_train.py writes a part of it)"
        )
    if not path.exists():
        raise InputError(f"{path} does not exist; give an existing file or folder, or a hub name such as owner/name")
    files = [path] if path.is_file() else _files_in(path) if split is None else _split_files(path, split, config, unnamed_is_any)
    if not files:
        raise InputError(f"{path} holds no data file; readable are {', '.join(SUFFIXES)}")
    for file in files:
        _require_data(file)
    return tuple(files)


def _require_data(file: Path) -> None:
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file} has an unknown format; readable are {', '.join(SUFFIXES)}")
    if file.stat().st_size == 0:
        raise InputError(f"{file} is empty (0 bytes); remove it or fetch it again")
    with file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise InputError(f"{file} is a pointer of Git LFS, not the data; fetch it (git lfs pull)")


def _files_in(folder: Path) -> list[Path]:
    """The data files of a folder and its sub-folders, without hidden files, metadata and what lies beside saved shards."""
    files: list[Path] = []
    stray: list[Path] = []
    other: list[Path] = []
    for path, is_stray in _walk(folder, frozenset()):
        if path.suffix.lower() in SUFFIXES:
            (stray if is_stray else files).append(path)
        elif path.suffix.lower() not in _IGNORED:
            other.append(path)
    _name_left_out(folder, stray, "no shards of the data set saved there")
    _name_left_out(folder, other, f"readable are {', '.join(SUFFIXES)}")
    return sorted(files)


def _split_files(folder: Path, split: str, config: str | None, unnamed_is_any: bool) -> list[Path]:
    saved = folder / "dataset_dict.json"
    configs = {} if saved.exists() else _readme_configs(folder)
    if config not in (None, "default") and not configs:
        if not (folder / config).is_dir():
            raise InputError(f"{folder} has no configuration '{config}' (--config): no README lists one, no folder has its name")
        return _split_files(folder / config, split, None, unnamed_is_any)
    files = _files_in(folder)
    if configs:
        by_split = _listed(folder, files, configs[_choose_config(folder, configs, config)])
    elif saved.exists():
        names = _saved_list(saved, lambda content: content["splits"])
        by_split = {name: [file for file in files if (folder / name) in file.parents] for name in names}
    else:
        by_split = _named(folder, files)
    if set(by_split) == {""}:
        by_split = {split if unnamed_is_any else "train": by_split[""]}
    return _pick(folder, by_split, split) if files else []


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[tuple[Path, bool]]:
    """(file, whether it is none of the shards of the data set saved there)."""
    real = folder.resolve()
    if real in above:  # a link to a folder that it lies in
        return
    shards = _saved_shards(folder)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if entry.name.startswith(".") or entry.name in _METADATA:
            continue
        if entry.is_symlink() and not path.exists():
            raise InputError(f"{path} is a link to nothing; fetch the file that it is to lead to, or remove it")
        if entry.is_dir():
            yield from _walk(path, above | {real})
        elif path.is_file():
            yield path, bool(_CACHED.fullmatch(entry.name)) if shards is None else entry.name not in shards


def _saved_shards(folder: Path) -> set[str] | None:
    state = folder / "state.json"
    if not state.is_file():
        return None
    names = _saved_list(state, lambda content: [file["filename"] for file in content["_data_files"]])
    _require_all(folder, [name for name in names if not (folder / name).is_file()])
    return set(names)


def _saved_list(file: Path, read: Callable[[Any], list[str]]) -> list[str]:
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is of no saved data set ({error!r}); save that again, or remove the file") from error


def _require_all(folder: Path, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} of its files, such as {missing[0]}; fetch or save the data set again")


def _named(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names or folders say; "" for those that say none."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(folder, file), []).append(file)
    if len(by_split) > 1:
        _name_left_out(folder, by_split.pop("", []), "their names say no split, those of others do")
    return by_split


def _split_of(folder: Path, file: Path) -> str:
    name = file.relative_to(folder)
    parts = [_HUMP.sub("_", part).lower() for part in (*name.parts[:-1], file.stem)]
    words = [{_SPLIT_OF_WORD[word] for word in _WORD.findall(part)} for part in parts]
    said = set.union(*words)
    if len(said) > 1:
        raise InputError(f"{file} is named after several splits ({', '.join(sorted(said))}); give the file itself")
    shard = _SHARD.fullmatch(file.stem)
    if shard and words[-1] and shard[1] not in said:
        return shard[1]  # such as train_prefs-00000-of-00001: a split of its own
    return said.pop() if said else ""


def _pick(folder: Path, by_split: Mapping[str, list[Path]], split: str) -> list[Path]:
    if split not in by_split:
        same = [name for name in by_split if _SPLIT_OF_WORD.get(name, name) == _SPLIT_OF_WORD.get(split, split)]
        if len(same) != 1:
            raise InputError(f"{folder} has no split '{split}'; it has {', '.join(sorted(by_split))} (--split)")
        split = same[0]
    if not by_split[split]:
        raise InputError(f"{folder} holds no data file of its split '{split}'; fetch or save the data set again")
    left = {name: len(files) for name, files in by_split.items() if name != split}
    _require_all(folder, _missing_shards(by_split[split]))
    if left:
        logger.info(
            "%s: reading its split '%s'; not read: %s",
            folder,
            split,
            ", ".join(f"{name} ({count} files)" for name, count in sorted(left.items())),
        )
    return by_split[split]


def _missing_shards(files: Sequence[Path]) -> list[str]:
    """Names of the shards that others of their kind (``NAME-00000-of-00003``) say there are."""
    sets: dict[tuple[Path, str, str, str], set[int]] = {}
    for file in files:
        if shard := _SHARD.fullmatch(file.stem):
            sets.setdefault((file.parent, shard[1], shard[3], file.suffix), set()).add(int(shard[2]))
    return [
        f"{name}-{number:05d}-of-{count}{suffix}"
        for (_, name, count, suffix), there in sets.items()
        for number in range(int(count))
        if number not in there
    ]


def _readme_configs(folder: Path) -> dict[str, Any]:
    """The configurations that a hub clone's README lists, by name, with their data files."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    front = _FRONT_MATTER.match(text)
    try:
        card = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError as error:
        raise InputError(f"{readme} begins with no valid YAML; mend or remove the part between --- lines") from error
    listed = card.get("configs") if isinstance(card, dict) else None
    configs = [entry for entry in listed or () if isinstance(entry, dict) and entry.keys() & {"data_files", "data_dir"}]
    return {str(entry.get("config_name", "default")): entry for entry in configs}


def _choose_config(folder: Path, configs: Mapping[str, Any], config: str | None) -> str:
    if config is not None:
        if config not in configs:
            raise InputError(f"{folder} has no configuration '{config}'; its README lists {', '.join(configs)} (--config)")
        return config
    default = [name for name, entry in configs.items() if entry.get("default")] or [n for n in configs if n == "default"]
    if len(configs) > 1 and not default:
        raise InputError(f"{folder} has the configurations {', '.join(configs)}; choose one with --config")
    return default[0] if default else next(iter(configs))


def _listed(folder: Path, files: Sequence[Path], entry: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Files by split, as a configuration lists them: a glob or several, of each split, or a folder."""
    directory, patterns = str(entry.get("data_dir", "")), entry.get("data_files")
    files = [file for file in files if folder / directory in file.parents]
    if patterns is None:
        return _named(folder / directory, files)
    if isinstance(patterns, Mapping):
        patterns = [{"split": split, "path": path} for split, path in patterns.items()]
    if isinstance(patterns, str) or all(isinstance(pattern, str) for pattern in patterns):
        patterns = [{"split": "train", "path": patterns}]
    if not all(isinstance(pattern, dict) and "path" in pattern for pattern in patterns):
        raise InputError(f"{folder}/README.md lists data_files that are no paths of splits; mend it, or give the files")
    by_split: dict[str, list[Path]] = {}
    for pattern in patterns:
        globs = [pattern["path"]] if isinstance(pattern["path"], str) else pattern["path"]
        found = [file for file in files if any(_matches(file.relative_to(folder / directory), glob) for glob in globs)]
        by_split.setdefault(str(pattern.get("split", "train")), []).extend(found)
    return by_split


def _matches(name: Path, glob: Any) -> bool:
    glob = str(glob).removeprefix("./")
    return fnmatch.fnmatch(name.as_posix(), glob) or fnmatch.fnmatch(name.as_posix(), glob.replace("**/", ""))


def _name_left_out(folder: Path, files: Sequence[Path], reason: str) -> None:
    if files:
        shown = ", ".join(str(file.relative_to(folder)) for file in files[:_SHOWN])
        more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
        logger.warning("%s: left out: %s%s (%s)", folder, shown, more, reason)
