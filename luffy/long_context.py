"""A model folder made ready for long responses: slower rotary embedding, longer window, prompts that open a thought.

Qwen2.5-Math was trained with RoPE base 10 000 on 4 096 positions. The paper trains it with base 40 000 on 16 384, by its
configuration alone; the released model ``Elliott/Qwen2.5-Math-7B-16k-think`` further has a chat template whose
generation prompt ends with a thought tag. Only small files are rewritten; weights are copied or linked.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luffy.errors import InputError
from luffy.hub import fetch_model
from luffy.models import looks_local
from luffy.traces import THINK_OPEN, opens_thought

CONFIG, TOKENIZER_CONFIG, TEMPLATE = "config.json", "tokenizer_config.json", "chat_template.jinja"
GENERATION_CONFIG, NEW_TOKENS = "generation_config.json", "max_new_tokens"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
THOUGHT = "{% if add_generation_prompt %}{{ '" + THINK_OPEN + "\\n' }}{% endif %}"
CARRY_START = "{%- if not messages or messages[0]['role'] != 'system' %}{%- set messages = [{'role': 'system', 'content': \""
CARRY_END = '"}] + messages %}{%- endif %}'
QUESTION = [{"role": "user", "content": "?"}]


@dataclass(frozen=True, kw_only=True)
class LongContext:
    """What is changed.

    Attributes:
        rope_theta: base of the rotary embedding (the paper: 40 000).
        max_positions: longest sequence in tokens (the paper: 16 384).
        open_thought: end the generation prompt with the thought tag, as the released model does.
        system: message that the chat template gives a chat without one; None leaves that as it is.
        weights: "copy" them, or "link" them (hard links: no space, but the source's file system).
    """

    rope_theta: float = 40_000.0
    max_positions: int = 16_384
    open_thought: bool = True
    system: str | None = None
    weights: Literal["copy", "link"] = "copy"

    @property
    def changes_template(self) -> bool:
        """Whether the chat template becomes another."""
        return self.open_thought or self.system is not None

    def template(self, template: str) -> str:
        """The changed chat template."""
        opened = open_thought(template) if self.open_thought else template
        return opened if self.system is None else carry_system(opened, self.system)


def prepare_model(source: Path, output: Path, change: LongContext, *, overwrite: bool = False) -> None:
    """Write a changed copy of a model folder; the source is only read.

    Args:
        source: a Hugging Face model folder.
        output: the new folder. It appears whole, or not at all.
        change: what to change.
        overwrite: replace ``output`` where it exists.

    Raises:
        InputError: where the source is no such folder, the output exists or lies within the source (or the reverse), the
            model scales its rotary embedding already, or weights cannot be linked.
    """
    _check_folders(source, output, overwrite)
    rewritten = _rewritten_files(source, change)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = output.with_name(f".{output.name}.preparing"), output.with_name(f".{output.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            name = file.relative_to(source)
            if not any(part.startswith(".") for part in name.parts):  # .git, .cache
                _place(file, temporary / name, change.weights)
        for changed, text in rewritten.items():
            (temporary / changed).unlink(missing_ok=True)  # a link would write through to the source
            (temporary / changed).write_text(text, encoding="utf-8")
        if output.exists():
            output.rename(old)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def source_folder(name: str) -> Path:
    """Folder of a model: itself where it is one, else a download from the Hugging Face Hub.

    Raises:
        InputError: where there is no such folder and no such repository, or the Hub cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    if looks_local(name):
        raise InputError(f"{name} is neither a folder nor the name of a Hub repository (owner/name)")
    return fetch_model(name, advice="give --source a folder instead")


def lengthen(config: dict[str, Any], change: LongContext) -> dict[str, Any]:
    """The model's configuration with another RoPE base and window.

    Args:
        config: content of ``config.json``; the base is ``rope_theta``, or ``rope_parameters.rope_theta`` as transformers 5
            writes it, and may be in both.
        change: the new values.

    Raises:
        InputError: where the model has no rotary base, or scales its rotary embedding.
    """
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default":
        raise InputError(f"{CONFIG}: its rotary embedding is scaled already (rope_type {kind!r}); start from the original model")
    changed = dict(config)
    if "rope_theta" not in config and "rope_theta" not in (config.get("rope_parameters") or {}):
        raise InputError(f"{CONFIG}: has no rope_theta; only models with rotary embeddings can be lengthened this way")
    if "rope_theta" in config:
        changed["rope_theta"] = change.rope_theta
    if config.get("rope_parameters"):
        changed["rope_parameters"] = {**config["rope_parameters"], "rope_theta": change.rope_theta}
    changed["max_position_embeddings"] = change.max_positions
    if config.get("sliding_window") is not None:
        changed["sliding_window"] = change.max_positions
    return changed


def open_thought(template: str) -> str:
    """A chat template whose generation prompt ends with the thought tag; one that does already comes back as it is."""
    return template if opens_thought(_rendered(template, QUESTION)) else template.rstrip() + THOUGHT


def carry_system(template: str, system: str) -> str:
    """A chat template that gives a chat without a system message this one; other chats render as before.

    Args:
        template: a Jinja chat template; one that carries a message already carries the new one instead.
        system: the message.

    Raises:
        InputError: where the template has no place for a system message.
    """
    if template.startswith(CARRY_START):
        template = template[template.index(CARRY_END) + len(CARRY_END) :]
    literal = system.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    changed = f"{CARRY_START}{literal}{CARRY_END}{template}"
    if system.strip() not in _rendered(changed, QUESTION):
        raise InputError("the chat template has no place for a system message; give --system-prompt none")
    return changed


def _rendered(template: str, chat: list[dict[str, Any]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    (rendered,), _ = render_jinja_template([chat], chat_template=template, add_generation_prompt=True, bos_token="", eos_token="")
    return rendered


def _check_folders(source: Path, output: Path, overwrite: bool) -> None:
    if not (source / CONFIG).is_file():
        raise InputError(f"{source}: no {CONFIG} in it; --source must be a Hugging Face model folder or owner/name")
    inside, outside = output.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise InputError(f"{output}: lies in the source folder, or around it; the source is never touched, so choose another --output")
    if output.exists() and not overwrite:
        raise InputError(f"{output}: is there already; give --overwrite to replace it, or another --output")


def _rewritten_files(source: Path, change: LongContext) -> dict[str, str]:
    """Text of the files that differ from the source's, by name."""
    files = {CONFIG: json.dumps(lengthen(_read_json(source / CONFIG), change), indent=2) + "\n"}
    tokenizer = _read_json(source / TOKENIZER_CONFIG)
    inner, template = tokenizer.get("chat_template"), source / TEMPLATE
    if change.changes_template and not (template.is_file() or isinstance(inner, str)):
        raise InputError(f"{source}: has no chat template, or several; --source must have exactly one ({TEMPLATE})")
    if change.changes_template and template.is_file():
        files[TEMPLATE] = change.template(template.read_text(encoding="utf-8"))
    if change.changes_template and isinstance(inner, str):
        tokenizer["chat_template"] = change.template(inner)
    limit = tokenizer.get("model_max_length")
    if isinstance(limit, int) and limit < change.max_positions:
        tokenizer["model_max_length"] = change.max_positions
    if (source / GENERATION_CONFIG).is_file():
        generation = _read_json(source / GENERATION_CONFIG)
        if generation.pop(NEW_TOKENS, None) is not None:  # Qwen2.5-Math: a default of 2 048 would cut long responses
            files[GENERATION_CONFIG] = json.dumps(generation, indent=2) + "\n"
    files[TOKENIZER_CONFIG] = json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n"
    return files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; --source must be a whole Hugging Face model folder") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def _place(file: Path, target: Path, weights: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if weights == "copy" or file.suffix not in WEIGHTS:
        shutil.copy2(file, target)
        return
    try:
        os.link(file.resolve(), target)
    except OSError as error:
        raise InputError(f"{file}: cannot be linked to {target.parent} ({error.strerror}); use --weights copy") from error
