"""From a file of problems to the texts that a model sees.

The named templates are the prompts that published models were trained with; a model evaluated with another prompt than
its own loses accuracy for no reason of its own.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luffy.benchmarks import benchmark, namesake
from luffy.data.files import find_files
from luffy.data.gold import is_sentinel
from luffy.data.rows import columns_of, read_batches
from luffy.data.schema import is_message
from luffy.digests import text_digest
from luffy.errors import InputError
from luffy.rewards.answer import gold_answers
from luffy.traces import opens_thought

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1024
COLUMNS = ("data_source", "prompt", "reward_model")
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
class Problem:
    """One distinct problem of a file.

    Attributes:
        index: its position among the distinct problems of the file, in order of first appearance.
        key: a digest of benchmark, messages and gold answer; the same problem has it in every file.
        benchmark: the row's ``data_source``.
        messages: the prompt as ``{"role", "content"}`` messages.
        gold: the reference answer, or a list of those that are accepted.
        repeats: how many of the rows that were read hold this problem (32 in a file made for avg@32).
        of: how many distinct problems its benchmark has in the whole file.
    """

    index: int
    key: str
    benchmark: str
    messages: tuple[dict[str, str], ...]
    gold: Any
    repeats: int
    of: int


def load_problems(path: str | Path, *, limit: int | None = None) -> list[Problem]:
    """Read the problems of an evaluation file.

    Args:
        path: a parquet file (or JSON, CSV, Arrow) with the columns ``data_source``, ``prompt`` (a list of chat messages) and ``reward_model``
            (with ``ground_truth``).
        limit: take the problems of this many rows only.

    Returns:
        The distinct problems in order of first appearance. Rows that repeat a problem are counted in its ``repeats``.

    Raises:
        InputError: where the file or a column is missing, or a row has no prompt or no gold answer.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    everything: set[tuple[str, str, str]] = set()
    for number, row in enumerate(_rows(Path(path))):
        identity = _identity(row, f"{path}: row {number}")
        everything.add(identity)
        if limit is None or number < limit:
            counts[identity] += 1
    if not counts:
        raise InputError(f"{path}: the file has no rows")
    hopeless = [gold for *_, gold in counts if is_sentinel(gold.strip('"'))]
    if hopeless:
        logger.warning("%s: %d gold answers stand for none, such as %s: nothing will be right", path, len(hopeless), hopeless[0])
    whole = Counter(source for source, _, _ in everything)
    return [
        Problem(
            index=index,
            key=text_digest("\0".join(identity)),
            benchmark=identity[0],
            messages=tuple(json.loads(identity[1])),
            gold=json.loads(identity[2]),
            repeats=repeats,
            of=whole[identity[0]],
        )
        for index, (identity, repeats) in enumerate(counts.items())
    ]


def describe(problems: Sequence[Problem], n: int) -> list[str]:
    """One line a benchmark: its problems, rows and samples, and whether a table will call it otherwise than one expects."""
    lines = []
    for name in dict.fromkeys(problem.benchmark for problem in problems):
        found = [problem for problem in problems if problem.benchmark == name]
        repeats = [problem.repeats for problem in found]
        each = str(n * repeats[0]) if len(set(repeats)) == 1 else f"{n * min(repeats)} to {n * max(repeats)}"
        known, other = benchmark(name, problems=found[0].of), namesake(name)
        lines.append(f"{known.title}: {len(repeats)} problems, {each} samples of each, {n * sum(repeats)} in all")
        if other is not None and known.group != other.group:
            lines[-1] += f" (not the {other.problems} problems of {other.title}, so it stays '{name}' in tables)"
    return lines


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; --input_file names a parquet file of problems")
    find_files(path)
    present = columns_of(path)
    missing = [column for column in COLUMNS if column not in present]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(present)}")
    for batch in read_batches(path, _ROWS_AT_ONCE, COLUMNS):
        yield from batch.rows()


def _identity(row: dict[str, Any], where: str) -> tuple[str, str, str]:
    messages, source = row.get("prompt"), row.get("data_source")
    if not isinstance(source, str) or not (source.strip() and source.isprintable()):
        raise InputError(f"{where}: column 'data_source' must be text on one line, the name of the benchmark")
    if not isinstance(messages, list) or not messages or not all(map(is_message, messages)):
        raise InputError(f"{where}: column 'prompt' must be a list of messages {{'role': text, 'content': text}}")
    reward = row.get("reward_model")
    gold = reward.get("ground_truth") if isinstance(reward, dict) else None
    if not is_gold(gold):
        raise InputError(f"{where}: no gold answer; 'reward_model' must hold 'ground_truth'")
    chat = [{"role": message["role"], "content": message["content"]} for message in messages]
    text = json.dumps(chat, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: the prompt holds half a character ({error.reason}); mend it where it was cut") from error
    return source, text, json.dumps(gold)


def is_gold(value: Any) -> bool:
    """Whether a value can be a gold answer: a text or number, or a list of those that are accepted."""
    if isinstance(value, list):
        return bool(value) and all(map(is_gold, value))
    if isinstance(value, float) and not math.isfinite(value) or isinstance(value, bool):
        return False
    return isinstance(value, (str, int, float)) and bool(gold_answers(value)) and str(value).strip().lower() != "nan"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A way to turn a question into a prompt.

    Attributes:
        text: the prompt with :data:`QUESTION` in it, or None for a chat template.
        jinja: that chat template; None takes the model's own.
        question: what the question becomes first, with :data:`QUESTION` in it.
        stop: tokens that end a response beside the model's own, where its vocabulary has them.
        source: where the prompt was published.
    """

    text: str | None = None
    jinja: str | None = None
    question: str = QUESTION
    stop: tuple[str, ...] = ()
    source: str


def _chat_markup(system: str, user: str) -> str:
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
TEMPLATES = {
    "own": Template(source="the model's own chat template"),
    "qwen": Template(text=_chat_markup(BOXED, QUESTION), stop=("<|im_end|>",), source="Qwen2.5-Math model card, chain of thought"),
    "simplerl": Template(
        text=_chat_markup("You are a helpful assistant.", f"{QUESTION}\n{BOXED}"),
        stop=("<|im_end|>",),
        source="SimpleRL-reason, prompt type qwen-boxed",
    ),
    "prime": Template(
        text=f"{THINK_AND_ANSWER} User: {QUESTION}. Assistant:",
        question=QUESTION + LATEX_ANSWER,
        source="Eurus-2-7B-PRIME-Zero model card, mathematics",
    ),
    "prime_sft": Template(question=QUESTION + LATEX_ANSWER, source="Eurus-2-7B-SFT and Eurus-2-7B-PRIME model cards, mathematics"),
    "prime_code": Template(
        text=f"{THINK_AND_ANSWER} User: {QUESTION}. Assistant:",
        question=QUESTION + CODE_ANSWER,
        source="Eurus-2-7B-PRIME-Zero model card, code",
    ),
    "none": Template(text=QUESTION, source="the question alone"),
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
        self._template = TEMPLATES.get(template) or Template(jinja=_read_jinja(template), source=template)
        if self._template.text is None and not (self._template.jinja or tokenizer.chat_template):
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
        asked = next((message["content"] for message in reversed(messages) if message["role"] == "user"), None)
        if asked is None:
            raise InputError("a row's prompt has no message of role 'user'")
        question, template = self._template.question.replace(QUESTION, asked), self._template.text
        text = self._chat(messages, asked, question) if template is None else template.replace(QUESTION, question)
        bos = self._tokenizer.bos_token
        has_bos = bool(bos) and text.startswith(bos)
        token_ids = self._tokenizer.encode(text, add_special_tokens=template is not None and not has_bos)
        return Prompt(text=text, token_ids=tuple(token_ids), opens_thought=opens_thought(text))

    def _chat(self, messages: Sequence[dict[str, str]], asked: str, question: str) -> str:
        import jinja2

        chat = [message for message in messages if not (self._remove_system and message["role"] == "system")]
        if question != asked:
            chat = [{"role": "user", "content": question}]
        try:
            return self._tokenizer.apply_chat_template(
                chat, chat_template=self._template.jinja, tokenize=False, add_generation_prompt=True, question=asked
            )
        except jinja2.TemplateError as error:
            system = any(message["role"] == "system" for message in chat)
            advice = "; where it has no system role, --remove_system True leaves the message out" if system else ""
            raise InputError(f"--template {self._template.source}: {type(error).__name__}: {error}{advice}") from error


def _read_jinja(template: str) -> str:
    path = Path(template)
    if not path.is_file():
        raise InputError(f"--template {template}: neither one of {', '.join(TEMPLATES)} nor a file; a Jinja file is given by its path")
    return path.read_text(encoding="utf-8")
