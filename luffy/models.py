"""Models and tokenizers, of a folder or the Hugging Face Hub: what is known of them from their files, before any engine starts."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.errors import InputError
from luffy.hub import fetch_model, is_hub_name, prepare_hub

WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
DOWNLOAD = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
BLOCKS = 64  # blocks of each weights file that enter the fingerprint
BLOCK_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model on this machine.

    Attributes:
        name: what the user called it.
        folder: where its files are.
        weight_bytes: size of its weights.
        attention_heads: heads of one layer; tensor parallelism divides them.
        head_size: numbers of one head; 0 where the configuration does not say.
        vocabulary: token ids that the model knows; 0 where the configuration does not say.
        positions: ``max_position_embeddings``, which is what veRL takes for the longest sequence; 0 where there is none.
        context: the longest sequence it was configured for, in tokens; 0 where the configuration does not say.
        dtype: type of its weights, such as "bfloat16"; empty where the configuration does not say.
        fingerprint: digest of its configuration, tokenizer and weights; two models with one fingerprint are the same.
    """

    name: str
    folder: Path
    weight_bytes: int
    attention_heads: int
    head_size: int
    vocabulary: int
    positions: int
    context: int
    dtype: str
    fingerprint: str

    def engine_dtype(self, asked: str, *, on_cpu: bool) -> str:
        """The type that vLLM is told to compute in; on a CPU float32 weights stay what they are."""
        return "float32" if asked == "auto" and on_cpu and self.dtype == "float32" else asked


def find_model(name: str) -> ModelFiles:
    """Find a model and look at its files; one of the Hugging Face Hub is downloaded first.

    Args:
        name: a folder, or ``owner/name`` of a repository of the Hub.

    Raises:
        InputError: where there is no such model, or the folder is not one that transformers can load.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        advice = "give a folder with config.json and weights (data/prepare_model.py makes one), or owner/name of the Hugging Face Hub"
        if looks_local(name):
            raise InputError(f"model '{name}': no such folder; {advice}")
        folder = fetch_model(name, patterns=DOWNLOAD, advice=advice)
    config = _read_config(folder, name)
    weights = _weights(folder, name)
    text = config.get("text_config", config)
    return ModelFiles(
        name=name,
        folder=folder,
        weight_bytes=sum(path.stat().st_size for path in weights),
        attention_heads=int(text.get("num_attention_heads", 1)),
        head_size=int(text.get("head_dim") or text.get("hidden_size", 0) // int(text.get("num_attention_heads", 1))),
        vocabulary=int(text.get("vocab_size") or 0),
        positions=int(text.get("max_position_embeddings") or 0),
        context=_context(text),
        dtype=str(text.get("dtype") or text.get("torch_dtype") or ""),
        fingerprint=_fingerprint(folder, weights),
    )


def require_whole_weights(folder: Path) -> None:
    """Refuse what a broken download leaves: a file that ends before the last tensor of its header, or shards that are not there.

    Raises:
        InputError: where a file is no safetensors file, is cut off, or is named by the index and not there.
    """
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            try:
                length = int.from_bytes(file.read(8), "little")
                tensors = json.loads(file.read(min(length, path.stat().st_size)))
                end = max((each["data_offsets"][1] for name, each in tensors.items() if name != "__metadata__"), default=0)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise InputError(f"{path}: not a safetensors file ({_first_line(error)}); fetch it again") from error
        if path.stat().st_size < 8 + length + end:
            raise InputError(f"{path}: cut off, {path.stat().st_size} of {8 + length + end} bytes; fetch it again")
    for index in folder.glob("*.safetensors.index.json"):
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(name for name in named if not (folder / name).is_file()):
            raise InputError(f"{folder}: {len(missing)} of {len(named)} weights files are missing ({missing[0]}); fetch them again")


def parameter_count(folder: Path) -> int:
    """Numbers in a model folder's safetensors files, from their headers alone; embeddings that are tied are there once."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(each["shape"]) for name, each in tensors.items() if name != "__metadata__")
    return total


def require_tokenizer(folder: Path) -> None:
    """Refuse a model folder without a tokenizer, for which transformers would make up an empty one.

    Raises:
        InputError: where there is none.
    """
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise InputError(f"{folder}: has no tokenizer (one of {', '.join(TOKENIZERS)}); copy the base model's there")


def load_tokenizer(path: str | Path, *, named: str, chat: bool = True, trust_remote_code: bool = False) -> Any:
    """A model's Hugging Face tokenizer.

    Args:
        path: a folder, or ``owner/name`` of the Hub.
        named: what the user gave, such as ``--tokenizer folder``, for the errors.
        chat: whether it has to render and end a chat.
        trust_remote_code: as transformers takes it.

    Raises:
        InputError: where there is none, it cannot be loaded, or it lacks what a chat needs.
    """
    if Path(path).is_dir():
        require_tokenizer(Path(path))
    elif looks_local(str(path)):
        raise InputError(f"{named} is not a folder; give a model folder or a hub name (owner/name)")
    else:
        prepare_hub(str(path))
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{named}: its tokenizer cannot be loaded ({_first_line(error)[:160]}); give a model folder or a cached hub name"
        ) from error
    if chat:
        require_chat(tokenizer, str(path))
    return tokenizer


def require_chat(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer without EOS or chat template.

    Raises:
        InputError: where one of them is missing.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(f"tokenizer {name} has no EOS token, so a trace could not end; set eos_token in its configuration")
    if not tokenizer.chat_template:
        raise InputError(f"tokenizer {name} has no chat template, so no prompt can be rendered; add chat_template.jinja to it")


def looks_local(name: str) -> bool:
    """Whether a name cannot be ``owner/name`` of the Hub, or is where this project's commands write."""
    return not is_hub_name(name) or name.startswith((".", "outputs/", "models/"))


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        inside = folder / "huggingface" / "config.json"
        hint = "; a veRL checkpoint is merged first: python -m verl.model_merger merge" if inside.is_file() else ""
        raise InputError(f"model '{name}': {folder} has no config.json{hint}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error


def _context(config: dict[str, Any]) -> int:
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind, factor = scaling.get("rope_type") or scaling.get("type"), float(scaling.get("factor") or 1.0)
    context = int(config.get("max_position_embeddings", 0))
    if kind == "yarn":
        return int(scaling.get("original_max_position_embeddings", context) * factor)
    return int(context * factor) if kind in ("linear", "dynamic") else context


def _weights(folder: Path, name: str) -> list[Path]:
    for pattern in WEIGHTS:
        if found := sorted(folder.glob(pattern)):
            return found
    raise InputError(
        f"model '{name}': {folder} has no weights (*.safetensors); a veRL checkpoint is merged first: python -m verl.model_merger merge"
    )


def _fingerprint(folder: Path, weights: list[Path]) -> str:
    """Small files whole; of each weights file its size and blocks spread evenly over it."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("*.model")]):
        digest.update(path.name.encode() + path.read_bytes())
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for block in range(BLOCKS):
                file.seek(max(size - BLOCK_BYTES, 0) * block // max(BLOCKS - 1, 1), os.SEEK_SET)
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
