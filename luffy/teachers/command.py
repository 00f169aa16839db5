"""The command line of ``data/collect_traces.py``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from luffy.command_line import NumberFrom0, Positive, PositiveNumber, Share, option
from luffy.data.system_prompt import KEEP
from luffy.errors import InputError
from luffy.evaluation.engine import EngineOptions, Sampling
from luffy.evaluation.evaluate import TEMPLATE
from luffy.teachers.asking import Patience
from luffy.teachers.choice import Choice

KEY_VARIABLE = "OPENAI_API_KEY"
TARGET_CORRECT = "target_correct"  # column beside target with --keep-wrong: whether the verifier calls each trace right


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What is asked of whom, and what is kept: the flags of ``data/collect_traces.py``."""

    problems: tuple[str, ...] = option(
        help="hub names, folders or files of problems, in any layout of data/prepare_train.py", aliases=("--source",)
    )
    teacher: tuple[str, ...] = option(
        help="model folders or hub names for vLLM in this process, or base URLs of OpenAI-compatible servers, URL#MODEL where one has several",
        metavar="MODEL|URL",
    )
    output: Path = option(help="the parquet file to write; answers and report lie beside it", aliases=("--output_file",))
    samples: Positive = option(4, "answers to ask of each teacher for each problem")
    keep: Positive = option(1, "traces of a problem, at most")
    choose: Choice = option("first", "which of the right answers: each teacher's first ones, the shortest, or those least alike")
    keep_wrong: bool = option(False, f"also keep answers that are not right; the column {TARGET_CORRECT} marks the right ones")
    without_traces: bool = option(
        False, "also write problems without a trace: those that the policy solves, and those that no teacher solves"
    )
    name: tuple[str, ...] | None = option(None, "what each teacher is called in target_source; default: its model's name")
    key_env: tuple[str, ...] = option((KEY_VARIABLE,), "environment variable with the key, one for all servers or one a teacher")
    max_tokens_total: Positive | None = option(None, "of prompts and answers of all teachers; never passed")
    max_cost: PositiveNumber | None = option(None, "of all teachers, in the currency of --price; never passed")
    price: tuple[NumberFrom0, ...] | None = option(
        None, "of a million tokens of prompts, and of answers: two numbers for all teachers or two each"
    )
    policy: str | None = option(None, "model or URL that is asked first; its share of right answers becomes the column policy_success")
    skip_solved: Share | None = option(None, "ask no teacher where the policy's share of right answers is at least this")
    policy_samples: Positive = option(8, "answers of the policy for each problem")
    policy_temperature: float = option(1.0, "of the policy's draws")
    tokenizer: str | None = option(
        None, "of the policy, to give traces their teacher's token probabilities; default: that of --policy, a model"
    )
    template: str = option("own", f"of models in this process: {TEMPLATE}")
    sampling: Sampling = Sampling()
    seed: int = option(0, "of all draws")
    patience: Patience = Patience()
    limit: Positive | None = option(None, "ask the first problems only")
    config: str | None = option(None, "configuration of a hub data set; default: its own default")
    split: str = option("train", "split of a hub data set or a folder")
    prompt_column: str | None = option(None, "column of the problem or chat; default: found by name")
    answer_column: str | None = option(None, "column of the gold answer; default: found by name")
    system_prompt: str = option(KEEP, "as in prepare_train.py: what teachers are asked, and what the training file says")
    drop_malformed: bool = option(False, "leave out rows that cannot be read, instead of stopping")
    no_verify: bool = option(False, "verify nothing: every answer counts, and no gold answers are needed")
    no_think_tags: bool = option(False, "accept answers without <think> and </think>")
    num_workers: Positive = option(os.cpu_count() or 1, "verifier processes")
    time_limit: PositiveNumber = option(5.0, "seconds a verdict")
    engine: EngineOptions = EngineOptions()
    data_parallel_size: Positive | None = option(None, "copies of a model in this process; default: as many as fit")
    overwrite: bool = option(False, "throw away answers of another run that lie there")

    def __post_init__(self) -> None:
        """Check what contradicts itself."""
        count, prices = len(self.teacher), self.price
        if self.name is not None and len(self.name) != count:
            raise InputError(f"--name was given {len(self.name)} values for {count} teachers; give one each")
        if len(self.key_env) not in (1, count):
            raise InputError(f"--key-env was given {len(self.key_env)} values for {count} teachers; give one for all, or one each")
        if not all(variable.strip() for variable in self.key_env):
            raise InputError("--key-env was given an empty name; give that of the environment variable with the key, or leave it out")
        if prices is not None and len(prices) not in (2, 2 * count):
            raise InputError(f"--price takes two numbers for all teachers, or two each; it was given {len(prices)}")
        if self.max_cost is not None and prices is None:
            raise InputError("--max-cost needs --price: of a million tokens of prompts, and of answers")
        if self.skip_solved is not None and self.policy is None:
            raise InputError("--skip-solved needs --policy, the model whose answers it looks at")
        if self.no_verify and (self.policy or self.keep_wrong):
            raise InputError("--no-verify leaves nothing for --policy or --keep-wrong to go by; leave it out, or them")
