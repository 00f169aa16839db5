"""Model cards of a run's exported models, written at its end (:mod:`luffy.model_card`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from luffy.data.report import report_folder
from luffy.evaluation.results import read_result
from luffy.model_card import CardFacts, held_out_results, held_out_scores, write_card
from luffy.training_report import held_out_accuracy
from verl.mix_src.config import is_rl, model_node
from verl.mix_src.run.checkpoints import BEST
from verl.mix_src.run.data import files_of, first_chat
from verl.mix_src.run.folder import RunFiles

SETTINGS = {  # what a card shows, by the setting's name there: of reinforcement learning, and of SFT
    "prompts a step": ("data.train_batch_size",),
    "responses a prompt": ("actor_rollout_ref.rollout.n",),
    "of which demonstrations": ("luffy.guidance.n_demonstrations",),
    "shaping of off-policy ratios": ("luffy.objective.shaping.name",),
    "γ": ("luffy.objective.shaping.gamma",),
    "learning rate": ("actor_rollout_ref.actor.optim.lr", "optim.lr"),
    "prompt tokens": ("data.max_prompt_length",),
    "response tokens": ("data.max_response_length",),
    "sampling temperature": ("actor_rollout_ref.rollout.temperature",),
    "entropy coefficient": ("luffy.entropy.coefficient",),
    "seed": ("luffy.run.seed",),
}
OF_RL = ("luffy.guidance", "luffy.objective", "luffy.entropy")


def write_cards(config: DictConfig, files: RunFiles, records: Sequence[dict[str, Any]], summary: Mapping[str, Any]) -> list[Path]:
    """Write a card into the folder of each exported model of a run, the best one's included.

    Args:
        config: of the run.
        files: its folder.
        records: its metrics.
        summary: of the run.

    Returns:
        The cards.
    """
    measured = {record["step"]: found for record in records if (found := held_out_accuracy(record["data"]))}
    return [write_card(folder, _facts(config, files, step, measured, summary)) for step, folder in _models(files)]


def _models(files: RunFiles) -> Iterator[tuple[int, Path]]:
    yield from files.exported_models().items()
    yield from RunFiles(files.folder / BEST).exported_models().items()


def _facts(
    config: DictConfig, files: RunFiles, step: int, measured: Mapping[int, Mapping[str, float]], summary: Mapping[str, Any]
) -> CardFacts:
    val = config.actor_rollout_ref.rollout.val_kwargs if is_rl(config) else config.val_kwargs
    scores = held_out_scores(files.folder, step) if is_rl(config) else _scores_of_files(files.held_out / f"step_{step}")
    settings = {title: value for title, keys in SETTINGS.items() if (value := _setting(config, keys)) is not None}
    train, base = files_of(config.data.train_files), Path(str(model_node(config).path)).expanduser()
    return CardFacts(
        name=f"{config.trainer.experiment_name}-step-{step}",
        base_model=str(base.resolve() if base.is_dir() else model_node(config).path),
        method=str(config.method.title),
        paper=str(config.method.paper),
        data_sets=[name for file in train for name in _sources(Path(file))],
        steps=step,
        measured_at=step,
        results=held_out_results(scores, measured.get(step, {}), measured.get(0, {})),
        validation=", ".join(Path(file).name for file in files_of(config.data.val_files)),
        messages=first_chat(train[0]) or [],
        max_tokens=int(config.data.max_response_length),
        temperature=float(val.temperature),
        top_p=float(val.top_p),
        settings={"training data": ", ".join(Path(file).name for file in train), **settings},
        seconds=float(summary["seconds"]),
    )


def _setting(config: DictConfig, keys: Sequence[str]) -> Any:
    known = (key for key in keys if is_rl(config) or not key.startswith(OF_RL))
    return next((value for key in known if (value := OmegaConf.select(config, key)) is not None), None)


def _scores_of_files(folder: Path) -> dict[str, list[float]]:
    """The score of each held-out problem that SFT asked at a step, by ``avg@N`` and ``greedy``."""
    found: dict[str, list[float]] = {}
    for kind in ("sampled", "greedy"):
        for file in sorted(path for path in (folder / kind).glob("*.jsonl") if not path.name.endswith(".decoded.jsonl")):
            for result in read_result(file).benchmarks.values():
                found.setdefault("greedy" if kind == "greedy" else f"avg@{result.fewest_samples}", []).extend(result.scores())
    return found


def _sources(train_file: Path) -> list[str]:
    """What a training file was made from, as names of the Hub: from the report beside it."""
    report = report_folder(train_file) / "report.json"
    if not report.is_file():
        return []
    return json.loads(report.read_text(encoding="utf-8")).get("settings", {}).get("hub_names", [])
