"""What is recorded of a group, and which groups: files as a reader gets them back, and choices that repeat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recorded_run import HOSTILE, responses

from luffy.digests import uniform
from luffy.errors import InputError
from luffy.record import (
    BROKEN,
    BY_GRADIENT,
    BY_HASH,
    FOLLOWED,
    RecordConfig,
    TokenTexts,
    chosen_groups,
    followed_prompts,
    forget_after,
    read_facts,
    read_group,
    record_file,
    recorded_files,
    write_record,
)


def test_a_group_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    made = responses(np.random.default_rng(0), 20, 3, 4, 25)
    write_record(record_file(tmp_path, 20), made)
    assert [(step, held_out) for step, held_out, _ in recorded_files(tmp_path)] == [(20, False)]
    facts = read_facts(record_file(tmp_path, 20))
    assert [len(group) for group in facts] == [4, 4, 4]
    for number, group in enumerate(facts):
        table = read_group(record_file(tmp_path, 20), number).to_pylist()
        for row, expected in enumerate(made[4 * number : 4 * number + 4]):
            assert group[row]["reward"] == expected.reward and group[row]["trace"] == expected.trace
            assert group[row]["length"] == len(expected.tokens)
            assert group[row]["weight"] == pytest.approx(sum(abs(float(each)) for each in expected.values["gradient_weight"]), rel=1e-12)
            assert table[row]["tokens"] == list(expected.tokens)
            for name, values in expected.values.items():
                assert np.array_equal(np.array(table[row][name], dtype=np.float32), values), name


def test_a_text_that_is_no_utf8_is_recorded_with_a_sign_for_what_is_broken(tmp_path: Path) -> None:
    write_record(record_file(tmp_path, 1), responses(np.random.default_rng(0), 1, 1, 2, 25, hostile=True))
    tokens = read_group(record_file(tmp_path, 1), 0)["tokens"][1].as_py()
    assert tokens[: len(HOSTILE)] == [each.replace("\udc80", BROKEN) for each in HOSTILE]


def test_lists_of_another_length_are_refused(tmp_path: Path) -> None:
    (response, *_) = responses(np.random.default_rng(0), 1, 1, 1, 5)
    response.values["loss"] = np.zeros(4, dtype=np.float32)
    with pytest.raises(ValueError, match="loss has 4 entries for 5 tokens"):
        write_record(record_file(tmp_path, 1), [response])
    assert recorded_files(tmp_path) == []


def test_files_that_are_no_record_are_named(tmp_path: Path) -> None:
    record_file(tmp_path, 3).parent.mkdir()
    record_file(tmp_path, 3).write_text("no parquet")
    with pytest.raises(InputError, match=r"step_3\.parquet: cannot be read as parquet"):
        read_facts(record_file(tmp_path, 3))


def test_records_after_the_step_where_a_run_goes_on_are_forgotten(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write_record(record_file(tmp_path, step), responses(np.random.default_rng(0), step, 1, 1, 3))
    write_record(record_file(tmp_path, 30, held_out=True), responses(np.random.default_rng(0), 30, 1, 1, 3))
    forget_after(tmp_path, 20)
    assert [(step, held_out) for step, held_out, _ in recorded_files(tmp_path)] == [(10, False), (20, False)]


def test_the_prompts_that_are_followed_are_those_of_the_smallest_hashes() -> None:
    config = RecordConfig(every=10, groups=5)
    by_hash = sorted(range(1000), key=lambda place: uniform("record", place))
    assert followed_prompts(1000, config) == set(by_hash[:5])
    assert followed_prompts(3, config) == {0, 1, 2}
    assert followed_prompts(1000, RecordConfig(every=0, groups=5)) == frozenset()


def test_groups_are_chosen_by_hash_and_by_gradient() -> None:
    prompts = {f"g{place}": place for place in range(20)}
    weights = {f"g{place}": float(place) for place in range(20)}
    config = RecordConfig(groups=3, largest=2)
    by_hash = sorted(range(20), key=lambda place: uniform("record", place))
    chosen = chosen_groups(prompts, weights, followed={by_hash[7]}, whole=True, config=config)
    expected = {f"g{by_hash[7]}": FOLLOWED} | {f"g{place}": BY_HASH for place in by_hash[:3]}
    largest = [f"g{place}" for place in range(19, -1, -1) if f"g{place}" not in expected][:2]
    assert chosen == expected | dict.fromkeys(largest, BY_GRADIENT)
    reversed_order = dict(reversed(prompts.items()))
    assert chosen_groups(reversed_order, weights, followed={by_hash[7]}, whole=True, config=config) == chosen
    assert chosen_groups(prompts, weights, followed={by_hash[7]}, whole=False, config=config) == {f"g{by_hash[7]}": FOLLOWED}
    assert BY_GRADIENT not in chosen_groups(prompts, dict.fromkeys(prompts, 0.0), followed=(), whole=True, config=config).values()


class Bytes:
    """A tokenizer of single bytes, one of which is no UTF-8; it drops the space that begins a text, as some do."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: list[int], **_: object) -> str:
        return bytes(tokens).decode(errors="replace").removeprefix(" ")


@pytest.mark.parametrize("text", ["a b", " begins with a space", "é", "x∇π y", "日本"])
def test_texts_of_tokens_join_to_the_text(text: str) -> None:
    texts = TokenTexts(Bytes())(list(text.encode()))
    assert "".join(texts) == text
    assert len(texts) == len(text.encode())


def test_a_character_stands_at_the_token_that_completes_it() -> None:
    texts = TokenTexts(Bytes())
    assert texts(list("a∇b".encode())) == ["a", "", "", "∇", "b"]
    assert texts([0xFF, 0x61]) == [BROKEN, "a"]
    assert texts([0x61, 0xE2, 0x88]) == ["a", "", BROKEN]
