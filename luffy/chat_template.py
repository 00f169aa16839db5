"""Changes of a model's chat template: a system message that it carries, a generation prompt that opens a thought."""

from __future__ import annotations

from typing import Any

from luffy.errors import InputError
from luffy.traces import THINK_OPEN

THOUGHT = "{% if add_generation_prompt %}{{ '" + THINK_OPEN + "\\n' }}{% endif %}"
CARRY_START = "{%- if not messages or messages[0]['role'] != 'system' %}{%- set messages = [{'role': 'system', 'content': \""
CARRY_END = '"}] + messages %}{%- endif %}'
QUESTION = [{"role": "user", "content": "?"}]


def open_thought(template: str) -> str:
    """A chat template whose generation prompt ends with the thought tag; one that does already comes back as it is."""
    return template if _rendered(template, QUESTION).rstrip().endswith(THINK_OPEN) else template.rstrip() + THOUGHT


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
