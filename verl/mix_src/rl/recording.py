"""Recording of groups (``luffy.record``): the trainer's part; :mod:`verl.mix_src.rl.kept` is that of the processes that compute the loss.

After the update of a step that is recorded the trainer asks all processes for the rows' gradient weights, chooses groups, asks for the tokens of the chosen rows alone, and writes one file. So it does not matter how rows are spread over micro-batches,
ranks and machines, and what is not chosen is not moved.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from luffy.digests import text_digest, uniform
from luffy.record import (
    GREEDY_ANSWER,
    HELD_OUT,
    ROLLOUT,
    TEACHER,
    RecordConfig,
    Response,
    TokenTexts,
    chosen_groups,
    followed_prompts,
    record_file,
    write_record,
)
from luffy.training_report import GREEDY_SUFFIX
from verl.mix_src.rl.batch import VERDICT, fit
from verl.mix_src.rl.kept import RECORDED, kept_values, kept_weights
from verl.mix_src.rl.reward import ANSWER, REASON
from verl.mix_src.rl.rollout import DEMONSTRATION, OFF_POLICY_MASK, PLACE, REPLAY
from verl.mix_src.rl.trackers import log_groups

SECONDS = "timing/record"  # metric: seconds of the step that recording took, beside what the loss keeps
FIELDS = (
    "uid", "prompts", "responses", "response_mask", "rm_scores", "old_log_probs", "entropy", "advantages", "extra_fields", "data_source",
    OFF_POLICY_MASK, PLACE,
)  # fmt: skip


class RecordingTrainer:
    """A trainer that records groups; mixed into a trainer of veRL, before its other parts, which are its ``super()``."""

    _answered: tuple[list[str], list[str]] = ([], [])  # prompts and responses of the validation that is under way

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        prompts = self._groups_to_record(batch)
        if prompts is None:
            return super()._update_actor(batch, metrics)
        batch.extra_info[RECORDED] = True
        batch = super()._update_actor(batch, metrics)
        start = time.monotonic()
        self._record(batch, prompts)
        del batch.extra_info[RECORDED]
        metrics[SECONDS] = time.monotonic() - start
        return batch

    @property
    def _record_config(self) -> RecordConfig:
        return self.luffy.record

    @property
    def _record_due(self) -> bool:
        return self.global_steps == 1 or self.global_steps % self._record_config.every == 0

    def _groups_to_record(self, batch: KVBatchMeta) -> dict[str, int] | None:
        """Place in the data of the prompt of each group that may be recorded at this step; None where there is nothing to record."""
        if not self._record_config.every or self.local_trigger_step:
            return None
        names = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding")]
        data = tq.kv_batch_get(keys=names, partition_id=batch.partition_id, select_fields=["uid", PLACE])
        places = _listed(data, PLACE, -1, len(names))
        prompts = dict(zip(map(str, data["uid"]), map(int, places), strict=True))
        return prompts if self._record_due or self._followed.intersection(prompts.values()) else None

    @property
    def _followed(self) -> frozenset[int]:
        if "_followed_prompts" not in self.__dict__:
            self._followed_prompts = followed_prompts(len(self.train_dataset), self._record_config)
        return self._followed_prompts

    def _record(self, batch: KVBatchMeta, prompts: Mapping[str, int]) -> None:
        """Choose groups of this step, and write their record."""
        by_row: dict[int, float] = {}
        for found in self._ask_workers(kept_weights):  # a row is with all ranks that share its sequence
            by_row |= found
        weights: dict[str, float] = defaultdict(float)
        for row, weight in by_row.items():
            weights[_group_of(batch.keys[row])] += weight
        whole = chosen_groups(prompts, weights, followed=self._followed, whole=self._record_due, config=self._record_config)
        rows = [row for row in sorted(by_row) if _group_of(batch.keys[row]) in whole]
        values: dict[int, dict[str, np.ndarray]] = {}
        for found in self._ask_workers(kept_values, rows):
            values |= found
        total = sum(weights.values())
        shares = {group: weights[group] / total if total else 0.0 for group in whole}
        responses = self._responses(batch, rows, values, whole, shares)
        responses.sort(key=lambda response: list(whole).index(response.group))
        write_record(record_file(self._folder, self.global_steps), responses)
        log_groups(self.logger, "groups", responses, self.global_steps)

    def _responses(
        self,
        batch: KVBatchMeta,
        rows: Sequence[int],
        values: Mapping[int, Mapping[str, np.ndarray]],
        chosen: Mapping[str, str],
        shares: Mapping[str, float],
    ) -> list[Response]:
        keys = [batch.keys[row] for row in rows]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=list(FIELDS))
        texts = self._token_texts
        columns = {name: data[name].unbind() for name in FIELDS if name in data.keys() and isinstance(data[name], torch.Tensor)}
        forced = fit(data[OFF_POLICY_MASK], max(len(each) for each in columns["responses"])).bool()
        sources, places = (_listed(data, name, absent, len(rows)) for name, absent in (("data_source", ""), (PLACE, -1)))
        made = []
        for place, (row, extra) in enumerate(zip(rows, data["extra_fields"], strict=True)):
            group, tokens = _group_of(keys[place]), columns["responses"][place].tolist()
            extra = extra if isinstance(extra, dict) else {}
            given = forced[place, : len(tokens)].numpy()
            made.append(
                Response(
                    group=group,
                    chosen=chosen[group],
                    gradient_share=shares[group],
                    prompt_key=int(places[place]),
                    data_source=str(sources[place]),
                    prompt=self.tokenizer.decode(columns["prompts"][place].tolist()),
                    source=source_of(extra),
                    trace=text_digest(repr([token for token, each in zip(tokens, given, strict=True) if each])) if given.any() else "",
                    reason=str(extra.get(VERDICT, {}).get(REASON, "")),
                    answer=str(extra.get(VERDICT, {}).get(ANSWER, "")),
                    reward=float(columns["rm_scores"][place].sum()),
                    advantage=float(columns["advantages"][place].sum() / columns["response_mask"][place].sum().clamp(min=1)),
                    tokens=texts(tokens),
                    forced=given,
                    values={
                        "old_probability": _row(columns["old_log_probs"][place].exp(), len(tokens)),
                        **({"entropy": _row(columns["entropy"][place], len(tokens))} if "entropy" in columns else {}),
                        **{name: array[: len(tokens)] for name, array in values[row].items()},
                    },
                )
            )
        return made

    @property
    def _token_texts(self) -> TokenTexts:
        if "_texts" not in self.__dict__:
            self._texts = TokenTexts(self.tokenizer)
        return self._texts

    def _maybe_log_val_generations(self, inputs: list[str], outputs: list[str], scores: list[float]) -> None:
        self._answered = (inputs, outputs)
        super()._maybe_log_val_generations(inputs=inputs, outputs=outputs, scores=scores)

    def record_validation(self, data_sources: list[str], infos: Mapping[str, list[Any]]) -> None:
        """Write the record of a validation, whose answers :meth:`_maybe_log_val_generations` was given."""
        if self._record_config.every:
            responses = held_out_responses(*self._answered, data_sources, infos, self._record_config.groups)
            write_record(record_file(self._folder, self.global_steps, held_out=True), responses)
            log_groups(self.logger, "held_out", [each for each in responses if each.tokens], self.global_steps)
        self._answered = ([], [])


def _group_of(key: str) -> str:
    """The group's name in a row's key, ``{uid}_{session}_{output}``."""
    return key.rsplit("_", 2)[0]


def _listed(data: TensorDict, name: str, absent: Any, length: int) -> list[Any]:
    """A column that is no tensor, or as often what stands for it where the data set has none."""
    return list(data[name]) if name in data.keys() else [absent] * length


def _row(values: torch.Tensor, length: int) -> np.ndarray:
    return values[:length].float().cpu().numpy()


def source_of(extra: Mapping[str, Any]) -> str:
    """Where a row comes from, by its extra fields: ``rollout``, ``teacher NAME`` or ``replay``."""
    fact = extra.get(DEMONSTRATION)
    if not fact:
        return ROLLOUT
    return REPLAY if fact["source"] == REPLAY else f"{TEACHER} {fact['source'] or ''}".rstrip()


def held_out_responses(
    prompts: Sequence[str], outputs: Sequence[str], data_sources: Sequence[str], infos: Mapping[str, Sequence[Any]], with_text: int
) -> list[Response]:
    """The answers of a validation, a group a problem: first some problems with the texts of their answers, then all others without.

    Args:
        prompts, outputs, data_sources: of each answer.
        infos: of each answer its ``reward``, and where there is one its ``reason`` and ``answer``.
        with_text: number of problems, chosen by a hash of the prompt, whose answers are kept.
    """
    places = defaultdict(list)
    for place, prompt in enumerate(prompts):
        places[text_digest(data_sources[place].removesuffix(GREEDY_SUFFIX) + prompt)].append(place)
    ordered = sorted(places, key=lambda group: (uniform("record", group), group))
    return [
        Response(
            group=group,
            chosen=HELD_OUT,
            data_source=data_sources[place].removesuffix(GREEDY_SUFFIX),
            prompt=prompts[place],
            source=GREEDY_ANSWER if data_sources[place].endswith(GREEDY_SUFFIX) else ROLLOUT,
            reason=_said(infos, REASON, place),
            answer=_said(infos, ANSWER, place),
            reward=float(infos["reward"][place]),
            tokens=[outputs[place]] if number < with_text else [],
        )
        for number, group in enumerate(ordered)
        for place in places[group]
    ]


def _said(infos: Mapping[str, Sequence[Any]], name: str, place: int) -> str:
    value = infos[name][place] if name in infos else None
    return "" if value is None else str(value)
