"""From a problem to the text that a model sees.

The named templates are the prompts that published models were trained with; a model evaluated with another prompt than
its own loses accuracy for no reason of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.errors import InputError
from luffy.traces import THINK_OPEN

QUESTION = "<<question>>"  # where the question goes; no template contains it otherwise
LATEX_ANSWER = "\n\nPresent the answer in LaTex format: \\boxed{Your answer}"
CODE_ANSWER = "\n\nWrite Python code to solve the problem. Present the code in \n```python\nYour code\n```\nat the end."
THINK_AND_ANSWER = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>."
)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A way to turn a question into a prompt.

    Attributes:
        name: what ``--template`` calls it.
        text: the prompt with :data:`QUESTION` in it, or None for the model's chat template.
        question: what the question becomes first, with :data:`QUESTION` in it.
        stop: tokens that end a response beside the model's own, where its vocabulary has them.
        source: where the prompt was published.
    """

    name: str
    text: str | None
    question: str = QUESTION
    stop: tuple[str, ...] = ()
    source: str


def _chat_markup(system: str, user: str) -> str:
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


TEMPLATES = {
    template.name: template
    for template in (
        Template(name="own", text=None, source="the model's own chat template"),
        Template(
            name="qwen",
            text=_chat_markup("Please reason step by step, and put your final answer within \\boxed{}.", QUESTION),
            stop=("<|im_end|>",),
            source="Qwen2.5-Math model card, chain of thought",
        ),
        Template(
            name="simplerl",
            text=_chat_markup(
                "You are a helpful assistant.",
                f"{QUESTION}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
            ),
            stop=("<|im_end|>",),
            source="SimpleRL-reason, prompt type qwen-boxed",
        ),
        Template(
            name="prime",
            text=f"{THINK_AND_ANSWER} User: {QUESTION}. Assistant:",
            question=QUESTION + LATEX_ANSWER,
            source="Eurus-2-7B-PRIME-Zero model card, mathematics",
        ),
        Template(
            name="prime_sft",
            text=None,
            question=QUESTION + LATEX_ANSWER,
            source="Eurus-2-7B-SFT and Eurus-2-7B-PRIME model cards, mathematics",
        ),
        Template(
            name="prime_code",
            text=f"{THINK_AND_ANSWER} User: {QUESTION}. Assistant:",
            question=QUESTION + CODE_ANSWER,
            source="Eurus-2-7B-PRIME-Zero model card, code",
        ),
        Template(name="none", text=QUESTION, source="the question alone"),
    )
}
TEMPLATES["no"] = TEMPLATES["none"]  # as in the released script


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        text: what the model sees.
        token_ids: the same as tokens, with the tokenizer's BOS token where it has one and the text has not.
        opens_thought: whether the prompt ends inside a thought that the response will close.
    """

    text: str
    token_ids: tuple[int, ...]
    opens_thought: bool


class Renderer:
    """Renders problems with one template and one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: a name of :data:`TEMPLATES` or the path of a Jinja file, which sees ``messages``, ``question``,
            ``bos_token``, ``eos_token`` and ``add_generation_prompt`` (as a chat template does).
        remove_system: drop the data's system messages, as in the released script.

    Raises:
        InputError: for an unknown template, or where the model has no chat template and the template needs it.
    """

    def __init__(self, tokenizer: Any, template: str, *, remove_system: bool = True) -> None:
        self._tokenizer = tokenizer
        self._remove_system = remove_system
        self._jinja: str | None = None
        if template in TEMPLATES:
            self._template = TEMPLATES[template]
        else:
            self._jinja = _read_jinja(template)
            self._template = Template(name=Path(template).name, text=None, source=template)
        if self._template.text is None and not (self._jinja or tokenizer.chat_template):
            raise InputError(
                f"--template {template}: the model's tokenizer has no chat template; give the prompt that the model "
                f"was trained with: one of {', '.join(TEMPLATES)}, or a Jinja file"
            )

    @property
    def stop_token_ids(self) -> list[int]:
        """Tokens that end a response beside the model's own."""
        vocabulary = self._tokenizer.get_vocab()
        return [vocabulary[token] for token in self._template.stop if token in vocabulary]

    def render(self, messages: Sequence[dict[str, str]]) -> Prompt:
        """The prompt for a row's messages.

        Raises:
            InputError: where no message is the user's, or a Jinja file fails.
        """
        question = _question(messages)
        text = self._chat(messages, question) if self._template.text is None else self._fill(question)
        bos = self._tokenizer.bos_token
        has_bos = bool(bos) and text.startswith(bos)
        token_ids = self._tokenizer.encode(text, add_special_tokens=self._template.text is not None and not has_bos)
        return Prompt(text=text, token_ids=tuple(token_ids), opens_thought=text.rstrip().endswith(THINK_OPEN))

    def _fill(self, question: str) -> str:
        return self._template.text.replace(QUESTION, self._template.question.replace(QUESTION, question))

    def _chat(self, messages: Sequence[dict[str, str]], question: str) -> str:
        import jinja2

        chat = [message for message in messages if not (self._remove_system and message["role"] == "system")]
        if self._template.question != QUESTION:
            chat = [{"role": "user", "content": self._template.question.replace(QUESTION, question)}]
        try:
            return self._tokenizer.apply_chat_template(
                chat, chat_template=self._jinja, tokenize=False, add_generation_prompt=True, question=question
            )
        except jinja2.TemplateError as error:
            system = any(message["role"] == "system" for message in chat)
            advice = "; where it has no system role, --remove_system True leaves the message out" if system else ""
            raise InputError(f"--template {self._template.source}: {type(error).__name__}: {error}{advice}") from error


def _question(messages: Sequence[dict[str, str]]) -> str:
    for message in reversed(messages):
        if message["role"] == "user":
            return message["content"]
    raise InputError("a row's prompt has no message of role 'user'")


def _read_jinja(template: str) -> str:
    path = Path(template)
    if not path.is_file():
        raise InputError(f"--template {template}: neither one of {', '.join(TEMPLATES)} nor a file; a Jinja file is given by its path")
    return path.read_text(encoding="utf-8")
