"""An evaluation whose inputs were read: problems, prompts, model, and what its samples depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luffy.asked_prompt import difference, read_record, without_problem
from luffy.evaluation.engine import Completion, EngineOptions, Request, Sampling, sample_seed
from luffy.evaluation.model_files import ModelFiles, find_model, load_tokenizer
from luffy.evaluation.parallel_plan import make_plan, visible_gpus
from luffy.evaluation.problems import Problem, describe, load_problems
from luffy.evaluation.sample_log import Key
from luffy.evaluation.scoring import Scoring
from luffy.evaluation.templates import Prompt, Renderer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to evaluate, and how; the flags of ``eval_scripts/generate_vllm.py`` have these names.

    Attributes:
        model_path: a folder, or ``owner/name`` of the Hugging Face Hub.
        input_file: parquet file of problems.
        output_file: JSONL file of scored samples; ``.decoded.jsonl`` and ``.manifest.json`` lie beside it.
        scoring: how samples are scored.
        template: how a problem becomes a prompt.
        remove_system: drop the data's system messages.
        sampling: how tokens are drawn.
        n: samples of each row of the file.
        seed: seed of the run.
        limit: evaluate this many rows only.
        skip_scoring: generate only.
        output_eval: JSON file of the accuracies; None writes it beside the output.
        overwrite: start anew instead of going on from what the output holds.
        tensor_parallel_size: GPUs of one copy of the model; None chooses.
        data_parallel_size: copies of the model; None chooses.
        max_model_len: longest prompt and response together, in tokens; None takes what the run needs, within what the
            model was configured for.
        dtype: see :class:`~luffy.evaluation.engine.EngineOptions`, which also has the next two.
    """

    model_path: str
    input_file: str
    output_file: Path
    scoring: Scoring = Scoring()
    template: str = "own"
    remove_system: bool = True
    sampling: Sampling = Sampling()
    n: int = 1
    seed: int = 0
    limit: int | None = None
    skip_scoring: bool = False
    output_eval: Path | None = None
    overwrite: bool = False
    tensor_parallel_size: int | None = None
    data_parallel_size: int | None = None
    max_model_len: int | None = None
    dtype: str = "auto"
    gpu_memory_utilization: float = 0.85
    enforce_eager: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """An evaluation with its inputs: what :func:`read_job` returns."""

    evaluation: Evaluation
    model: ModelFiles
    problems: list[Problem]
    prompts: list[Prompt]
    sampling: Sampling
    max_model_len: int

    def keys(self) -> list[Key]:
        """The samples of the evaluation, in canonical order."""
        n = self.evaluation.n
        return [(problem.index, sample) for problem in self.problems for sample in range(problem.repeats * n)]

    def fits(self, key: Key) -> bool:
        """Whether the sample's prompt leaves room for a response."""
        return len(self.prompts[key[0]].token_ids) < self.max_model_len

    def request(self, key: Key) -> Request:
        """What the engine is asked for a sample."""
        problem = self.problems[key[0]]
        seed = sample_seed(self.evaluation.seed, problem.key, key[1])
        return Request(key=key, token_ids=self.prompts[key[0]].token_ids, seed=seed)

    def row(self, completion: Completion) -> dict[str, Any]:
        """The line of a generated sample."""
        problem, prompt = self.problems[completion.key[0]], self.prompts[completion.key[0]]
        return {
            "benchmark": problem.benchmark,
            "problem": problem.index,
            "sample": completion.key[1],
            "prompt": prompt.text,
            "response": completion.text,
            "gold": problem.gold,
            "length": completion.length,
            "finish_reason": completion.finish_reason,
        }

    def identity(self) -> dict[str, Any]:
        """All that the samples depend on; the hardware and its division are not among it."""
        digest = hashlib.sha256(json.dumps([[p.key, p.repeats] for p in self.problems]).encode())
        for prompt in self.prompts:
            digest.update(json.dumps(prompt.token_ids).encode())
        return {
            "model": self.model.name,
            "model_fingerprint": self.model.fingerprint,
            "input_file": Path(self.evaluation.input_file).name,
            "prompts": digest.hexdigest()[:16],
            "template": self.evaluation.template,
            "remove_system": self.evaluation.remove_system,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": self.sampling.max_tokens,
            "max_model_len": self.max_model_len,
            "stop_token_ids": list(self.sampling.stop_token_ids),
            "n": self.evaluation.n,
            "seed": self.evaluation.seed,
            "dtype": self.evaluation.dtype,
        }

    def plan(self) -> dict[str, dict[str, int]]:
        """For each benchmark: problems and samples of the evaluation, and the problems of the whole file."""
        plan: dict[str, dict[str, int]] = {}
        for problem in self.problems:
            each = plan.setdefault(problem.benchmark, {"problems": 0, "samples": 0, "of": problem.of})
            each["problems"] += 1
            each["samples"] += problem.repeats * self.evaluation.n
        return plan

    def engines(self) -> list[EngineOptions]:
        """The engines to run on this machine, one for each copy of the model.

        Raises:
            InputError: where the model does not fit, or the flags ask for more GPUs than there are.
        """
        gpus = visible_gpus()
        plan = make_plan(
            gpus,
            weight_bytes=self.model.weight_bytes,
            attention_heads=self.model.attention_heads,
            tensor_parallel_size=self.evaluation.tensor_parallel_size,
            data_parallel_size=self.evaluation.data_parallel_size,
        )
        place = f"{plan.tensor_parallel_size} GPU" if gpus else "the CPU"
        logger.info("loading the model: %d of it, each on %s", len(plan.groups), place)
        options = EngineOptions(
            folder=self.model.folder,
            tensor_parallel_size=plan.tensor_parallel_size,
            max_model_len=self.max_model_len,
            dtype=self.model.engine_dtype(self.evaluation.dtype, on_cpu=not gpus),
            gpu_memory_utilization=self.evaluation.gpu_memory_utilization,
            enforce_eager=self.evaluation.enforce_eager,
        )
        return [replace(options, devices=group) for group in plan.groups]


def _compare_with_training(model: ModelFiles, renderer: Renderer, problem: Problem) -> None:
    """Say where a model of this project was trained with another prompt than it is asked with now."""
    trained = read_record(model.folder)
    texts = trained and difference(trained, renderer.render(without_problem(problem.messages)).text)
    if texts:
        logger.warning(
            "the model was trained with another prompt than it is asked with now (%s): see --template and --remove_system", texts
        )


def read_job(evaluation: Evaluation) -> Job:
    """Read the inputs of an evaluation and render its prompts.

    Raises:
        InputError: where the model, the file or the template cannot be used.
    """
    problems = load_problems(evaluation.input_file, limit=evaluation.limit)
    model = find_model(evaluation.model_path)
    renderer = Renderer(load_tokenizer(model), evaluation.template, remove_system=evaluation.remove_system)
    prompts = [renderer.render(problem.messages) for problem in problems]
    longest = max(len(prompt.token_ids) for prompt in prompts)
    needed = longest + evaluation.sampling.max_tokens
    limit = evaluation.max_model_len or model.context or needed
    _report(evaluation, problems, prompts)
    _compare_with_training(model, renderer, problems[0])
    if needed > limit:
        logger.warning(
            "prompts of up to %d tokens and --max_tokens %d exceed a context of %d tokens: where they meet it, responses "
            "end early (finish_reason 'length')",
            longest,
            evaluation.sampling.max_tokens,
            limit,
        )
    return Job(
        evaluation=evaluation,
        model=model,
        problems=problems,
        prompts=prompts,
        sampling=replace(evaluation.sampling, stop_token_ids=tuple(renderer.stop_token_ids)),
        max_model_len=min(needed, limit),
    )


def _report(evaluation: Evaluation, problems: Sequence[Problem], prompts: Sequence[Prompt]) -> None:
    for line in describe(problems, evaluation.n):
        logger.info("%s", line)
    most = evaluation.n * max(problem.repeats for problem in problems)
    if evaluation.sampling.temperature == 0 and most > 1:
        logger.warning(
            "--temperature 0 draws nothing: the %d samples of a problem will be one and the same, and avg@%d and pass@%d "
            "say no more than one of them; give a temperature, or --n 1 and a file without repeats",
            most,
            most,
            most,
        )
    opened = sum(prompt.opens_thought for prompt in prompts)
    gate = evaluation.scoring.thought_gate
    automatic = "is" if opened or evaluation.scoring.add_think_before_answer else "is not"
    effect = {"on": "is", "off": "is not", "auto": automatic}[gate]
    logger.info(
        "%d of %d prompts open a thought (<think>); a response that does not close its thought %s counted as wrong (--thought_gate %s)",
        opened,
        len(prompts),
        effect,
        gate,
    )
