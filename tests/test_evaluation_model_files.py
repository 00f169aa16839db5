"""What a model's folder says, and what a user can get wrong about it."""

import json
from pathlib import Path

import pytest

from luffy.errors import InputError
from luffy.models import find_model, load_tokenizer

CONFIG = {"num_attention_heads": 4, "max_position_embeddings": 512, "dtype": "float32"}


def make(folder: Path, config: dict = CONFIG, weights: bytes = b"w" * 300_000) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_folder_is_read(tmp_path):
    model = find_model(str(make(tmp_path / "m")))
    assert (model.weight_bytes, model.attention_heads, model.context, model.dtype) == (300_000, 4, 512, "float32")
    assert model.engine_dtype("auto", on_cpu=True) == "float32" and model.engine_dtype("auto", on_cpu=False) == "auto"


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}}, 2048),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 1024),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 40_000.0}}, 512),
        ({"rope_scaling": None}, 512),
    ],
)
def test_the_context_counts_rope_scaling(tmp_path, scaling, context):
    assert find_model(str(make(tmp_path / "m", {**CONFIG, **scaling}))).context == context


def test_the_fingerprint_is_the_contents_wherever_they_lie(tmp_path):
    first = find_model(str(make(tmp_path / "a"))).fingerprint
    assert find_model(str(make(tmp_path / "b"))).fingerprint == first
    assert find_model(str(make(tmp_path / "b", weights=b"w" * 299_999 + b"x"))).fingerprint != first
    assert find_model(str(make(tmp_path / "b", {**CONFIG, "rope_theta": 1}))).fingerprint != first


@pytest.mark.parametrize("name", ["/no/such/model", "./model", "a/b/c", "model"])
def test_a_missing_folder(name):
    with pytest.raises(InputError, match=f"model '{name}': no such folder; give a folder"):
        find_model(name)


def test_a_hub_name_that_cannot_be_found(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be downloaded: the Hugging Face Hub is out of reach; give a folder"):
        find_model("nobody-at-all/no-such-model")


def test_an_unmerged_checkpoint_is_explained(tmp_path):
    (tmp_path / "actor" / "huggingface").mkdir(parents=True)
    (tmp_path / "actor" / "huggingface" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no config.json; a veRL checkpoint is merged first"):
        find_model(str(tmp_path / "actor"))
    with pytest.raises(InputError, match="no weights .*verl.model_merger merge"):
        find_model(str(tmp_path / "actor" / "huggingface"))
    (tmp_path / "actor" / "config.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        find_model(str(tmp_path / "actor"))


def test_a_model_without_a_tokenizer(tmp_path):
    model = find_model(str(make(tmp_path / "m", {**CONFIG, "model_type": "qwen2"})))
    with pytest.raises(InputError, match="has no tokenizer .*copy the base model's there"):
        load_tokenizer(model.folder, named="--model_path m", chat=False)
    (tmp_path / "m" / "tokenizer.json").write_text("nonsense")
    with pytest.raises(InputError, match="tokenizer cannot be loaded"):
        load_tokenizer(model.folder, named="--model_path m", chat=False)
