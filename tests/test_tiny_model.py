"""The embedded base model: tokens, noise, training and checks."""

import math
import random
import unicodedata

import pytest
import torch
from transformers import AutoTokenizer

from luffy.errors import InputError
from miniature.base import BaseCheck, NoisyResponses, UnfitBaseError, new_model, respond, response_loss, train_base
from miniature.recipe import BaseRecipe, CarryNoise
from miniature.task import is_fluent, question, write_response
from miniature.tokenizer import build_tokenizer, prompt_ids, response_ids

DIGITS = "29141777"
QUICK = BaseRecipe(steps=8, batch=4, warmup=2)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module", params=["built", "loaded"])
def either_tokenizer(request, tokenizer, tmp_path_factory):
    if request.param == "built":
        return tokenizer
    folder = tmp_path_factory.mktemp("tokenizer")
    new_model(tokenizer, 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_every_byte_is_one_token_and_comes_back(either_tokenizer):
    seen = set()
    for code in [*range(0x800), *range(0x800, 0xD800, 61), *range(0xE000, 0x110000, 61)]:
        if unicodedata.is_normalized("NFC", chr(code)):  # Qwen2's tokenizers normalise first.
            ids = either_tokenizer.encode(chr(code), add_special_tokens=False)
            assert len(ids) == len(chr(code).encode())
            assert either_tokenizer.decode(ids) == chr(code)
            seen.update(chr(code).encode())
    never_in_utf8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert seen == set(range(256)) - never_in_utf8
    assert len(either_tokenizer) == 3 + 256 + 3


def test_prompt_and_response_lengths(either_tokenizer):
    prompt = prompt_ids(either_tokenizer, question(DIGITS))
    text = "<|im_start|>user\n29141777=<|im_end|>\n<|im_start|>assistant\n"
    assert either_tokenizer.decode(prompt) == text
    assert len(prompt) == 17
    for digits, length in [("12345678", 58), ("123456789", 66)]:
        response = response_ids(either_tokenizer, write_response(digits, random.Random(0)))
        assert len(response) == length
        assert response[-1] == either_tokenizer.eos_token_id == either_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert either_tokenizer.pad_token_id not in (None, either_tokenizer.eos_token_id)


def test_rows_to_imitate_are_what_the_chat_template_gives(tokenizer):
    rows = NoisyResponses(tokenizer, CarryNoise(), seed=5).batch(4)
    assert rows.shape == (4, 17 + 58)
    for row in rows.tolist():
        digits = tokenizer.decode(row[3:11])
        response = tokenizer.decode(row[17:-1])
        assert row == prompt_ids(tokenizer, question(digits)) + response_ids(tokenizer, response)
        assert is_fluent(response, digits)


def test_noise_draws_follow_their_probabilities():
    noise, rng = CarryNoise(right=0.1, zero=0.3), random.Random(0)
    assert noise.probabilities(7) == pytest.approx([0.36] + [0.06] * 6 + [0.16] + [0.06] * 2)
    assert noise.probabilities(0) == pytest.approx([0.46] + [0.06] * 9)
    draws = [noise.draw(7, rng) for _ in range(20000)]
    for digit, probability in enumerate(noise.probabilities(7)):
        deviation = (probability * (1 - probability) / 20000) ** 0.5
        assert draws.count(digit) / 20000 == pytest.approx(probability, abs=4 * deviation)


def test_entropy_and_chance_worked_by_hand():
    """Six links of a digit and seven separators, over 58 tokens."""
    separators = -7 * (0.3 * math.log(0.3) + 0.7 * math.log(0.7)) / 58
    assert separators == pytest.approx(0.0737, abs=1e-4)
    assert CarryNoise(right=1.0, zero=0.0).entropy() == pytest.approx(separators)
    assert CarryNoise(right=0.0, zero=0.0).entropy() == pytest.approx(separators + 6 * math.log(10) / 58)
    assert CarryNoise(right=0.0, zero=0.0).solved_share() == pytest.approx(1e-6)
    assert CarryNoise(right=0.1, zero=0.3).solved_share() == pytest.approx(0.19**6)
    with pytest.raises(InputError, match="at most 1"):
        CarryNoise(right=0.8, zero=0.3)


def test_the_loss_is_that_of_the_response_alone(tokenizer):
    model = new_model(tokenizer, 0)
    rows = NoisyResponses(tokenizer, CarryNoise(), seed=1).batch(3)
    with torch.no_grad():
        log_probs = model(rows).logits.log_softmax(-1)
        by_hand = -sum(log_probs[b, t - 1, rows[b, t]] for b in range(3) for t in range(17, 75)) / (3 * 58)
        assert response_loss(model, rows, 58).item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_training_lowers_the_loss_and_depends_on_the_seed_alone(tokenizer):
    def trained(seed):
        model = new_model(tokenizer, seed)
        losses = train_base(model, NoisyResponses(tokenizer, CarryNoise(), seed), QUICK, show_progress=False)
        return model, losses

    (first, losses), (again, same), (_, other) = trained(0), trained(0), trained(1)
    assert losses[-1] < 0.7 * losses[0]
    assert losses == same != other
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert sum(weights.numel() for weights in first.parameters()) < 1_000_000


def test_learning_rate_rises_and_falls():
    recipe = BaseRecipe(steps=100, warmup=10, final_share=0.05)
    assert [recipe.rate(step) for step in (0, 9, 10, 55, 100)] == pytest.approx([0.1, 1, 1, 0.525, 0.05])


def test_samples_follow_their_seed(tokenizer):
    model = new_model(tokenizer, 0)
    before = torch.random.get_rng_state()
    samples = [respond(model, tokenizer, [DIGITS] * 2, sample_seed=seed) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert samples[0][0] != samples[0][1]
    assert len({*respond(model, tokenizer, [DIGITS] * 2)}) == 1
    assert torch.equal(before, torch.random.get_rng_state())


GOOD = {"loss": 0.285, "fluent": 0.95, "greedy_solved": 0.0, "sampled_solved": 0.004}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": 0.31}, "under-trained: loss 0.310 .at most 0.300"),
        ({"fluent": 0.5}, "under-trained"),
        ({"greedy_solved": 0.03}, "already solves problems: greedy 0.030"),
        ({"sampled_solved": 0.03}, "already solves problems"),
    ],
)
def test_an_unfit_base_is_refused(change, message):
    BaseCheck(**GOOD).require_fit(CarryNoise())
    with pytest.raises(UnfitBaseError, match=message):
        BaseCheck(**GOOD | change).require_fit(CarryNoise())


def test_a_base_with_some_skill_may_solve_what_its_noise_allows():
    skilled = CarryNoise(right=0.6, zero=0.2)  # Right links: 0.6 + 0.02 + 0.02, to the sixth power 0.069.
    BaseCheck(**GOOD | {"loss": skilled.entropy(), "greedy_solved": 1.0, "sampled_solved": 0.1}).require_fit(skilled)
    with pytest.raises(UnfitBaseError):
        BaseCheck(**GOOD | {"loss": skilled.entropy(), "sampled_solved": 0.15}).require_fit(skilled)
