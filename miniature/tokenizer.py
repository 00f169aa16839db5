"""The embedded model's tokenizer: one token a byte, and a chat template of few tokens."""

from __future__ import annotations

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")
MAX_LENGTH = 512

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer() -> Qwen2Tokenizer:
    """Build the byte-level tokenizer of the embedded model.

    It is of Qwen2's own class, since that is what loads any ``qwen2`` model folder, with an empty merge table: every
    byte stays a token. The role names are tokens too, which keeps prompts short.
    """
    vocabulary = [PAD, START, END, *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=[],
        unk_token=None,
        eos_token=END,
        pad_token=PAD,
        model_max_length=MAX_LENGTH,
        extra_special_tokens=[START],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(role, normalized=False) for role in ROLES])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def prompt_ids(tokenizer: Qwen2Tokenizer, message: str) -> list[int]:
    """Tokens of a user's message in the chat template, ready for the assistant's answer."""
    chat = [{"role": "user", "content": message}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)


def response_ids(tokenizer: Qwen2Tokenizer, response: str) -> list[int]:
    """Tokens of (response + end-of-sequence)."""
    return [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
