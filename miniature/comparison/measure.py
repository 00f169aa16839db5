"""What a trained model can do: held-out problems, sampled and greedily, and harder ones, with one start of the engine.

``python -m miniature.comparison.measure --model_path MODEL --heldout FILE --harder FILE --output FILE``
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luffy.command_line import option, parse, run
from luffy.evaluation.engine import Sampling, build_engine
from luffy.evaluation.estimators import pass_at_k
from luffy.evaluation.evaluate import Evaluation, Job, read_job
from luffy.evaluation.generation import Completion
from luffy.evaluation.policy_entropy import Response, mean_entropy
from luffy.files import write_json
from luffy.models import find_model
from luffy.progress import Bar
from luffy.rewards import Grader, kind_for

SAMPLES = 8  # of each problem


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a model was found to do; shares are in [0, 1], samples are drawn at temperature 1.

    Attributes:
        avg8: share of right answers to held-out problems, 8 samples each.
        pass8: share of held-out problems with a right answer among the 8.
        greedy: share of held-out problems that greedy decoding solves.
        harder_avg8: as ``avg8``, of problems one digit longer than any that was trained on.
        harder_pass8: as ``pass8``, of these.
        entropy: nats a token of the held-out answers, as the model draws them.
        response_length: mean tokens of a held-out answer.
    """

    avg8: float
    pass8: float
    greedy: float
    harder_avg8: float
    harder_pass8: float
    entropy: float
    response_length: float


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A response, the problem's number, and whether it is right."""

    problem: int
    completion: Completion
    prompt: str
    correct: bool


def ask(jobs: Sequence[Job]) -> list[list[Attempt]]:
    """Attempt the problems of several jobs of one model, with one start of the engine.

    Args:
        jobs: problems, how often each is answered, and how tokens are drawn.

    Returns:
        For each job its graded answers, in the order of its keys.
    """
    roomiest = max(jobs, key=lambda job: job.max_model_len)
    engine = build_engine(roomiest.engines()[0])
    for number, job in enumerate(jobs):
        for key in job.keys():
            request = job.request(key)
            name, prompt = f"{number}/{key[0]}/{key[1]}", _prompt(request.token_ids)
            engine.add_request(name, prompt, _parameters(job, request.seed))
    found: list[dict[tuple[int, int], Completion]] = [{} for _ in jobs]
    for number, completion in _completions(engine, total=sum(len(job.keys()) for job in jobs)):
        found[number][completion.key] = completion
    with Grader() as grader:
        return [_graded(job, completions, grader) for job, completions in zip(jobs, found, strict=True)]


def _completions(engine: Any, total: int) -> Iterator[tuple[int, Completion]]:
    with Bar(total=total, desc="answering", unit="answer") as bar:
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    number, problem, sample = map(int, output.request_id.split("/"))
                    drawn = output.outputs[0]
                    bar.update()
                    yield (
                        number,
                        Completion(
                            key=(problem, sample),
                            text=drawn.text,
                            length=len(drawn.token_ids),
                            finish_reason=drawn.finish_reason or "unknown",
                        ),
                    )


def _prompt(token_ids: Sequence[int]) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": list(token_ids)}


def _parameters(job: Job, seed: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=job.sampling.temperature,
        max_tokens=job.sampling.max_tokens,
        seed=seed if job.sampling.temperature > 0 else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _graded(job: Job, completions: dict[tuple[int, int], Completion], grader: Grader) -> list[Attempt]:
    ordered = [completions[key] for key in job.keys()]
    problems = [job.problems[completion.key[0]] for completion in ordered]
    verdicts = grader.grade_batch(
        [(completion.text, problem.gold) for completion, problem in zip(ordered, problems, strict=True)],
        kind=[kind_for(problem.benchmark) for problem in problems],
        truncated=[completion.finish_reason == "length" for completion in ordered],
    )
    return [
        Attempt(
            problem=completion.key[0],
            completion=completion,
            prompt=job.prompts[completion.key[0]].text,
            correct=verdict.correct,
        )
        for completion, verdict in zip(ordered, verdicts, strict=True)
    ]


MAX_TOKENS = 128  # a problem that is one digit longer takes 66, in the long style 122
ENTROPY_RESPONSES = 256

logger = logging.getLogger(__name__)


def measure(model_path: str, heldout: Path, harder: Path, *, seed: int) -> Measurement:
    """Attempt problems with a model.

    Args:
        model_path: a Hugging Face model folder.
        heldout: parquet file of problems of the training size.
        harder: parquet file of longer problems.
        seed: of the samples.

    Raises:
        luffy.errors.InputError: where model or files cannot be used.
    """
    model = find_model(model_path).name
    jobs = [
        _job(model, heldout, seed, n=SAMPLES, temperature=1.0),
        _job(model, heldout, seed, n=1, temperature=0.0),
        _job(model, harder, seed, n=SAMPLES, temperature=1.0),
    ]
    sampled, greedy, harder_sampled = ask(jobs)
    return Measurement(
        avg8=_average(sampled),
        pass8=_passed(sampled),
        greedy=_average(greedy),
        harder_avg8=_average(harder_sampled),
        harder_pass8=_passed(harder_sampled),
        entropy=mean_entropy(model_path, [_response(each) for each in sampled[:ENTROPY_RESPONSES]]),
        response_length=sum(each.completion.length for each in sampled) / len(sampled),
    )


def _job(model: str, file: Path, seed: int, *, n: int, temperature: float) -> Job:
    sampling = Sampling(temperature=temperature, max_tokens=MAX_TOKENS)
    return read_job(
        Evaluation(
            model_path=model, input_file=str(file), output_file=Path("unused"), n=n, seed=seed, sampling=sampling,
            remove_system=False,
        )
    )  # fmt: skip


def _average(answers: Sequence[Attempt]) -> float:
    return sum(each.correct for each in answers) / len(answers)


def _passed(answers: Sequence[Attempt]) -> float:
    """Mean of pass@8 over the problems."""
    counts: dict[int, list[bool]] = {}
    for each in answers:
        counts.setdefault(each.problem, []).append(each.correct)
    return sum(pass_at_k(len(right), sum(right), SAMPLES) for right in counts.values()) / len(counts)


def _response(given: Attempt) -> Response:
    done = given.completion
    return Response(prompt=given.prompt, text=done.text, ended=done.finish_reason == "stop")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Which model is measured on what: the flags."""

    model_path: str = option(help="a Hugging Face model folder")
    heldout: Path = option(help="parquet file of held-out problems")
    harder: Path = option(help="parquet file of longer problems")
    seed: int = option(0, "of the samples")
    output: Path = option(help="JSON file")


def main() -> None:
    """Measure a model and write what was found as JSON."""
    arguments = parse(Measured, description="Measure a model of the embedded example.")
    measurement = measure(arguments.model_path, arguments.heldout, arguments.harder, seed=arguments.seed)
    write_json(arguments.output, asdict(measurement))
    logger.info("measured: %s", ", ".join(f"{name} {value:.3f}" for name, value in asdict(measurement).items()))


if __name__ == "__main__":
    run(main)
