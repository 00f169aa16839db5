"""Training and held-out sets of procedural tasks: problems of ``reasoning-gym``, whose scorers the verifier asks (luffy/rewards/gym.py)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.command_line import Positive, option
from luffy.data import schema
from luffy.data.system_prompt import NONE, message_text
from luffy.data.text import prompt_key
from luffy.digests import draw_seed
from luffy.errors import InputError
from luffy.files import replacing, require_new_parquet
from luffy.progress import Bar
from luffy.rewards import Grader
from luffy.rewards.gym import KIND, PACKAGE, SYSTEM, reference
from luffy.traces import PROMPT, THINK_CLOSE

TRIES = 4  # problems that are drawn for each that is wanted, before a task is said to have too few different ones
CHECKED = 32  # problems of each task whose own answer the verifier is asked about

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GymSet:
    """What is drawn of which tasks: the flags of ``data/prepare_gym.py``."""

    tasks: tuple[str, ...] = option(help=f"names of tasks of {PACKAGE}, such as chain_sum")
    output: Path = option(help="the training set; NAME_held_out.parquet lies beside it", aliases=("--output_file",))
    size: Positive = option(1000, "training problems of each task")
    held_out: Positive = option(100, "held-out problems of each task")
    seed: int = option(0, "of the problems")
    settings: tuple[str, ...] = option((), "of tasks, as the library calls them: chain_sum.max_terms=3", metavar="TASK.NAME=VALUE")
    system_prompt: str | None = option(None, "'none', a text, or a text or parquet file with it; default: asks for <think> and <answer>")
    num_workers: Positive = option(2, "verifier processes")


@dataclass(kw_only=True)
class _Task:
    """A task with its settings, and what was drawn of it."""

    name: str
    settings: dict[str, Any]
    held_out: list[dict[str, Any]] = field(default_factory=list)
    train: list[dict[str, Any]] = field(default_factory=list)


def write_gym_sets(options: GymSet) -> str:
    """Draw both sets, and see that the verifier calls the tasks' own answers right.

    Held-out problems come first from each task's draws, so that they do not depend on the size of the training set. No problem is in
    both, or twice. The library draws problem i from its seed plus i, so the seeds of two commands are set apart by a hash: seeds 0 and 1
    have no more problems in common than chance gives them.

    Returns:
        What was written.

    Raises:
        InputError: where the library or a task is not there, a task has too few different problems, or its own answers are not right
            for its scorer under the verifier's limits.
    """
    held_out = options.output.with_name(f"{options.output.stem}_held_out.parquet")
    for path in (options.output, held_out):
        require_new_parquet(path, [])
    system = SYSTEM if options.system_prompt is None else None if options.system_prompt == NONE else message_text(options.system_prompt)
    tasks = [_Task(name=name, settings=settings) for name, settings in _settings(options).items()]
    seen: set[bytes] = set()
    for task in Bar(tasks, desc="draw", unit="task"):
        _draw(task, options, system, seen)
    _check(tasks, options.num_workers)
    for path, kind, rows in (
        (options.output, "train", [row for task in tasks for row in task.train]),
        (held_out, "eval", [row for task in tasks for row in task.held_out]),
    ):
        for number, row in enumerate(rows):
            row[schema.EXTRA_INFO] = {"index": number, "split": "train" if kind == "train" else "test"}
        with replacing(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema.arrow_schema(kind)), temporary, compression="zstd")
    count = len(tasks)
    return f"{count * options.size} problems of {count} tasks: {options.output}\n{count * options.held_out} held out: {held_out}"


def _settings(options: GymSet) -> dict[str, dict[str, Any]]:
    """Settings by task."""
    if twice := sorted({name for name in options.tasks if options.tasks.count(name) > 1}):
        raise InputError(f"--tasks names {twice[0]} twice")
    found: dict[str, dict[str, Any]] = {name: {} for name in options.tasks}
    for text in options.settings:
        key, equals, value = text.partition("=")
        task, dot, name = key.partition(".")
        if not (equals and dot) or task not in found or name in ("seed", "size"):
            raise InputError(f"--settings {text}: give TASK.NAME=VALUE with a task of --tasks, and a name other than seed and size")
        try:
            found[task][name] = json.loads(value)
        except ValueError:
            found[task][name] = value
    return found


def _draw(task: _Task, options: GymSet, system: str | None, seen: set[bytes]) -> None:
    wanted = options.held_out + options.size
    settings = task.settings | {"seed": draw_seed(options.seed), "size": TRIES * wanted}
    for index, entry in enumerate(_entries(task.name, settings)):
        question, answer = str(entry["question"]), entry["answer"]
        if not question.strip() or (key := prompt_key(question)) in seen:
            continue
        seen.add(key)
        chat = [{"role": "system", "content": system}] if system else []
        row = {
            schema.DATA_SOURCE: f"{KIND}:{task.name}",
            PROMPT: [*chat, {"role": "user", "content": question}],
            schema.ABILITY: task.name,
            schema.REWARD_MODEL: {"style": "rule", "ground_truth": reference(task.name, index, settings, answer and str(answer))},
            "own_answer": None if answer is None else str(answer),
        }
        (task.held_out if len(task.held_out) < options.held_out else task.train).append(row)
        if len(task.train) == options.size:
            return
    found = len(task.held_out) + len(task.train)
    raise InputError(
        f"task {task.name} has {found} different problems in {TRIES * wanted} draws, and {wanted} are wanted; lower --size or --held-out"
    )


def _entries(name: str, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The problems of a data set, one after the other."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise InputError(f"{PACKAGE} is not installed ({error}); install it: pip install 'luffy-rl[{KIND}]'") from error
    if name not in DATASETS:
        near = schema.near_names([name], DATASETS) or {name: min(DATASETS)}
        raise InputError(f"{PACKAGE} has no task '{name}'; did you mean '{near[name]}'? It has {len(DATASETS)}")
    try:
        data = reasoning_gym.create_dataset(name, **settings)
    except (TypeError, AssertionError, ValueError) as error:
        raise InputError(f"task {name} does not take these settings ({type(error).__name__}: {error})") from error
    return (data[index] for index in range(settings["size"]))


def _check(tasks: Sequence[_Task], workers: int) -> None:
    """Ask the verifier about the tasks' own answers."""
    with Grader(workers=workers, time_limit_s=10.0) as grader:
        for task in tasks:
            rows = [row for row in (task.train + task.held_out)[:CHECKED] if row["own_answer"]]
            pairs = [
                (f"{THINK_CLOSE}<answer>{row['own_answer']}</answer>", row[schema.REWARD_MODEL]["ground_truth"]) for row in rows
            ]  # fmt: skip
            if not rows:
                logger.warning("task %s gives no answers of its own: that its scorer works here cannot be seen", task.name)
            wrong = [verdict for verdict in grader.grade_batch(pairs, kind=KIND) if not verdict.correct]
            if wrong:
                raise InputError(
                    f"task {task.name}: {len(wrong)} of {len(rows)} of its own answers get no reward ({wrong[0].reason}): its scorer needs what "
                    "the verifier's workers refuse, or is wrong; leave the task out"
                )
