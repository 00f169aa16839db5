"""Answers of one model to several sets of problems, with one start of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from luffy.evaluation.engine import Completion, build_engine
from luffy.evaluation.job import Job
from luffy.progress import Bar
from luffy.rewards import Grader, kind_for


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response, the problem's number, and whether it is right."""

    problem: int
    completion: Completion
    prompt: str
    correct: bool


def answer(jobs: Sequence[Job]) -> list[list[Answer]]:
    """Answer the problems of several jobs of one model, with one start of the engine.

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


def _graded(job: Job, completions: dict[tuple[int, int], Completion], grader: Grader) -> list[Answer]:
    ordered = [completions[key] for key in job.keys()]
    problems = [job.problems[completion.key[0]] for completion in ordered]
    verdicts = grader.grade_batch(
        [(completion.text, problem.gold) for completion, problem in zip(ordered, problems, strict=True)],
        kind=[kind_for(problem.benchmark) for problem in problems],
        truncated=[completion.finish_reason == "length" for completion in ordered],
    )
    return [
        Answer(
            problem=completion.key[0],
            completion=completion,
            prompt=job.prompts[completion.key[0]].text,
            correct=verdict.correct,
        )
        for completion, verdict in zip(ordered, verdicts, strict=True)
    ]
