"""What a training has cost, with numbers by hand."""

from __future__ import annotations

import json

from luffy.ledger import Ledger, of_step, read_ledger
from luffy.models import parameter_count

STEP = {"ledger/generated_tokens": 70.0, "ledger/trained_tokens": 80.0, "ledger/processed_tokens": 100.0, "ledger/traces": 2.0}


def test_each_forward_pass_counts_its_rows():
    assert of_step(STEP) == Ledger(steps=1, generated=70, trained=80, processed=100, forwarded=0, traces=2)
    assert of_step({**STEP, "timing_s/ref": 0.1}).forwarded == 100
    assert of_step({**STEP, "timing_s/ref": 0.2, "ledger/forwarded_tokens": 57}).forwarded == 157


def test_rows_that_the_update_leaves_out_are_forwarded_all_the_same():
    found = of_step({**STEP, "batch/left_out_share": 0.25, "timing_s/ref": 0.1})
    assert (found.processed, found.forwarded, found.trained) == (75, 100, 80)


def test_an_update_beside_the_steps_own_counts():
    own = {"sft/ledger/trained_tokens": 5.0, "sft/ledger/processed_tokens": 9.0, "sft/ledger/traces": 1.0}
    assert of_step(STEP | own) == Ledger(steps=1, generated=70, trained=85, processed=109, traces=3)


def test_looks_at_held_out_problems_cost_nothing_and_a_part_can_be_read():
    records = [{"step": 0, "data": {"val-core/x/acc/mean@8": 0.5}}, {"step": 1, "data": STEP}, {"step": 2, "data": STEP}]
    assert read_ledger(records) == of_step(STEP) + of_step(STEP) == Ledger(steps=2, generated=140, trained=160, processed=200, traces=4)
    assert read_ledger(records, until=1) == of_step(STEP)


def test_operations():
    ledger = Ledger(steps=1, generated=10, trained=5, processed=100, forwarded=30)
    assert ledger.flops(7) == 7 * (600 + 20 + 60)


def test_parameters_are_counted_from_the_headers(tmp_path):
    for name, shapes in {"a": [[3, 4], [5]], "b": [[2, 2, 2]]}.items():
        header = {f"w{number}": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 1]} for number, shape in enumerate(shapes)}
        text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    assert parameter_count(tmp_path) == 12 + 5 + 8
