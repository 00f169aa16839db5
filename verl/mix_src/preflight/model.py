"""Before Ray starts: what a model folder lacks, and what this machine's engines cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from luffy.data.lengths import require_chat_tokenizer
from luffy.errors import InputError
from luffy.evaluation.model_files import ModelFiles, find_model, require_tokenizer, require_whole_weights
from luffy.vllm_cpu import CPU_HEAD_SIZES


def load_tokenizer(path: str, *, key: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of the model that is trained.

    Args:
        path: a model folder or a hub name.
        key: the config's, for the error.
        trust_remote_code: as transformers takes it.

    Raises:
        InputError: none there, or one that can neither render nor end a chat; a vision-language model.
    """
    if Path(path).is_dir():
        require_tokenizer(Path(path))
    elif path.count("/") != 1 or path.startswith((".", "/", "outputs/", "models/")):
        raise InputError(f"{key}={path} is not a folder; give a model folder or a hub name")
    try:
        model = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"no model and tokenizer at {key}={path}: {' '.join(str(error).split())[:400]}") from error
    if hasattr(model, "vision_config"):
        raise InputError(f"{path} is a vision-language model, whose demonstrations would be read without their images: take a text model")
    names = model.architectures or []
    if names and all(name.endswith("Model") and not name.endswith("LMHeadModel") for name in names):
        raise InputError(
            f"{path} is a {names[0]}, which has no head that predicts tokens: take a model whose config.json names a ...ForCausalLM"
        )
    require_chat_tokenizer(tokenizer, path)
    return tokenizer


def check_model(path: str, tokenizer: Any, *, device: str | None) -> ModelFiles | None:
    """Check a model's files against its tokenizer and the device.

    Args:
        path: a model folder; of a hub name nothing is known before it is loaded.
        tokenizer: of the model.
        device: ``trainer.device``, on which vLLM runs; None where it does not.

    Returns:
        What is known of the model; None for a hub name.

    Raises:
        InputError: no weights, or broken ones, a vocabulary smaller than the tokenizer's, or heads that the CPU's attention does not know.
    """
    if not Path(path).is_dir():
        return None
    model = find_model(path)
    require_whole_weights(model.folder)
    highest = max(tokenizer.get_vocab().values(), default=0)
    if model.vocabulary and highest >= model.vocabulary:
        raise InputError(
            f"the tokenizer of {path} has ids up to {highest}, but the model's vocabulary has {model.vocabulary} (vocab_size): they "
            "do not belong together; copy the model's own tokenizer files there, or resize its embeddings"
        )
    if device == "cpu" and model.head_size and model.head_size not in CPU_HEAD_SIZES:
        sizes = ", ".join(map(str, CPU_HEAD_SIZES))
        raise InputError(
            f"{path} has attention heads of {model.head_size} numbers; vLLM's CPU attention knows {sizes}: take a model of such heads "
            "(hidden_size / num_attention_heads, or head_dim, in config.json), or a GPU"
        )
    return model
