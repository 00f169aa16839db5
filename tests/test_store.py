"""The store: rows on disk, draws, and a training's state, against numbers by hand and the tables of ExGRPO's released script."""

from __future__ import annotations

import math
import os
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from luffy.errors import InputError
from luffy.store import Experience, Group, Row, RowStore, StoreConfig
from luffy.store.draw import bucket_weight, draw_keys, pick_row

EXGRPO = StoreConfig(admit="partly_solved", start_above=0.35, clip_before_start=0.2, retire=True)
RELIFT = StoreConfig(admit="unsolved", update_at=3)


def row(*tokens: int, log_prob: float = -0.5) -> Row:
    return Row(tokens=np.array(tokens, np.int32), log_probs=np.full(len(tokens), log_prob, np.float32))


def group(key: int, correct: int, *rows: Row, size: int = 8, has_trace: bool = True) -> Group:
    return Group(key=key, rows=rows, size=size, correct=correct, has_trace=has_trace)


def experience(config: StoreConfig, folder: Path, **sizes: int) -> Experience:
    return Experience(config, folder / "live", **{"group_size": 8, "prompts": 4, "data_size": 100} | sizes)


# ---- rows on disk


def test_rows_come_back_as_they_were(tmp_path):
    store = RowStore(tmp_path / "live")
    first, second = row(5, 6, 7, log_prob=-0.25), row(8, log_prob=-3.0)
    assert store.add(1, first.tokens, first.log_probs) and store.add(2, second.tokens, second.log_probs)
    assert not store.add(1, first.tokens, first.log_probs * 2)  # the same tokens keep their first log-probabilities
    assert store.add(2, first.tokens, first.log_probs)  # of another prompt
    assert len(store) == 3 and store.keys == [1, 2] and store.ids(2) == [1, 2] and store.newest(2) == [2, 1]
    for number, kept in enumerate((first, second, first)):
        assert store.read(number).tokens.tolist() == kept.tokens.tolist()
        assert store.read(number).log_probs.tolist() == kept.log_probs.tolist()
    assert store.remove(2) == 2 and store.keys == [1] and store.remove(2) == 0
    with pytest.raises(ValueError, match=r"\(3,\) tokens with \(1,\) log-probabilities"):
        store.add(3, first.tokens, second.log_probs)


def test_the_oldest_leave_a_full_store(tmp_path):
    store = RowStore(tmp_path / "live", capacity=2)
    for key in (7, 8, 9):
        store.add(key, np.array([key]), np.array([-1.0]))
    assert store.keys == [8, 9] and store.newest(9) == [2, 1]


def test_a_copy_is_the_store_whatever_follows(tmp_path):
    store = RowStore(tmp_path / "live")
    for key in range(4):
        store.add(key, np.arange(key + 1), np.full(key + 1, -float(key)))
    store.save(tmp_path / "copy")
    store.add(9, np.array([9]), np.array([-9.0]))
    store.remove(0)
    store.save(tmp_path / "later")
    for name, keys in (("copy", [0, 1, 2, 3]), ("later", [1, 2, 3, 9]), ("copy", [0, 1, 2, 3])):
        store.load(tmp_path / name)
        assert store.keys == keys
        for key in keys:
            (number,) = store.ids(key)
            assert store.read(number).log_probs.tolist() == [-float(key)] * len(store.read(number).tokens)
    store.add(5, np.array([5]), np.array([-5.0]))  # into a segment of its own
    assert RowStore(tmp_path / "other").load(tmp_path / "copy") is None
    assert [len(file.read_bytes()) for file in (tmp_path / "copy").glob("*.bin")] == [8 * (1 + 2 + 3 + 4)]


def test_a_copy_that_is_not_whole_is_refused_and_an_old_one_is_kept_until_the_new_is_there(tmp_path, monkeypatch):
    store = RowStore(tmp_path / "live")
    store.add(1, np.arange(3), np.zeros(3))
    store.save(tmp_path / "copy")
    store.add(2, np.arange(3), np.zeros(3))
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.save(tmp_path / "copy")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "live"]
    other = RowStore(tmp_path / "other")
    other.load(tmp_path / "copy")
    assert other.keys == [1]
    (segment,) = (tmp_path / "copy").glob("*.bin")
    segment.unlink()
    with pytest.raises(InputError, match="copy is not a whole store"):
        other.load(tmp_path / "copy")
    segment.write_bytes(b"\0" * 23)
    with pytest.raises(InputError, match="is cut"):
        other.load(tmp_path / "copy")


def test_rows_that_have_left_leave_the_disk_too(tmp_path):
    store = RowStore(tmp_path / "live")
    for key in range(10):
        store.add(key, np.full(1000, key), np.full(1000, -float(key)))
    store.save(tmp_path / "copy")
    for key in range(9):
        store.remove(key)
    store.save(tmp_path / "copy")
    assert sum(file.stat().st_size for file in (tmp_path / "live").glob("*.bin")) == 8 * 1000
    assert store.read(store.ids(9)[0]).log_probs.tolist() == [-9.0] * 1000
    store.load(tmp_path / "copy")
    assert store.read(store.ids(9)[0]).tokens.tolist() == [9] * 1000


def test_a_hundred_thousand_rows_of_2000_tokens_in_bounded_memory_and_64_of_them_in_50_ms(tmp_path):
    """1.6 GB on disk, where the file system gives zeros for free: the numbers are written sparsely, the index is the whole one."""
    rows, length, of_key = 100_000, 2000, 8
    store = RowStore(tmp_path / "live")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def write(content: bytes) -> None:  # only a row's first and last bytes; its place is what a whole one has
        if store._writer < 0:
            store._writer = os.open(store._file(store._segment), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.pwrite(store._writer, content[:8], store._size)
        store._size += len(content)
        os.pwrite(store._writer, content[-4:], store._size - 4)

    store._write = write
    tokens, log_probs = np.zeros(length, np.int32), np.full(length, -1.0, np.float32)
    for number in range(rows):
        tokens[0] = number
        store.add(number // of_key, tokens, log_probs)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100  # MB
    bucket = {key: 1 + key % 7 for key in store.keys}
    times = []
    for step in range(5):
        begun = time.perf_counter()
        drawn = draw_keys(bucket, 64, 8, "normal", seed=0, step=step)
        read = [store.read(store.ids(key)[0]) for key in drawn]
        times.append(time.perf_counter() - begun)
        assert [int(each.tokens[0]) // of_key for each in read] == drawn and all(each.log_probs[-1] == -1 for each in read)
    assert min(times) < 0.05, times


# ---- draws


def test_weights_of_buckets():
    """n = 8: the shares that the released script gives s = 1, ..., 7 rows right, when no bucket is empty."""
    weights = [bucket_weight(s, 8, "normal") for s in range(1, 8)]
    assert [round(weight / sum(weights), 4) for weight in weights] == [0.0044, 0.054, 0.242, 0.3991, 0.242, 0.054, 0.0044]
    assert [bucket_weight(s, 8, "linear_clip") for s in (2, 4, 6)] == [0.25, 0.5, 0.5]
    assert [bucket_weight(s, 8, "sqrt") for s in (2, 8)] == [0.5, 1.0]
    assert bucket_weight(6, 8, "linear") == 0.75 and bucket_weight(3, 8, "uniform") == 1


def test_draws_follow_the_weights_and_not_the_sizes_of_buckets():
    correct = dict.fromkeys(range(1000), 4) | dict.fromkeys(range(1000, 1010), 5)
    drawn = Counter(correct[draw_keys(correct, 1, 8, "normal", seed=0, step=step)[0]] for step in range(4000))
    assert drawn[5] / 4000 == pytest.approx(math.exp(-0.5) / (1 + math.exp(-0.5)), abs=0.02)  # 0.378
    uniform = Counter(correct[draw_keys(correct, 1, 8, "uniform", seed=0, step=step)[0]] for step in range(4000))
    assert uniform[5] / 4000 == pytest.approx(10 / 1010, abs=0.006)
    within = Counter(draw_keys({0: 4, 1: 4, 2: 4}, 1, 8, "normal", seed=0, step=step)[0] for step in range(3000))
    assert all(count == pytest.approx(1000, abs=90) for count in within.values())


def test_a_prompt_is_drawn_once_and_what_a_bucket_cannot_give_others_do():
    correct = {1: 4, 2: 4, 3: 1, 4: 7, 5: 1}
    for step in range(50):
        assert sorted(draw_keys(correct, 5, 8, "normal", seed=0, step=step)) == [1, 2, 3, 4, 5]
        assert len(set(draw_keys(correct, 3, 8, "normal", seed=0, step=step))) == 3
    assert draw_keys(correct, 9, 8, "normal", seed=0, step=1) == draw_keys(dict(reversed(correct.items())), 9, 8, "normal", seed=0, step=1)
    assert draw_keys({}, 4, 8, "normal", seed=0, step=1) == []
    many = dict.fromkeys(range(100), 4)
    assert draw_keys(many, 5, 8, "normal", seed=0, step=1) != draw_keys(many, 5, 8, "normal", seed=0, step=2)
    assert draw_keys(many, 5, 8, "normal", seed=0, step=1) != draw_keys(many, 5, 8, "normal", seed=1, step=1)


def test_which_of_a_prompts_rows():
    assert pick_row([0.7, 0.2, 0.2], "least_entropy", seed=0, step=1, key=1) == 1
    assert pick_row([math.nan, 9.0], "least_perplexity", seed=0, step=1, key=1) == 1
    assert pick_row([0.0, 0.0, 0.0], "newest", seed=0, step=1, key=1) == 2
    assert {pick_row([0.0] * 3, "random", seed=0, step=step, key=1) for step in range(40)} == {0, 1, 2}


# ---- replay


def test_replay_starts_after_a_step_above_the_bound_and_keeps_nothing_before(tmp_path):
    store = experience(EXGRPO, tmp_path)
    right = [row(1, 2), row(3)]
    assert (
        store.observe([group(1, 2, *right), group(2, 3, *right, row(4)), group(3, 0), group(4, 6, *[row(i) for i in range(6)])])[
            "store/rows"
        ]
        == 0
    )  # 11 of 32 rows are right: 0.344
    store.plan_replay(2, values=pytest.fail)
    assert not store.started and store.plan == []
    metrics = store.observe([group(1, 4, *right), group(2, 8), group(3, 0), group(4, 0)])  # 12 of 32: 0.375
    assert store.started and metrics["store/rows"] == 0 and metrics["store/retired"] == 1  # it starts with the next step
    store.observe([group(1, 2, *right), group(3, 0)])
    assert len(store.rows) == 2 and store.started


def test_what_a_step_keeps_and_drops(tmp_path):
    store = experience(StoreConfig(admit="partly_solved", retire=True), tmp_path)
    metrics = store.observe(
        [group(1, 2, row(1), row(2)), group(2, 7, row(3)), group(3, 0), group(4, 8, row(4)), group(5, 7, row(5), size=7)]
    )
    assert store.rows.keys == [1, 2]  # 4 is right whole, 5 as well although a row of it is lost
    assert metrics["store/prompts"] == 2 and metrics["store/rows"] == 3 and metrics["store/retired"] == 1
    assert (metrics["store/bucket/2"], metrics["store/bucket/7"], metrics["store/bucket/4"]) == (1, 1, 0)
    assert metrics["store/kept_groups"] == 2 and metrics["store/kept_correct"] == 4.5
    metrics = store.observe([group(1, 5, row(1), row(9)), group(2, 0)])  # the replayed row again, and a new one
    assert len(store.rows) == 4 and metrics["store/bucket/5"] == 1 and metrics["store/bucket/7"] == 1  # 2 keeps its bucket
    store.observe([group(1, 8, row(1)), group(4, 3, row(6))])  # a retired prompt that was in flight
    assert store.rows.keys == [2]
    store.plan_replay(4, values=lambda rows: [0.0] * len(rows))
    assert [store.rows.key_of(kept) for kept in store.plan] == [2]


def test_the_plan_asks_for_the_rows_of_prompts_with_several_alone(tmp_path):
    store, asked = experience(StoreConfig(admit="partly_solved"), tmp_path), []
    store.observe([group(1, 3, row(1), row(2), row(3)), group(2, 1, row(4))])

    def values(rows: list[int]) -> list[float]:
        asked.extend(rows)
        return [{0: 0.9, 1: 0.1, 2: 0.5}[each] for each in rows]

    store.plan_replay(2, values)
    assert sorted(asked) == [0, 1, 2] and sorted(store.plan) == [1, 3]


@pytest.mark.parametrize(("share", "prompts", "most"), [(0.5, 4, 2), (0.5, 5, 2), (1.0, 3, 3), (0.25, 4, 1)])
def test_a_step_replays_its_share_at_most(tmp_path, share, prompts, most):
    store = experience(StoreConfig(admit="partly_solved", replay_share=share), tmp_path, prompts=prompts)
    store.observe([group(key, 4, row(key)) for key in range(50)])
    store.plan_replay(2, values=pytest.fail)
    assert len(store.plan) == most


def test_retired_prompts_leave_the_data_at_the_next_epoch(tmp_path):
    store = experience(StoreConfig(admit="partly_solved", retire=True), tmp_path, data_size=6, prompts=2)
    assert [store.fetch(key) for key in range(3)] == [True] * 3
    store.observe([group(0, 8), group(1, 8)])
    assert store.fetch(0)  # of the epoch's rest
    store.save(tmp_path / "copy")
    for again in (store, experience(store.config, tmp_path / "other", data_size=6, prompts=2)):
        again.load(tmp_path / "copy")
        assert again.fetch(1) and again.fetch(2)
        assert [again.fetch(key) for key in range(6)] == [False, False, True, True, True, True]
        again.observe([group(key, 8) for key in range(2, 6)])
        assert [again.fetch(key) for key in range(6)] == [False, False, True, True, True, True]  # a batch would not be left


# ---- the queue


def test_the_queue_takes_unsolved_prompts_once_and_gives_the_newest(tmp_path):
    store = experience(RELIFT, tmp_path)
    store.observe([group(1, 0), group(2, 0), group(3, 1), group(4, 0, has_trace=False)])
    assert store.take_queue() == [] and store.rows.keys == [1, 2]
    store.observe([group(1, 0), group(5, 0), group(6, 0)])
    assert store.take_queue() == [6, 5, 1]  # the newest first: 1 was asked for again
    assert store.rows.keys == [2] and store.take_queue() == []


def test_a_queue_of_a_bound(tmp_path):
    store = experience(StoreConfig(admit="unsolved", update_at=2, capacity=2), tmp_path)
    store.observe([group(key, 0) for key in (1, 2, 3)])
    assert store.take_queue() == [3, 2] and store.rows.keys == []


# ---- state


@pytest.mark.parametrize("config", [EXGRPO, RELIFT, StoreConfig(admit="partly_solved", pick="random", capacity=12)])
def test_a_training_that_goes_on_is_the_one_that_went_through(tmp_path, config):
    """Three steps, a copy, and four more steps by the store and by one that loads the copy: plans, queues and metrics are the same."""

    def step(store: Experience, number: int) -> tuple:
        groups = [group((number * 5 + i) % 13, (number + i) % 8, *[row(number, i, j) for j in range((number + i) % 8)]) for i in range(6)]
        metrics = store.observe(groups)
        store.plan_replay(number + 1, values=lambda rows: [math.sin(each) for each in rows])
        return metrics, list(store.plan), store.take_queue(), [store.fetch(key) for key in range(3)]

    through = experience(config, tmp_path, data_size=13)
    for number in range(1, 4):
        step(through, number)
    through.save(tmp_path / "copy")
    expected = [step(through, number) for number in range(4, 8)]
    other = experience(config, tmp_path / "again", data_size=13)
    other.observe([group(1, 3, row(1), row(2), row(3))] * 2)  # what it held is forgotten
    other.load(tmp_path / "copy")
    assert [step(other, number) for number in range(4, 8)] == expected
    assert any(plan for _, plan, *_ in expected) or any(queue for *_, queue, _ in expected)
    (tmp_path / "copy" / "state.json").unlink()
    with pytest.raises(InputError, match="is not a whole store"):
        other.load(tmp_path / "copy")


# ---- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retire": True}, "luffy.store.retire is True, but admit nothing does not read it"),
        ({"admit": "unsolved"}, "luffy.store.admit is unsolved and needs update_at"),
        ({"admit": "unsolved", "update_at": 4, "start_above": 0.1}, "start_above is 0.1, but admit unsolved does not read it"),
        ({"admit": "partly_solved", "update_at": 4}, "update_at is 4, but admit partly_solved does not read it"),
        ({"admit": "unsolved", "update_at": 4, "capacity": 3}, "capacity is 3, below update_at 4"),
        ({"admit": "partly_solved", "least_correct": 3, "most_correct": 2}, "most_correct is 2, below least_correct 3"),
        ({"admit": "partly_solved", "clip_before_start": 0.2}, "clip_before_start is 0.2, but without start_above"),
        ({"admit": "all"}, "luffy.store.admit is 'all'; it must be one of nothing, partly_solved, unsolved"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(InputError, match=message):
        StoreConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "sizes", "message"),
    [
        ({"most_correct": 8}, {}, "keeps groups with 1 to 8 right rows of 8"),
        ({}, {"group_size": 1}, "keeps groups with 1 to 0 right rows of 1"),
        ({"replay_share": 0.1}, {"prompts": 4}, "replay_share 0.1 of 4 prompts .* is none"),
        ({"capacity": 3}, {"prompts": 16}, "capacity is 3, below the 8 prompts that a step replays"),
        (
            {"admit": "unsolved", "update_at": 12},
            {"rows_at_once": 8},
            "update_at is 12; it must be a multiple of the 8 data-parallel ranks",
        ),
    ],
)
def test_settings_beside_the_sizes_of_a_step(settings, sizes, message):
    with pytest.raises(InputError, match=message):
        StoreConfig(**{"admit": "partly_solved"} | settings).check_batch(**{"group_size": 8, "prompts": 16, "rows_at_once": 1} | sizes)
