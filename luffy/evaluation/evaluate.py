"""A whole evaluation: problems to prompts, prompts to samples, samples to verdicts, all of it resumable."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luffy.asked_prompt import difference, read_record, without_problem
from luffy.command_line import Positive, option
from luffy.digests import sample_seed, text_digest
from luffy.errors import InputError
from luffy.evaluation import manifest
from luffy.evaluation.engine import EngineOptions, EngineSetup, Sampling, build_engine, environment, set_up, stream_text
from luffy.evaluation.generation import Completion, Engines, Request, generate
from luffy.evaluation.prompts import TEMPLATES, Problem, Prompt, Renderer, describe, load_problems
from luffy.evaluation.report import write_summary
from luffy.evaluation.samples import Key, SampleLog
from luffy.evaluation.scoring import PENDING, Scorer, Scoring, score_file
from luffy.models import ModelFiles, find_model, load_tokenizer
from luffy.progress import Bar

logger = logging.getLogger(__name__)

DEBUG_ROWS = 10
PROMPT_TOO_LONG = "prompt_too_long"
MODEL = "a folder, or owner/name of the Hugging Face Hub"
TEMPLATE = f"{', '.join(TEMPLATES)}, or the path of a Jinja file"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to evaluate, and how: the flags of ``eval_scripts/generate_vllm.py``."""

    model_path: str = option(help=MODEL)
    input_file: str = option(help="parquet file of problems")
    output_file: Path | None = option(
        None, "JSONL file of scored samples, NAME.jsonl; NAME.decoded.jsonl and NAME.manifest.json lie beside it"
    )
    template: str = option("own", TEMPLATE)
    remove_system: bool = option(True, "drop the data's system messages")
    n: Positive = option(1, "samples of each row of the file")
    limit: Positive | None = option(None, "evaluate the first rows only")
    debug: bool = option(False, f"the same as --limit {DEBUG_ROWS}, where that is not given")
    skip_scoring: bool = option(False, "generate only; eval_scripts/score.py scores")
    output_eval: Path | None = option(None, "JSON file of the accuracies; default: beside the output")
    overwrite: bool = option(False, "start anew instead of going on from what the output holds", aliases=("--force_generate",))
    show_prompt: bool = option(False, "print the first prompt and stop", aliases=("--show-prompt",))
    sampling: Sampling = Sampling()
    seed: int = option(0, "of the run")
    scoring: Scoring = Scoring()
    engine: EngineOptions = EngineOptions()
    data_parallel_size: Positive | None = option(None, "copies of the model; default: as many as fit")

    def __post_init__(self) -> None:
        if self.debug and self.limit is None:
            object.__setattr__(self, "limit", DEBUG_ROWS)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question to a model: the flags of ``eval_scripts/infer.py``."""

    question: str = option(help="the user's message", positional=True)
    model_path: str = option(help=MODEL)
    template: str = option("own", TEMPLATE)
    system: str | None = option(None, "a system message; default: the chat template's own")
    sampling: Sampling = Sampling()
    seed: int = option(0, "of the draws")
    engine: EngineOptions = EngineOptions()


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
        seed = sample_seed(self.evaluation.seed, self.problems[key[0]].key, key[1])
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
        asked = [json.dumps([[p.key, p.repeats] for p in self.problems]), *(json.dumps(prompt.token_ids) for prompt in self.prompts)]
        return {
            "model": self.model.name,
            "model_fingerprint": self.model.fingerprint,
            "input_file": Path(self.evaluation.input_file).name,
            "prompts": text_digest("".join(asked)),
            "template": self.evaluation.template,
            "remove_system": self.evaluation.remove_system,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": self.sampling.max_tokens,
            "max_model_len": self.max_model_len,
            "stop_token_ids": list(self.sampling.stop_token_ids),
            "n": self.evaluation.n,
            "seed": self.evaluation.seed,
            "dtype": self.evaluation.engine.dtype,
        }

    def plan(self) -> dict[str, dict[str, int]]:
        """For each benchmark: problems and samples of the evaluation, and the problems of the whole file."""
        plan: dict[str, dict[str, int]] = {}
        for problem in self.problems:
            each = plan.setdefault(problem.benchmark, {"problems": 0, "samples": 0, "of": problem.of})
            each["problems"] += 1
            each["samples"] += problem.repeats * self.evaluation.n
        return plan

    def engines(self) -> list[EngineSetup]:
        """The engines to run on this machine, one for each copy of the model.

        Raises:
            InputError: where the model does not fit, or the flags ask for more GPUs than there are.
        """
        evaluation = self.evaluation
        return set_up(self.model, evaluation.engine, max_model_len=self.max_model_len, copies=evaluation.data_parallel_size)


def read_job(evaluation: Evaluation) -> Job:
    """Read the inputs of an evaluation and render its prompts.

    Raises:
        InputError: where the model, the file or the template cannot be used.
    """
    problems = load_problems(evaluation.input_file, limit=evaluation.limit)
    model = find_model(evaluation.model_path)
    renderer = Renderer(_tokenizer(model), evaluation.template, remove_system=evaluation.remove_system)
    prompts = [renderer.render(problem.messages) for problem in problems]
    longest = max(len(prompt.token_ids) for prompt in prompts)
    needed = longest + evaluation.sampling.max_tokens
    limit = evaluation.engine.max_model_len or model.context or needed
    job = Job(
        evaluation=evaluation,
        model=model,
        problems=problems,
        prompts=prompts,
        sampling=replace(evaluation.sampling, stop_token_ids=tuple(renderer.stop_token_ids)),
        max_model_len=min(needed, limit),
    )
    for line in describe(problems, evaluation.n):
        logger.info("%s", line)
    logger.info("%s", _gate_line(job))
    for warning in _warnings(job, renderer):
        logger.warning("%s", warning)
    if needed > limit:
        logger.warning(
            "prompts of up to %d tokens and --max_tokens %d exceed a context of %d tokens: where they meet it, responses "
            "end early (finish_reason 'length')",
            longest,
            evaluation.sampling.max_tokens,
            limit,
        )
    return job


def evaluate(evaluation: Evaluation, engines: Engines | None = None) -> None:
    """Generate what is missing, and score it; what an earlier run of the same command has done is kept.

    Args:
        evaluation: what to evaluate.
        engines: keeps the engines for a next evaluation of the model; None ends them here.

    Raises:
        InputError: for what a user got wrong, a full disk, or an engine that stops.
    """
    output = evaluation.output_file
    if output is None:
        raise InputError("--output_file is missing: a JSONL file for the scored samples")
    job = read_job(evaluation)
    decoded = manifest.decoded_path(output)
    manifest.claim(output, manifest.GENERATION, job.identity(), results=decoded, overwrite=evaluation.overwrite)
    manifest.note(output, manifest.PLAN, job.plan())
    if evaluation.overwrite:
        output.unlink(missing_ok=True)
    if evaluation.skip_scoring:
        with SampleLog(decoded) as samples:
            _generate(job, output, samples, None, engines)
        return
    with SampleLog(decoded) as samples, Scorer(output, evaluation.scoring) as scorer:
        _generate(job, output, samples, scorer, engines)
        begin = time.perf_counter()
        score_file(decoded, scorer, total=len(job.keys()))
        logger.info("finished scoring after another %.1f s", time.perf_counter() - begin)
    write_summary(output, evaluation.output_eval)


def show_prompt(evaluation: Evaluation) -> str:
    """The first prompt of an evaluation, as the model would see it; nothing is generated."""
    return read_job(evaluation).prompts[0].text


def answer(question: Question) -> Iterator[str]:
    """Ask a model a question.

    Yields:
        The answer, piece by piece.

    Raises:
        InputError: where the model or the template cannot be used, or the question leaves no room for an answer.
    """
    model = find_model(question.model_path)
    renderer = Renderer(_tokenizer(model), question.template, remove_system=question.system is None)
    messages = [{"role": "system", "content": question.system}] if question.system else []
    prompt = renderer.render([*messages, {"role": "user", "content": question.question}])
    needed = len(prompt.token_ids) + question.sampling.max_tokens
    limit = question.engine.max_model_len or model.context or needed
    if len(prompt.token_ids) >= limit:
        raise InputError(f"the prompt has {len(prompt.token_ids)} tokens, and the model's context is {limit}")
    (setup,) = set_up(model, question.engine, max_model_len=min(needed, limit), copies=1)
    yield from stream_text(build_engine(setup), prompt.token_ids, question.sampling, seed=question.seed)


def _tokenizer(model: ModelFiles) -> Any:
    return load_tokenizer(model.folder, named=f"--model_path {model.name}", chat=False)


def _warnings(job: Job, renderer: Renderer) -> Iterator[str]:
    most = job.evaluation.n * max(problem.repeats for problem in job.problems)
    if job.sampling.temperature == 0 and most > 1:
        yield (
            f"--temperature 0 draws nothing: the {most} samples of a problem will be one and the same, and avg@{most} and pass@{most} "
            "say no more than one of them; give a temperature, or --n 1 and a file without repeats"
        )
    trained = read_record(job.model.folder)
    texts = trained and difference(trained, renderer.render(without_problem(job.problems[0].messages)).text)
    if texts:
        yield f"the model was trained with another prompt than it is asked with now ({texts}): see --template and --remove_system"


def _gate_line(job: Job) -> str:
    opened = sum(prompt.opens_thought for prompt in job.prompts)
    scoring = job.evaluation.scoring
    on = {"on": True, "off": False, "auto": opened > 0 or scoring.add_think_before_answer}[scoring.thought_gate]
    return (
        f"{opened} of {len(job.prompts)} prompts open a thought (<think>); a response that does not close its thought "
        f"{'is' if on else 'is not'} counted as wrong (--thought_gate {scoring.thought_gate})"
    )


def _generate(job: Job, output: Path, samples: SampleLog, scorer: Scorer | None, engines: Engines | None) -> None:
    keys = job.keys()
    missing = [key for key in keys if key not in samples.done]
    if len(missing) < len(keys):
        logger.info("%d of %d samples are there already; going on", len(keys) - len(missing), len(keys))
    _skip_unfit(job, samples, [key for key in missing if not job.fits(key)])
    requests = [job.request(key) for key in missing if job.fits(key)]
    if requests:
        with Bar(total=len(keys), initial=len(samples.done), unit="sample", desc="generating", smoothing=0.02) as bar:
            _run_engines(job, output, requests, samples, scorer, bar, engines)
    elif missing:
        manifest.note_environment(output, environment())
    samples.finish()


def _run_engines(
    job: Job, output: Path, requests: Sequence[Request], samples: SampleLog, scorer: Scorer | None, bar: Bar, engines: Engines | None
) -> None:
    tokens, begin = 0, 0.0

    def on_ready(where: dict[str, str]) -> None:
        nonlocal begin
        manifest.note_environment(output, where)
        begin = time.perf_counter()
        bar.unpause()  # the time left counts from here

    for completion in generate(requests, job.engines(), job.sampling, on_ready=on_ready, kept=engines):
        row = job.row(completion)
        samples.append(row)
        if scorer is not None and not scorer.full:  # what it has no room for is scored at the end
            scorer.submit(row)
            scorer.collect(leave=PENDING)
        tokens += completion.length
        bar.update()
    logger.info("generated %d samples of %d tokens in %.1f s", len(requests), tokens, time.perf_counter() - begin)


def _skip_unfit(job: Job, samples: SampleLog, unfit: Sequence[Key]) -> None:
    """Write samples whose prompts leave no room for a response: wrong, and counted as what they are."""
    if unfit:
        logger.warning(
            "%d samples have prompts that do not fit into %d tokens: counted as wrong (finish_reason '%s')",
            len(unfit),
            job.max_model_len,
            PROMPT_TOO_LONG,
        )
    for key in unfit:
        samples.append(job.row(Completion(key=key, text="", length=0, finish_reason=PROMPT_TOO_LONG)))
