"""Foreign column layouts: which column holds the prompt, the traces and the answer, and how one row is read."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luffy.data import schema
from luffy.data.gold import read_gold
from luffy.data.schema import Chat, Example
from luffy.data.system_prompt import SystemRewriter
from luffy.data.text import decoded, shown
from luffy.errors import InputError
from luffy.traces import (
    POLICY_SUCCESS,
    PROMPT,
    TARGET,
    TARGET_PROBS,
    TARGET_SOURCE,
    THINK_CLOSE,
    THINK_OPEN,
    UNKNOWN_SOURCE,
    Trace,
    read_traces,
)

logger = logging.getLogger(__name__)

# In order of preference: OpenR1-Math-220k has 'generations' beside 'messages' and 'solution', NuminaMath-1.5 'solution'
# beside 'answer', Open-R1's SFT sets 'messages' alone.
_PROMPTS = (PROMPT, "problem", "question", "query", "instruction", "messages", "conversations", "input")
_TRACES = (
    TARGET,
    "generations",
    "generation",
    "generated_solution",
    "trace",
    "response",
    "completion",
    "output",
    "messages",
    "conversations",
    "solution",
)
_NUMBERED_TRACE = re.compile(r"((?:r1_)?(?:solution|generation|response|completion|trace))_\d+")  # as DeepMath's r1_solution_1
_THOUGHT = re.compile(r"((?:\w+_)?)(?:thinking_trajector(?:y|ies)|reasoning(?:_content)?|thinking)")
_AFTER_THOUGHT = ("attempt", "response", "content", "output", "completion", "solution")  # as s1K's deepseek_attempt
# Of columns with solutions only a marked answer is taken: MetaMath's 'response' ends with "The answer is: 7".
_SOLUTIONS = ("solution", "ground_truth_solution", "response", "output", "completion", "generation", "generations")
_CONVERSATION = ("messages", "conversations")  # the last assistant message of one is a solution, too
_ANSWERS = (
    schema.REWARD_MODEL, "answer", "final_answer", "ground_truth", "expected_answer", "gold", *_SOLUTIONS, *_CONVERSATION
)  # fmt: skip
_SYSTEMS = ("system", "system_prompt")
_HISTORY = "history"  # Alpaca's earlier turns
_OPTIONAL = (TARGET_SOURCE, TARGET_PROBS, POLICY_SUCCESS, schema.DATA_SOURCE, schema.ABILITY, *_SYSTEMS, _HISTORY)
_CONTEXTS = {"instruction": "input"}  # Alpaca's: the problem stands in both
_SHARE_GPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "developer": "system"}
_REASONING = ("reasoning_content", "reasoning", "thinking")
_CONTENTS = ("content", "value", "text", "generated_text")
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")

DATA_SOURCE = "math"
ABILITY = "math"


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """What a user says about one source.

    Attributes:
        location: a local file or folder, or a hub name.
        prompt, trace, answer: its columns, None where they are to be found.
        teacher: who wrote its traces, where no column says so.
        config: configuration of a hub data set, or of a clone of one.
        split: split of a hub data set or a folder.
    """

    location: str
    prompt: str | None = None
    trace: str | None = None
    answer: str | None = None
    teacher: str = UNKNOWN_SOURCE
    config: str | None = None
    split: str = "train"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the rows of one source are read: columns, "" for those that are not there.

    Attributes:
        prompt: the problem's text, or a chat.
        context: text that follows the problem's.
        thought: the thought that belongs before the text of ``trace``.
        trace: one text, several texts, assistant messages or a whole conversation; "" where none is read.
        more_traces: further columns of a trace each.
        answer: the gold answer, ``reward_model``, or a solution with a boxed answer; "" where there is none, and none is needed.
        optional: further columns: those of the training layout, a system message, earlier turns.
        teacher: the teacher of its traces where no column says so.
        system: rewrites the prompt's system message.
    """

    prompt: str
    context: str = ""
    thought: str = ""
    trace: str
    more_traces: tuple[str, ...] = ()
    answer: str
    optional: tuple[str, ...]
    teacher: str
    system: SystemRewriter

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        named = (self.prompt, self.context, self.thought, self.trace, *self.more_traces, self.answer, *self.optional)
        return tuple(dict.fromkeys(filter(None, named)))

    def read(self, row: Mapping[str, Any], where: str) -> Example:
        """Read one row.

        Args:
            row: values by column.
            where: file and row, for the error.

        Raises:
            InputError: where a column is missing from the row or holds a value of another type.
        """
        missing = [column for column in (self.prompt, self.answer, self.trace) if column and column not in row]
        if missing:
            raise InputError(f"{where} has no column '{missing[0]}', which other rows have; its columns are {', '.join(row)}")
        try:
            present = {column: _present(row[column]) for column in self.columns if column in row}
            example = self._example({**present, self.answer: row[self.answer] if self.answer else None})
            _require_characters(example)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        except RecursionError as error:
            raise InputError(f"{where} holds a list that is nested too deeply; mend it") from error
        return example

    def _example(self, row: Mapping[str, Any]) -> Example:
        prompt, bare = _prompt(row[self.prompt], self.prompt)
        if bare and prompt:
            prompt = _with_context(prompt, row.get(self.context), self.context)
        system = next((row[column] for column in _SYSTEMS if row.get(column)), None)
        if system is not None and not any(message["role"] == "system" for message in prompt):
            prompt, bare = ({"role": "system", "content": _text(system, "system")}, *prompt), False
        if row.get(_HISTORY):
            raise InputError(f"column '{_HISTORY}' holds earlier turns, which are not read; write all into 'messages'")
        answer = row[self.answer]
        if self.answer in _CONVERSATION:
            answer = _last_answer(_decoded(answer), self.answer)
        gold = read_gold(answer, self.answer, solution=self.answer in (*_SOLUTIONS, *_CONVERSATION))
        return Example(
            prompt=self.system(prompt, bare),
            gold=gold.text,
            no_gold=gold.note,
            traces=self._traces(row) if self.trace else (),
            data_source=_text(row.get(schema.DATA_SOURCE, DATA_SOURCE), schema.DATA_SOURCE),
            ability=_text(row.get(schema.ABILITY, ABILITY), schema.ABILITY),
            policy_success=_share(row.get(POLICY_SUCCESS)),
        )

    def _traces(self, row: Mapping[str, Any]) -> tuple[Trace, ...]:
        value = _decoded(row[self.trace])
        if self.trace == TARGET:
            present = {schema.FORMER_NAMES.get(name, name): each for name, each in row.items()}
            return self._target(value, _decoded(present.get(TARGET_SOURCE)), _decoded(present.get(TARGET_PROBS)))
        if self.trace in _CONVERSATION or _is_conversation(value):
            value = _last_answer(value, self.trace)
        texts = value if isinstance(value, list) else [value]
        if self.thought:
            texts = _with_thoughts(texts, _decoded(row.get(self.thought)), self.thought)
        more = [(column, _decoded(row.get(column))) for column in self.more_traces]
        named = [*((self.trace, text) for text in texts), *((column, text) for column, text in more if text)]
        return tuple(Trace(text=_trace_text(text, column), source=self.teacher) for column, text in named)

    def _target(self, messages: Any, sources: Any, probabilities: Any) -> tuple[Trace, ...]:
        if isinstance(messages, dict):
            messages = [messages]
        if isinstance(probabilities, list) and probabilities and all(isinstance(p, float) for p in probabilities):
            probabilities = [probabilities]  # of the one trace, as the released code had them
        named: dict[str, Any] = {} if sources is not None else {"source": self.teacher}
        traces = read_traces(messages, sources, probabilities, with_empty=True)
        return tuple(dataclasses.replace(trace, **named) if trace.text else Trace(text="") for trace in traces)


def find_layout(
    columns: Sequence[str], spec: SourceSpec, *, system: SystemRewriter, traces: bool, where: str, answers: bool = True
) -> Layout:
    """Choose the columns of a source.

    Args:
        columns: the columns that the source has.
        spec: what the user says about it.
        system: rewrites the prompt's system message.
        traces: whether traces are read at all.
        where: the file, for the error.
        answers: whether there must be gold answers; they are read wherever they are.

    Raises:
        InputError: where a named column is not there, or none is found.
    """
    missing: list[str] = []

    def choose(flag: str, what: str, named: str | None, known: Iterable[str], *, needed: bool = True) -> str:
        if named is not None and named not in columns:
            raise InputError(f"{where} has no column '{named}' ({flag}); its columns are {', '.join(columns)}")
        found = named or next((name for name in known if name in columns), None)
        if found is None and needed:
            missing.append(f"{what} ({flag} names it)")
        return found or ""

    numbered = [] if spec.trace or not traces else [name for name in columns if _NUMBERED_TRACE.fullmatch(name)]
    thoughts = _thoughts(columns) if traces else {}
    if len(thoughts) > 1 and spec.trace is None and TARGET not in columns:
        raise InputError(f"{where} has several columns of traces with thoughts ({', '.join(thoughts)}); name one: --trace-column")
    known = (TARGET, *numbered[:1], *thoughts, *_TRACES)
    prompt = choose("--prompt-column", "the problem", spec.prompt, _PROMPTS)
    trace = choose("--trace-column", "the traces", spec.trace, known) if traces else ""
    answer = choose("--answer-column", "the gold answer", spec.answer, _ANSWERS, needed=answers)
    if missing:
        raise InputError(f"{where}: no column is known to hold {', '.join(missing)}; its columns are {', '.join(columns)}")
    former = [name for name, now in schema.FORMER_NAMES.items() if now not in columns]
    layout = Layout(
        prompt=prompt,
        trace=trace,
        answer=answer,
        optional=tuple(column for column in (*_OPTIONAL, *former) if column in columns),
        teacher=spec.teacher,
        system=system,
        context=_CONTEXTS[prompt] if _CONTEXTS.get(prompt) in columns else "",
        more_traces=tuple(numbered[1:]),
        thought=thoughts.get(trace, ""),
    )
    _name_unread(columns, layout, where)
    if answer and answer == trace:
        logger.warning("%s has no column of gold answers: what each trace of '%s' marks is taken, so nothing checks it", where, trace)
    return layout


def _thoughts(columns: Sequence[str]) -> dict[str, str]:
    """The columns of answers whose thoughts stand in columns of their own, with those."""
    found: dict[str, str] = {}
    for thought in columns:
        named = _THOUGHT.fullmatch(thought)
        answers = [named[1] + name for name in _AFTER_THOUGHT if named[1] + name in columns] if named else []
        if answers:
            found.setdefault(answers[0], thought)
    return found


def _name_unread(columns: Sequence[str], layout: Layout, where: str) -> None:
    known = {*_PROMPTS, *_TRACES, *_ANSWERS, *_OPTIONAL, *_CONTEXTS.values(), schema.EXTRA_INFO, *layout.columns}
    for column, near in schema.near_names(set(columns) - schema.FORMER_NAMES.keys(), known).items():
        logger.warning("%s: column '%s' is not read; if it is '%s', rename it", where, column, near)
    for column in schema.FORMER_NAMES.keys() & set(columns):
        read = f"is read as '{schema.FORMER_NAMES[column]}'" if column in layout.columns else "is not read"
        logger.warning("%s: column '%s' %s", where, column, read)


def _prompt(value: Any, column: str) -> tuple[Chat, bool]:
    """The chat, and whether the source gave a bare question."""
    value = _decoded(value)
    if value is None:
        return (), True
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, str):
        return ({"role": "user", "content": value},), True
    chat = _conversation([value] if isinstance(value, dict) else value, column)
    if column in _CONVERSATION and chat and chat[-1]["role"] == "assistant":
        chat = chat[:-1]
    return chat, False


def _with_context(prompt: Chat, context: Any, column: str) -> Chat:
    if not column or context is None or not _text(context, column).strip():
        return prompt
    return ({"role": "user", "content": f"{prompt[0]['content']}\n\n{context}"},)


def _with_thoughts(texts: list[Any], thoughts: Any, column: str) -> list[Any]:
    thoughts = thoughts if isinstance(thoughts, list) else [thoughts] * len(texts)
    if len(thoughts) != len(texts):
        raise InputError(f"column '{column}' holds {len(thoughts)} thoughts for {len(texts)} traces; give one each")
    return [
        _content({"content": _trace_text(text, column), "reasoning": _trace_text(thought, column)})
        for text, thought in zip(texts, thoughts, strict=True)
    ]


def _is_conversation(value: Any) -> bool:
    """Whether a list is a chat with the prompt, and not a list of traces."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.get("role", first.get("from")) in ("system", "user", "human")


def _conversation(value: Any, column: str) -> Chat:
    if not isinstance(value, list):
        raise InputError(f"column '{column}' holds {type(value).__name__}; it must be text or a list of messages")
    return tuple(_message(message, f"{column}[{i}]") for i, message in enumerate(value))


def _last_answer(value: Any, column: str) -> str | None:
    """What the assistant says at the end of a conversation; None where it says nothing there."""
    chat = _conversation(value, column) if value else ()
    return chat[-1]["content"] if chat and chat[-1]["role"] == "assistant" else None


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise InputError(f"{where} is {_kind(message)}; it must be a message {{'role', 'content'}}")
    role = message.get("role", message.get("from"))
    content = _content(message)
    if not isinstance(role, str) or not isinstance(content, str):
        raise InputError(f"{where} has role {_kind(role)} and content {_kind(content)}; both must be text")
    role = _SHARE_GPT_ROLES.get(role.lower(), role.lower())
    if role not in schema.ROLES:
        raise InputError(f"{where} has the unknown role {shown(role)}; roles are {', '.join(schema.ROLES)}")
    return {"role": role, "content": content}


def _content(message: Mapping[str, Any]) -> Any:
    """A message's text, that of its parts, or its reasoning between think tags and its text after them."""
    content = next((message[key] for key in _CONTENTS if key in message), None)
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)
    reasoning = next((message[key] for key in _REASONING if isinstance(message.get(key), str)), "")
    if reasoning.strip() and isinstance(content, str) and THINK_CLOSE not in content:
        content = f"{THINK_OPEN}\n{reasoning.strip()}\n{THINK_CLOSE}\n\n{content}"
    return content


def _trace_text(value: Any, column: str) -> str:
    value = _present(_decoded(value))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and not value.keys().isdisjoint(_CONTENTS):
        value = _content(value)
    if not isinstance(value, (str, type(None))):
        raise InputError(f"column '{column}' holds {_kind(value)}; a trace must be text")
    return value or ""


def _decoded(value: Any) -> Any:
    return decoded(value) if isinstance(value, str) else value


def _present(value: Any) -> Any:
    """The value, or None for NaN, which tables write where nothing is."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _require_characters(example: Example) -> None:
    """Refuse half characters (lone surrogates), which neither a tokenizer nor a parquet file can hold."""
    texts = {
        "the prompt": [message["content"] for message in example.prompt],
        "a trace": [text for trace in example.traces for text in (trace.text, trace.source)],
        "the answer": [example.gold],
        "data_source or ability": [example.data_source, example.ability],
    }
    for name, each in texts.items():
        for text in each:
            half = None if text.isascii() else _HALF_A_CHARACTER.search(text)
            if half:
                raise InputError(
                    f"{name} holds half a character (a lone surrogate, U+{ord(half[0]):04X}, after {half.start()} "
                    "characters); mend the text where it was cut"
                )


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"column '{column}' holds {_kind(value)}; it must be text")
    return value


def _share(value: Any) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"column '{POLICY_SUCCESS}' holds {value!r:.40}; it must be a share from 0 to 1, or null")
    return float(value)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
