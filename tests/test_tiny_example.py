"""Building the embedded example: whole or not at all, and only what is missing."""

import filecmp
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from luffy.errors import InputError
from miniature import base, example
from miniature.dataset import DataRecipe
from miniature.recipe import BaseRecipe
from miniature.task import question
from miniature.tokenizer import prompt_ids

SCRIPT = Path(__file__).parents[1] / "data" / "prepare_tiny.py"
DATA = DataRecipe(n_prompts=8, n_heldout=4)
BASE = BaseRecipe(steps=2, batch=2)


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    """Two steps do not train a base: let it pass, on few problems."""
    monkeypatch.setattr(base, "PROBLEMS", 4)
    monkeypatch.setattr(base, "LOSS_MARGIN", 10.0)
    monkeypatch.setattr(base, "MIN_FLUENT", 0.0)


def build(folder, seed=0, data=DATA, base=BASE):
    return example.build(folder, seed, data=data, base=base, show_progress=False)


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_equal_parameters_give_equal_bytes(tmp_path):
    build(tmp_path / "a")
    build(tmp_path / "b")
    names = contents(tmp_path / "a")
    assert {"train.parquet", "heldout.parquet", "heldout_harder.parquet", "model/model.safetensors"} < set(names)
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False) == (names, [], [])
    build(tmp_path / "c", seed=1)
    unequal = filecmp.cmpfiles(tmp_path / "a", tmp_path / "c", names, shallow=False)[1]
    assert {"train.parquet", "heldout.parquet", "model/model.safetensors"} < set(unequal)


def test_the_model_folder_loads_as_any_other(tmp_path):
    folder = build(tmp_path).model
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) and model.config.max_position_embeddings >= 256
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert prompt_ids(tokenizer, question("29141777"))[-1] == tokenizer.encode("\n")[0]


def test_what_is_there_is_not_built_again(tmp_path):
    build(tmp_path)
    before = stamps(tmp_path)
    build(tmp_path)
    assert stamps(tmp_path) == before
    build(tmp_path, data=DataRecipe(n_prompts=8, n_traces=2, n_heldout=4))
    changed = {path.relative_to(tmp_path).parts[0] for path, stamp in stamps(tmp_path).items() if before[path] != stamp}
    assert changed == {"train.parquet", "heldout.parquet", "heldout_harder.parquet", "tiny_manifest.json"}


def test_a_missing_data_file_is_built_again(tmp_path):
    built = build(tmp_path)
    built.heldout.unlink()
    build(tmp_path)
    assert built.heldout.exists()


@pytest.mark.parametrize("already", [False, True])
def test_a_broken_off_training_leaves_no_half_model(tmp_path, monkeypatch, already):
    if already:
        build(tmp_path, seed=1)
    old = contents(tmp_path / "model")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(base, "check_base", interrupt)
        build(tmp_path)
    assert contents(tmp_path / "model") == old
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert build(tmp_path).model.exists()


def test_data_broken_off_between_two_files_are_built_again(tmp_path, monkeypatch):
    built = build(tmp_path, seed=1)
    train, heldout = built.train.read_bytes(), built.heldout.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        write = example.pq.write_table
        patch.setattr(example.pq, "write_table", lambda table, to: interrupt() if "heldout" in to.name else write(table, to))
        build(tmp_path)
    assert built.train.read_bytes() != train and built.heldout.read_bytes() == heldout  # Of two seeds.
    build(tmp_path, seed=1)
    assert built.train.read_bytes() == train and built.heldout.read_bytes() == heldout


def test_leftovers_of_a_killed_build_are_no_model(tmp_path):
    leftover = tmp_path / ".model.tmp"
    leftover.mkdir()
    (leftover / "half").touch()
    assert "half" not in contents(build(tmp_path).model)
    assert not leftover.exists()


@pytest.mark.parametrize("name", ["train.parquet", "model/config.json"])
def test_files_of_others_are_never_replaced(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        build(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "tiny_manifest.json").write_text("{")
    with pytest.raises(InputError, match="tiny_manifest.json is no JSON"):
        build(tmp_path)


def test_an_untrained_base_is_refused_and_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "LOSS_MARGIN", 0.02)
    with pytest.raises(base.UnfitBaseError, match="under-trained"):
        build(tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n_traces", "3000"], "error: 3000 prompts with traces, of 2048"),
        (["--teachers", "expert"], "error: --teachers expert: give NAME=SHARE"),
        (["--teachers", "expert=2"], "error: --teachers expert=2: give NAME=SHARE with a share from 0 to 1"),
        (["--base_right", "0.6", "--base_zero", "0.5"], "error: a link cannot be right with probability 0.6 and 0"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, arguments, message):
    command = [sys.executable, SCRIPT, "--output_dir", tmp_path / "out", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(message)
    assert not (tmp_path / "out").exists()


def test_the_command_finds_what_it_has_built(tiny_example):
    before = stamps(tiny_example.model)
    command = [sys.executable, SCRIPT, "--output_dir", tiny_example.model.parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"model: {tiny_example.model}"
    assert stamps(tiny_example.model) == before
    assert (tiny_example.model / "model.safetensors").stat().st_size < 5_000_000
