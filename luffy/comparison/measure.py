"""What a trained model can do: held-out problems, sampled and greedily, and harder ones, with one start of the engine.

``python -m luffy.comparison.measure --model_path MODEL --heldout FILE --harder FILE --output FILE``
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from luffy.command_line import Parser, run
from luffy.comparison.answers import Answer, answer
from luffy.comparison.measurement import SAMPLES, Measurement
from luffy.data.atomic import replacing
from luffy.evaluation.engine import Sampling
from luffy.evaluation.estimators import pass_at_k
from luffy.evaluation.job import Evaluation, Job, read_job
from luffy.evaluation.model_files import find_model
from luffy.policy_entropy import Response, mean_entropy

MAX_TOKENS = 96  # a problem that is one digit longer takes 66
ENTROPY_RESPONSES = 256

logger = logging.getLogger(__name__)


def measure(model_path: str, heldout: Path, harder: Path, *, seed: int) -> Measurement:
    """Answer problems with a model.

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
    sampled, greedy, harder_sampled = answer(jobs)
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


def _average(answers: Sequence[Answer]) -> float:
    return sum(each.correct for each in answers) / len(answers)


def _passed(answers: Sequence[Answer]) -> float:
    """Mean of pass@8 over the problems."""
    counts: dict[int, list[bool]] = {}
    for each in answers:
        counts.setdefault(each.problem, []).append(each.correct)
    return sum(pass_at_k(len(right), sum(right), SAMPLES) for right in counts.values()) / len(counts)


def _response(given: Answer) -> Response:
    done = given.completion
    return Response(prompt=given.prompt, text=done.text, ended=done.finish_reason == "stop")


def main() -> None:
    """Measure a model and write what was found as JSON."""
    parser = Parser(description="Measure a model of the embedded example.")
    parser.add_argument("--model_path", required=True, help="a Hugging Face model folder")
    parser.add_argument("--heldout", type=Path, required=True, help="parquet file of held-out problems")
    parser.add_argument("--harder", type=Path, required=True, help="parquet file of longer problems")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    measurement = measure(arguments.model_path, arguments.heldout, arguments.harder, seed=arguments.seed)
    with replacing(arguments.output) as temporary:
        temporary.write_text(json.dumps(asdict(measurement), indent=2) + "\n", encoding="utf-8")
    logger.info("measured: %s", ", ".join(f"{name} {value:.3f}" for name, value in asdict(measurement).items()))


if __name__ == "__main__":
    run(main)
