"""Held-out accuracy of an SFT checkpoint: problems answered with vLLM, under the names of veRL's validation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from luffy.evaluation import manifest
from luffy.evaluation.engine import Sampling
from luffy.evaluation.evaluate import Evaluation, evaluate
from luffy.evaluation.generation import Engines
from luffy.evaluation.policy_entropy import Response, mean_entropy
from luffy.evaluation.results import read_result
from luffy.evaluation.samples import read_rows
from luffy.evaluation.scoring import Scoring
from luffy.training_report import GREEDY_SUFFIX

ENTROPY_ROWS = 128  # as many responses as a step of the embedded example samples


def held_out_metrics(config: DictConfig, model: Path, folder: Path) -> dict[str, float]:
    """Answer the held-out problems and measure the answers.

    Args:
        config: the run's; read are ``data.val_files``, ``data.max_response_length``, ``val_kwargs`` and ``luffy.run``.
        model: a Hugging Face model folder.
        folder: where the answers go; those that are there already are kept.

    Returns:
        ``val-core/SOURCE/acc/mean@N`` for each data source, the same of ``SOURCE_greedy`` where
        ``luffy.run.validate_greedy`` is set, ``on_policy/response_length`` (tokens) and, for answers sampled at
        temperature 1, ``on_policy/entropy`` (nats a token).
    """
    kwargs = config.val_kwargs
    sampling = Sampling(temperature=kwargs.temperature, top_p=kwargs.top_p)
    with Engines() as engines:
        sampled = _answer(config, model, folder / "sampled", sampling, kwargs.n, engines)
        metrics = dict(_accuracy(sampled, suffix=""))
        if config.luffy.run.validate_greedy:
            greedy = _answer(config, model, folder / "greedy", Sampling(temperature=0.0), 1, engines)
            metrics |= dict(_accuracy(greedy, suffix=GREEDY_SUFFIX))
    rows = [row for path in sampled for row in read_rows(manifest.decoded_path(path))]
    metrics["on_policy/response_length"] = sum(row["length"] for row in rows) / len(rows)
    if kwargs.temperature == 1.0:
        metrics["on_policy/entropy"] = mean_entropy(str(model), [_response(row) for row in rows[:ENTROPY_ROWS]])
    return metrics


def _answer(config: DictConfig, model: Path, folder: Path, sampling: Sampling, n: int, engines: Engines) -> list[Path]:
    files = config.data.val_files
    outputs = []
    for file in [files] if isinstance(files, str) else files:
        outputs.append(folder / f"{Path(file).stem}.jsonl")
        outputs[-1].parent.mkdir(parents=True, exist_ok=True)
        evaluate(
            Evaluation(
                model_path=str(model),
                input_file=str(file),
                output_file=outputs[-1],
                remove_system=False,
                sampling=Sampling(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=config.data.max_response_length),
                n=n,
                seed=config.luffy.run.seed,
                scoring=Scoring(),
            ),
            engines,
        )
    return outputs


def _accuracy(outputs: list[Path], *, suffix: str) -> Iterator[tuple[str, float]]:
    for path in outputs:
        for source, result in read_result(path).benchmarks.items():
            yield f"val-core/{source}{suffix}/acc/mean@{result.fewest_samples}", result.accuracy().value


def _response(row: dict[str, Any]) -> Response:
    return Response(prompt=row["prompt"], text=row["response"], ended=row["finish_reason"] == "stop")
