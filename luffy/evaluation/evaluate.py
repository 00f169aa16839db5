"""A whole evaluation: problems to prompts, prompts to samples, samples to verdicts, all of it resumable."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from luffy.errors import InputError
from luffy.evaluation import manifest, report
from luffy.evaluation.engine import Completion, Ready, Request
from luffy.evaluation.environment import environment
from luffy.evaluation.generation import generate
from luffy.evaluation.job import Evaluation, Job, read_job
from luffy.evaluation.results import read_result
from luffy.evaluation.sample_log import Key, SampleLog
from luffy.evaluation.scoring import PENDING, Scorer, Scoring, check_samples, claim_scores, score_file
from luffy.evaluation.tables import make_tables
from luffy.progress import Bar

PROMPT_TOO_LONG = "prompt_too_long"

logger = logging.getLogger(__name__)


def evaluate(evaluation: Evaluation) -> None:
    """Generate what is missing, and score it; what an earlier run of the same command has done is kept.

    Raises:
        InputError: for what a user got wrong, a full disk, or an engine that stops.
    """
    job = read_job(evaluation)
    output = evaluation.output_file
    decoded = manifest.decoded_path(output)
    manifest.claim(output, manifest.GENERATION, job.identity(), results=decoded, overwrite=evaluation.overwrite)
    manifest.note(output, manifest.PLAN, job.plan())
    if evaluation.overwrite:
        output.unlink(missing_ok=True)
    if evaluation.skip_scoring:
        with SampleLog(decoded) as samples:
            _generate(job, samples, scorer=None)
        return
    claim_scores(output, evaluation.scoring)
    with SampleLog(decoded) as samples, Scorer(output, evaluation.scoring) as scorer:
        _generate(job, samples, scorer)
        begin = time.perf_counter()
        score_file(decoded, scorer, total=len(job.keys()))
        logger.info("finished scoring after another %.1f s", time.perf_counter() - begin)
    _summarize(output, evaluation.output_eval)


def score(
    decoded: Path,
    scoring: Scoring,
    *,
    output: Path | None = None,
    output_eval: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Score generated samples.

    Args:
        decoded: JSONL file of generated samples, ``NAME.decoded.jsonl``.
        scoring: how to score.
        output: JSONL file of scored samples; None takes ``NAME.jsonl``.
        output_eval: JSON file of the accuracies; None writes it beside the output.
        overwrite: score anew where the output was scored in another way; the responses are never touched.

    Raises:
        InputError: where a file cannot be read or written, or the output was scored in another way.
    """
    if not decoded.is_file():
        raise InputError(f"{decoded}: no such file; give the .decoded.jsonl file that generate_vllm.py wrote")
    if output is None:
        output = decoded.with_name(decoded.name.removesuffix(".jsonl").removesuffix(".decoded") + ".jsonl")
    if output.resolve() == decoded.resolve():
        raise InputError(f"{decoded}: would be overwritten by its scores; give another --output_file")
    total = check_samples(decoded, scoring, scored=None if overwrite else output)
    manifest.copy_generation(decoded, output)
    claim_scores(output, scoring, overwrite=overwrite)
    with Scorer(output, scoring) as scorer:
        score_file(decoded, scorer, total=total)
    _summarize(output, output_eval)


def show_prompt(evaluation: Evaluation) -> str:
    """The first prompt of an evaluation, as the model would see it; nothing is generated."""
    return read_job(evaluation).prompts[0].text


def _generate(job: Job, samples: SampleLog, scorer: Scorer | None) -> None:
    keys = job.keys()
    missing = [key for key in keys if key not in samples.done]
    if len(missing) < len(keys):
        logger.info("%d of %d samples are there already; going on", len(keys) - len(missing), len(keys))
    _skip_unfit(job, samples, [key for key in missing if not job.fits(key)])
    requests = [job.request(key) for key in missing if job.fits(key)]
    if requests:
        with Bar(total=len(keys), initial=len(samples.done), unit="sample", desc="generating", smoothing=0.02) as bar:
            _run_engines(job, requests, samples, scorer, bar)
    elif missing:
        manifest.note_environment(job.evaluation.output_file, environment())
    samples.finish()


def _run_engines(job: Job, requests: Sequence[Request], samples: SampleLog, scorer: Scorer | None, bar: Bar) -> None:
    tokens, begin = 0, 0.0

    def on_ready(ready: Ready) -> None:
        nonlocal begin
        where = environment(device=ready.device, dtype=ready.dtype)
        manifest.note_environment(job.evaluation.output_file, where)
        begin = time.perf_counter()
        bar.unpause()  # the time left counts from here

    for completion in generate(requests, job.engines(), job.sampling, on_ready=on_ready):
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


def _summarize(output: Path, output_eval: Path | None) -> None:
    tables = make_tables([read_result(output)])
    summary = output_eval or output.with_name(output.name.removesuffix(".jsonl") + ".summary.json")
    report.write_text(summary, report.to_json(tables))
    logger.info("%s", report.to_markdown(tables))
