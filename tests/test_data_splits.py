"""One split of a folder is read, whoever wrote it; what is left out is named."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from data_sets import trace, write_lines

from luffy.data.files import find_files
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import NONE, system_rewriter
from luffy.errors import InputError


def rows(folder: Path, name: str, problem: str = "") -> None:
    """A data file whose problem is its own name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, [{"problem": problem or name, "generations": [trace("2")], "answer": "2"}])


def files(*names: str) -> Callable[[Path], None]:
    return lambda folder: [rows(folder, name) for name in names]


def saved_dict(folder: Path) -> None:
    sets = {name: datasets.Dataset.from_dict({"problem": [name], "answer": ["2"]}) for name in ("train", "test")}
    datasets.DatasetDict(sets).save_to_disk(folder)


def saved_with_a_cache(folder: Path) -> None:
    datasets.Dataset.from_dict({"problem": ["train"], "answer": ["2"]}).save_to_disk(folder)
    (folder / "cache-0123abc.arrow").write_bytes((folder / "data-00000-of-00001.arrow").read_bytes())
    rows(folder, "left.jsonl")


CARD = """---
license: mit
configs:
- config_name: all
  data_files:
  - split: train
    path: [all/part-*, "more/**/*.jsonl"]
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
# A set
"""


def clone_with_card(folder: Path) -> None:
    files("data/train-1.jsonl", "data/test-1.jsonl", "all/part-1.jsonl", "more/x/y.jsonl")(folder)
    (folder / "README.md").write_text(CARD)


def linked_folders(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    rows(elsewhere, "deep/train.jsonl")
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)


def linked_file(folder: Path) -> None:
    rows(folder.parent, "blobs/abc.jsonl")
    folder.mkdir()
    (folder / "train-00000-of-00001.jsonl").symlink_to(folder.parent / "blobs" / "abc.jsonl")


def clone_with(setting: str, *names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        files(*names)(folder)
        (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  {setting}\n---\n")

    return make


def saved_without_a_shard(folder: Path) -> None:
    datasets.Dataset.from_dict({"problem": ["a", "b"], "answer": ["1", "2"]}).save_to_disk(folder, num_shards=2)
    (folder / "data-00000-of-00002.arrow").unlink()


def saved_badly(content: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        rows(folder, "train.jsonl")
        (folder / "dataset_dict.json").write_text(content)

    return make


def linked_to_nothing(folder: Path) -> None:
    rows(folder, "a.jsonl")
    (folder / "b.jsonl").symlink_to(folder / "gone.jsonl")


# folder, split (with its configuration) -> its files
FOUND: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "file names": (files("train-1.jsonl", "train-2.jsonl", "test-1.jsonl"), "train", ["train-1.jsonl", "train-2.jsonl"]),
    "the other split": (files("train-1.jsonl", "test-1.jsonl"), "test", ["test-1.jsonl"]),
    "folder names": (files("train/a.jsonl", "validation/a.jsonl"), "train", ["train/a.jsonl"]),
    "short names": (files("my_train.jsonl", "my-val.jsonl", "dev.jsonl"), "validation", ["dev.jsonl", "my-val.jsonl"]),
    "words run together": (files("mathTrain.jsonl", "mathTest.jsonl"), "train", ["mathTrain.jsonl"]),
    "another language": (files("训练.jsonl", "测试.jsonl"), "test", ["测试.jsonl"]),
    "development": (files("train.jsonl", "development.jsonl"), "dev", ["development.jsonl"]),
    "card, one glob": (clone_with("data_files: a/*.jsonl", "a/x.jsonl", "b/x.jsonl"), "train", ["a/x.jsonl"]),
    "card, splits by name": (clone_with("data_files: {train: a.jsonl, test: [b.jsonl]}", "a.jsonl", "b.jsonl"), "test", ["b.jsonl"]),
    "card, folder": (clone_with("data_dir: sub", "sub/train.jsonl", "sub/test.jsonl", "train.jsonl"), "train", ["sub/train.jsonl"]),
    "upper case": (files("Train.jsonl", "TEST.jsonl"), "train", ["Train.jsonl"]),
    "data/ of a hub clone": (files("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"), "train",
                             ["data/train-00000-of-00001.jsonl"]),
    "no name at all": (files("a.jsonl", "b/c.jsonl"), "train", ["a.jsonl", "b/c.jsonl"]),
    "words within words": (files("pretrained.jsonl", "contest.jsonl", "latest.jsonl"), "train",
                           ["contest.jsonl", "latest.jsonl", "pretrained.jsonl"]),
    "a split of its own": (files("train_sft-00000-of-00001.jsonl", "train_prefs-00000-of-00001.jsonl"), "train_sft",
                           ["train_sft-00000-of-00001.jsonl"]),
    "half held out": (files("mine_train.jsonl", "mine_held_out.jsonl"), "train", ["mine_train.jsonl"]),
    "saved dictionary": (saved_dict, "train", ["train/data-00000-of-00001.arrow"]),
    "saved dictionary, test": (saved_dict, "test", ["test/data-00000-of-00001.arrow"]),
    "saved set with a cache": (saved_with_a_cache, "train", ["data-00000-of-00001.arrow"]),
    "card": (clone_with_card, "train", ["data/train-1.jsonl"]),
    "card, configuration": (clone_with_card, "train@all", ["all/part-1.jsonl", "more/x/y.jsonl"]),
    "configuration as a folder": (files("main/train-1.jsonl", "socratic/train-1.jsonl"), "train@main", ["main/train-1.jsonl"]),
    "linked folders": (linked_folders, "train", ["link/deep/train.jsonl"]),
    "linked file": (linked_file, "train", ["train-00000-of-00001.jsonl"]),
    "hidden": (files("train.jsonl", ".cache/train.jsonl", ".x.jsonl"), "train", ["train.jsonl"]),
    "brackets": (files("[1]/train*.jsonl"), "train", ["[1]/train*.jsonl"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_the_files_of_a_split(tmp_path: Path, name: str):
    make, split, expected = FOUND[name]
    make(tmp_path / "set")
    split, _, config = split.partition("@")
    found = find_files(tmp_path / "set", split, config or None)
    assert [str(file.relative_to(tmp_path / "set")) for file in found] == expected


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "only another": (files("test.jsonl"), "train", "has no split 'train'; it has test"),
    "no split at all": (files("a.jsonl"), "test", "has no split 'test'; it has train"),
    "saved": (saved_dict, "validation", "has no split 'validation'; it has test, train"),
    "two of one kind": (files("train_sft-00000-of-00001.jsonl", "train_prefs-00000-of-00001.jsonl"), "train",
                        "it has train_prefs, train_sft"),
    "two words": (files("train/test.jsonl"), "train", "is named after several splits (test, train)"),
    "a slice": (files("train.jsonl"), "train[:10%]", "--split train[:10%]: of local files one whole split is read"),
    "two splits": (files("train.jsonl", "test.jsonl"), "train+test", "--split train+test: of local files one whole split is read"),
    "a shard is missing": (files("train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"), "train",
                           "lacks 1 of its files, such as train-00001-of-00003.jsonl"),
    "a saved shard is missing": (saved_without_a_shard, "train", "lacks 1 of its files, such as data-00000-of-00002.arrow"),
    "a link to nothing": (linked_to_nothing, "train", "b.jsonl is a link to nothing"),
    "saved list of another kind": (saved_badly("{}"), "train", "dataset_dict.json is of no saved data set (KeyError('splits'))"),
    "saved list that is no JSON": (saved_badly("x"), "train", "dataset_dict.json is of no saved data set (JSONDecodeError("),
    "card, mixed": (clone_with("data_files: [a.jsonl, {split: test, path: b.jsonl}]", "a.jsonl"), "train", "no paths of splits"),
    "card, no path": (clone_with("data_files: [{split: train}]", "a.jsonl"), "train", "lists data_files that are no paths of splits"),
    "no such configuration": (clone_with_card, "train@other", "its README lists all, default"),
    "no configurations": (files("train.jsonl"), "train@other", "no folder has its name"),
    "nothing": (lambda folder: folder.mkdir(), "train", "holds no data file"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused(tmp_path: Path, name: str):
    make, split, message = REFUSED[name]
    make(tmp_path / "set")
    split, _, config = split.partition("@")
    with pytest.raises(InputError) as error:
        find_files(tmp_path / "set", split, config or None)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_left_out_is_named(tmp_path: Path, caplog):
    files("train.jsonl", "test.jsonl", "extra.jsonl")(tmp_path)
    (tmp_path / "notes.xlsx").write_bytes(b"PK")
    (tmp_path / "README.md").write_text("# A set\n")
    with caplog.at_level(logging.INFO):
        find_files(tmp_path, "train")
    assert "left out: notes.xlsx (readable are" in caplog.text
    assert "left out: extra.jsonl (their names say no split" in caplog.text
    assert "reading its split 'train'; not read: test (1 files)" in caplog.text
    assert "README" not in caplog.text


def test_a_stray_file_of_another_format_is_named_and_left_out(tmp_path: Path, caplog):
    rows(tmp_path, "b.jsonl", "a problem that makes this the main format of the folder")
    (tmp_path / "a.json").write_text(json.dumps({"sha": "1"}, indent=1))
    (tmp_path / "c.csv").write_text("file,sha\nb,1\n")
    (tmp_path / "d.csv").write_text(f'problem,generations,answer\nq,"{trace("2")}",2\n')
    source = open_source(SourceSpec(location=str(tmp_path)), system=system_rewriter(NONE))
    assert [file.name for file in source.files] == ["b.jsonl", "d.csv"]
    assert "a.json" in caplog.text and "c.csv" in caplog.text


def test_a_pointer_of_git_lfs_is_no_data(tmp_path: Path):
    (tmp_path / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="pointer of Git LFS"):
        find_files(tmp_path, "train")


def test_a_folder_without_splits_serves_a_benchmark(tmp_path: Path):
    files("problems.jsonl")(tmp_path)
    assert len(find_files(tmp_path, "test", unnamed_is_any=True)) == 1
