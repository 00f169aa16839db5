"""Lengths of prompts and traces in tokens, as the trainer will count them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luffy.data.example import Chat
from luffy.data.hub import is_hub_name, prepare_hub
from luffy.errors import InputError
from luffy.traces import without_doubled_opening

_TEXTS_AT_ONCE = 32  # bounds the memory of a call; a fast tokenizer spreads them over the cores


def load_tokenizer(path: str) -> Any:
    """Load a Hugging Face tokenizer that can render and end a chat.

    Raises:
        InputError: where it cannot be loaded, or has no EOS token or no chat template.
    """
    if not Path(path).exists():
        if not is_hub_name(path):
            raise InputError(f"--tokenizer {path} does not exist; give a local folder or a hub name such as owner/name")
        prepare_hub(path)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InputError(
            f"--tokenizer {path} cannot be loaded ({reason}); give a folder with tokenizer files, or a cached hub name"
        ) from error
    require_chat_tokenizer(tokenizer, path)
    return tokenizer


def require_chat_tokenizer(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer without EOS or chat template.

    Raises:
        InputError: where one of them is missing.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(f"tokenizer {name} has no EOS token, so a trace could not end; set eos_token in its configuration")
    if not tokenizer.chat_template:
        raise InputError(f"tokenizer {name} has no chat template, so no prompt can be rendered; add chat_template.jinja to it")


class TokenCounter:
    """Renders prompts and counts tokens, many texts a call.

    Args:
        tokenizer: a Hugging Face tokenizer with EOS and chat template.
        template_arguments: further arguments of the chat template.
    """

    def __init__(self, tokenizer: Any, template_arguments: Mapping[str, Any] | None = None) -> None:
        self._tokenizer = tokenizer
        self._template_arguments = dict(template_arguments or {})
        backend = getattr(tokenizer, "backend_tokenizer", None)
        # The backend without offsets, which nobody reads here, is twice as fast; but it obeys a saved truncation.
        plain = backend is not None and backend.truncation is None and backend.padding is None
        self._backend = backend if plain else None

    def render(self, prompt: Chat) -> str:
        """The prompt as the model sees it.

        Raises:
            InputError: where the chat template refuses the messages.
        """
        import jinja2

        try:
            return self._tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, tokenize=False, **self._template_arguments)
        except jinja2.TemplateError as error:
            advice = ""
            if any(message["role"] == "system" for message in prompt):
                advice = "; where it has no system role, prepare the data with --system-prompt none"
            raise InputError(f"the tokenizer's chat template refuses the prompt ({error}){advice}") from error

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        counts: list[int] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            if self._backend is not None:
                counts.extend(map(len, self._backend.encode_batch_fast(part, add_special_tokens=False)))
            else:
                encoded = self._tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)
                counts.extend(map(len, encoded["input_ids"]))
        return counts

    def count_traces(self, texts: Sequence[str], rendered_prompts: Sequence[str]) -> list[int]:
        """Tokens of each (trace + EOS) after its rendered prompt, as :func:`luffy.traces.trace_tokens` gives them."""
        pairs = zip(texts, rendered_prompts, strict=True)
        return [count + 1 for count in self.count([without_doubled_opening(text, prompt) for text, prompt in pairs])]
