"""Preparing a model for long responses, on a tiny Qwen2 that the test writes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from luffy.errors import InputError
from luffy.long_context import LongContext, carry_system, lengthen, open_thought, prepare_model, source_folder
from miniature.tokenizer import build_tokenizer

SCRIPT = Path(__file__).parents[1] / "data" / "prepare_model.py"
THINK = "<|im_start|>assistant\n<think>\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True, dtype="float32",
        eos_token_id=tokenizer.eos_token_id, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def chat(folder: Path) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template([{"role": "user", "content": "1+1"}], add_generation_prompt=True, tokenize=False)


@pytest.mark.parametrize("weights", ["copy", "link"])
def test_new_folder_is_long_and_the_source_untouched(source, tmp_path, weights):
    before = digests(source)
    prepare_model(source, tmp_path / "models" / "long", LongContext(weights=weights))
    long = tmp_path / "models" / "long"
    assert digests(source) == before
    assert not [path.name for path in long.parent.iterdir() if path.name.startswith(".")]
    config = AutoConfig.from_pretrained(long)
    assert config.max_position_embeddings == 16_384
    assert config.rope_parameters["rope_theta"] == 40_000.0
    assert chat(long) == "<|im_start|>user\n1+1<|im_end|>\n" + THINK
    assert chat(source).endswith("<|im_start|>assistant\n")
    same_file = os.path.samefile(source / "model.safetensors", long / "model.safetensors")
    assert same_file == (weights == "link")


def test_the_loaded_model_rotates_with_the_new_base(source, tmp_path):
    prepare_model(source, tmp_path / "long", LongContext())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "long")
    frequencies = model.model.rotary_emb.inv_freq
    expected = [40_000 ** (-2 * i / 16) for i in range(8)]  # head size 16
    assert frequencies.tolist() == pytest.approx(expected, rel=1e-6)
    original = AutoModelForCausalLM.from_pretrained(source)
    assert original.model.rotary_emb.inv_freq[1].item() == pytest.approx(math.pow(10_000, -2 / 16), rel=1e-6)
    for name, weight in original.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


def test_chat_without_generation_prompt_is_unchanged(source, tmp_path):
    prepare_model(source, tmp_path / "long", LongContext())
    messages = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
    texts = {AutoTokenizer.from_pretrained(path).apply_chat_template(messages, tokenize=False) for path in (source, tmp_path / "long")}
    assert texts == {"<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"}


def test_older_configurations_have_rope_theta_at_the_top():
    old = {"rope_theta": 10000, "max_position_embeddings": 4096, "sliding_window": 4096, "use_sliding_window": False, "hidden_size": 8}
    assert lengthen(old, LongContext()) == {**old, "rope_theta": 40_000.0, "max_position_embeddings": 16_384, "sliding_window": 16_384}
    assert old["rope_theta"] == 10000


def test_both_places_of_the_base_agree():
    both = {"rope_theta": 10000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "sliding_window": None}
    changed = lengthen(both, LongContext(rope_theta=20_000.0, max_positions=8192))
    assert changed["rope_theta"] == changed["rope_parameters"]["rope_theta"] == 20_000.0
    assert changed["sliding_window"] is None


def test_a_scaled_rotary_embedding_is_refused():
    with pytest.raises(InputError, match="scaled already .*llama3"):
        lengthen({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, LongContext())
    with pytest.raises(InputError, match="no rope_theta"):
        lengthen({"n_positions": 1024}, LongContext())


def test_the_thought_is_opened_once():
    template = "{% if add_generation_prompt %}\n{{- 'A:' }}\n{% endif %}\n"
    once = open_thought(template)
    assert once != template and open_thought(once) == once
    already = "{% if add_generation_prompt %}{{ 'Assistant: <think>' }}{% endif %}"
    assert open_thought(already) == already


HARD = 'Say "why",\nthen \\boxed{x} in {{ braces }} {% raw %} \u00e9.'


def test_the_template_carries_the_training_sets_system_message(source, tmp_path):
    prepare_model(source, tmp_path / "long", LongContext(system=HARD))
    assert chat(tmp_path / "long") == f"<|im_start|>system\n{HARD}<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n" + THINK
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "long")
    own = [{"role": "system", "content": "Own."}, {"role": "user", "content": "1+1"}]
    rendered = tokenizer.apply_chat_template(own, add_generation_prompt=True, tokenize=False)
    assert rendered == "<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n" + THINK
    prepare_model(tmp_path / "long", tmp_path / "again", LongContext(system="Other."))
    assert chat(tmp_path / "again").startswith("<|im_start|>system\nOther.<|im_end|>\n<|im_start|>user")


def test_a_template_without_a_place_for_a_system_message_is_refused():
    with pytest.raises(InputError, match="no place for a system message; give --system-prompt none"):
        carry_system("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "Think.")


def test_template_inside_the_tokenizer_configuration(source, tmp_path):
    template = (source / "chat_template.jinja").read_text()
    (source / "chat_template.jinja").unlink()
    config = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    prepare_model(source, tmp_path / "long", LongContext())
    assert chat(tmp_path / "long").endswith(THINK)
    prepare_model(source, tmp_path / "plain", LongContext(open_thought=False))
    assert chat(tmp_path / "plain") == chat(source)


def test_short_limits_are_lifted(source, tmp_path):
    (source / "generation_config.json").write_text('{"max_new_tokens": 2048, "do_sample": false}')
    prepare_model(source, tmp_path / "long", LongContext())
    assert json.loads((tmp_path / "long" / "generation_config.json").read_text()) == {"do_sample": False}
    assert AutoTokenizer.from_pretrained(tmp_path / "long").model_max_length == 16_384


def test_an_existing_output_is_kept_unless_told(source, tmp_path):
    output = tmp_path / "long"
    output.mkdir()
    (output / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="is there already; give --overwrite"):
        prepare_model(source, output, LongContext())
    assert (output / "mine.txt").read_text() == "x"
    prepare_model(source, output, LongContext(), overwrite=True)
    assert not (output / "mine.txt").exists() and (output / "config.json").is_file()


@pytest.mark.parametrize("inside", [".", "inner", ".."])
def test_the_source_is_never_the_output(source, inside):
    with pytest.raises(InputError, match="the source is never touched"):
        prepare_model(source, source / inside, LongContext(), overwrite=True)


def test_a_failure_leaves_nothing(source, tmp_path):
    (source / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match="tokenizer_config.json: is not JSON"):
        prepare_model(source, tmp_path / "long", LongContext())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_command_line(source, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "long"), "--source"]
    done = subprocess.run([*command, str(source), "--rope_theta", "20000"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert AutoConfig.from_pretrained(tmp_path / "long").rope_parameters["rope_theta"] == 20_000.0
    done = subprocess.run([*command, "Qwen/Qwen2.5-Math-7B"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: Qwen/Qwen2.5-Math-7B cannot be downloaded: the Hugging Face Hub is out of reach; give --source a folder instead"
    ]


def test_neither_folder_nor_name(tmp_path):
    with pytest.raises(InputError, match="neither a folder nor"):
        source_folder(str(tmp_path / "absent"))
