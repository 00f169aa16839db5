"""What a run of one's own data and model meets before Ray starts: lengths, the folder, held-out problems. No engine is needed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import run_module
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from transformers import Qwen2Config, Qwen2ForCausalLM

from luffy.data.lengths import measure_rows
from luffy.errors import InputError
from luffy.vllm_cpu import CPU_HEAD_SIZES
from miniature.tokenizer import build_tokenizer
from verl.mix_src.run import identity, preflight
from verl.mix_src.run.checkpoints import STEP_METRICS, write_manifest, written_aside
from verl.mix_src.run.data import make_definite, rows_held_out
from verl.mix_src.run.folder import RunFiles
from verl.mix_src.run.preflight import inputs
from verl.mix_src.run.preflight.lengths import check_sft


def tokens_of_prompt(text: str) -> int:
    """One token a byte, a role or a mark: 3 + bytes + 2 + 3."""
    return len(text.encode()) + 8


def write_model(folder: Path, *, heads: int = 2, positions: int = 1024, vocabulary: int | None = None) -> Path:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=vocabulary or len(tokenizer), hidden_size=64, intermediate_size=16, num_hidden_layers=1, num_attention_heads=heads,
        num_key_value_heads=1, max_position_embeddings=positions, tie_word_embeddings=True, dtype="float32",
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def write_rows(path: Path, prompts: list[str], traces: list[list[str] | None]) -> Path:
    rows = [
        {
            "data_source": "mine",
            "prompt": [{"role": "user", "content": prompt}],
            "target": None if texts is None else [{"role": "assistant", "content": text} for text in texts],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "1"},
            "extra_info": {"index": index, "split": "train"},
        }
        for index, (prompt, texts) in enumerate(zip(prompts, traces, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("own") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """40 rows: prompts of 50 to 89 bytes, one trace each, of 20 to 59 bytes."""
    path = tmp_path_factory.mktemp("own") / "mine.parquet"
    return write_rows(path, ["p" * (50 + n) for n in range(40)], [["t" * (20 + n)] for n in range(40)])


@cache
def files_of(name: str, where: str, *groups: str) -> DictConfig:
    with initialize_config_module(where, version_base=None):
        return compose(name, overrides=["profile=cpu", *groups])


def composed(model: Path, data: Path, folder: Path, *overrides: str, config: str = "mix_ppo") -> DictConfig:
    """The config with overrides; files are read once for each choice of files, as that takes half a second."""
    key, where = ("model.path", "verl.mix_src.config.sft") if config == "sft" else ("actor_rollout_ref.model.path", "verl.mix_src.config")
    groups = [each for each in overrides if "." not in each.partition("=")[0]]
    own = [f"{key}={model}", f"data.train_files={data}", f"trainer.default_local_dir={folder}"]
    found = copy.deepcopy(files_of(config, where, *groups))
    found.merge_with_dotlist([*own, *(each for each in overrides if each not in groups)])
    return found


def test_rows_are_counted_as_the_trainer_sees_them(tmp_path):
    file = write_rows(tmp_path / "rows.parquet", ["ab", "äöü", "c" * 30], [["x", "yyy"], None, ["<think>"]])
    found = measure_rows(file, build_tokenizer(), with_traces=True)
    assert sorted(found.prompts) == [tokens_of_prompt("ab"), 14, 38]  # äöü: 6 bytes
    assert sorted(found.traces) == [2, 4, 8]  # with EOS
    assert sorted(found.samples) == [12, 14, 46]
    assert (found.rows, found.counted) == (3, 3)
    assert measure_rows(file, build_tokenizer(), with_traces=False).traces == []


def test_without_time_the_longest_rows_are_counted_and_it_says_so(tmp_path):
    file = write_rows(tmp_path / "rows.parquet", ["p" * n for n in range(1, 201)], [None] * 200)
    found = measure_rows(file, build_tokenizer(), with_traces=True, time_limit_s=0.0)
    assert (found.rows, found.counted) == (200, 1)
    assert found.prompts == [tokens_of_prompt("p" * 200)]


def test_rows_of_the_sft_layout(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c" * n}]} for n in (1, 5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sft.parquet")
    assert sorted(measure_rows(tmp_path / "sft.parquet", build_tokenizer(), with_traces=True).samples) == [12, 16]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "40 of 40 training prompts have more than data.max_prompt_length=57 tokens (longest 97)"),
        ([], "set data.max_prompt_length=112 data.max_response_length=64"),  # 97 and 60, in steps of 16
        (["data.max_prompt_length=112", "data.max_response_length=64"], None),
        (["data.max_prompt_length=97", "data.max_response_length=60"], None),
        (["data.max_prompt_length=96", "data.max_response_length=60"], "1 of 40 training prompts"),
        (["data.max_prompt_length=97", "data.max_response_length=59"], "1 of 40 traces have more than data.max_response_length=59"),
        (["data.max_prompt_length=97", "data.max_response_length=59", "luffy.guidance.max_cut_share=0.025"], None),
        (["data.max_prompt_length=97", "experiment=on_policy"], None),  # no demonstration, no trace to cut
        (["data.max_prompt_length=97", "data.max_response_length=64", "actor_rollout_ref.rollout.max_model_len=160"],
         "actor_rollout_ref.rollout.max_model_len=160 is below the longest sequence of 161 tokens"),
        (["data.max_prompt_length=97", "data.max_response_length=64", "actor_rollout_ref.rollout.max_model_len=161"], None),
        (["data.max_prompt_length=500", "data.max_response_length=900"], "set data.max_prompt_length=112"),
        (["data.max_prompt_length=500", "data.max_response_length=950"], "the model takes 1024 tokens"),
        (["data.max_prompt_length=97", "data.max_response_length=64", "actor_rollout_ref.actor.use_dynamic_bsz=true",
          "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=160"],
         "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=160 cannot hold one sequence of 161 tokens"),
        (["data.filter_overlong_prompts=true", "data.max_prompt_length=72", "data.max_response_length=64"], "are too few"),
    ],
)  # fmt: skip
def test_lengths_against_every_budget(model, data, tmp_path, overrides, says):
    defaults = (
        [] if any("max_prompt_length" in each for each in overrides) else ["data.max_prompt_length=57", "data.max_response_length=19"]
    )
    config = composed(model, data, tmp_path, "data.val_files=null", *defaults, *overrides)
    problems = list(inputs.row_lengths(config).problems())
    assert problems == [] if says is None else says in problems[0] and "\n" not in problems[0]


def test_prompts_that_the_filter_takes_are_said(model, data, tmp_path):
    config = composed(
        model, data, tmp_path, "data.filter_overlong_prompts=true", "data.max_prompt_length=80", "data.max_response_length=64"
    )
    found = inputs.row_lengths(config)
    assert list(found.problems()) == []
    assert found.notes == [
        "17 of 40 training prompts have more than data.max_prompt_length=80 tokens (longest 97) and are left out "
        "(data.filter_overlong_prompts)"
    ]


@pytest.mark.parametrize(
    ("closed", "overrides", "says"),
    [
        (0, [], "40 of 40 traces have no </think>, for which reward.reward_kwargs.thought_gate=true gives reward 0: "
         "set reward.reward_kwargs.thought_gate=false"),
        (30, [], "10 of 40 traces have no </think>"),
        (40, [], None),
        (0, ["reward.reward_kwargs.thought_gate=false"], None),
        (0, ["experiment=on_policy"], None),  # nothing to imitate
        (0, ["reward.custom_reward_function.path=reward.py"], None),  # asks for what it likes
    ],
)  # fmt: skip
def test_traces_that_the_verifier_would_give_nothing_for(model, tmp_path, closed, overrides, says):
    data = write_rows(tmp_path / "mine.parquet", ["p"] * 40, [["t</think>" if n < closed else "t"] for n in range(40)])
    config = composed(model, data, tmp_path, "data.val_files=null", "reward.reward_kwargs.thought_gate=true", *overrides)
    found = inputs.row_lengths(config)
    lines = [*found.problems(), *found.notes]
    assert lines == [] if says is None else len(lines) == 1 and lines[0].startswith(says)
    assert bool(found.reasons) == (says is not None and closed == 0)  # a part of them is a note


def test_a_chat_template_that_refuses_the_prompts_is_a_line_among_others(data, tmp_path):
    """Mistral's has no system role: the dry run still is one screen."""
    folder = write_model(tmp_path / "model")
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ messages[-1].content }}"
    (folder / "chat_template.jinja").write_text(refuses)
    assert list(inputs.row_lengths(composed(folder, data, tmp_path / "run", "data.max_prompt_length=89")).problems()) == []
    rows = pq.read_table(data).to_pylist()
    for row in rows:
        row["prompt"] = [{"role": "system", "content": "s"}, *row["prompt"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "system.parquet")
    found = inputs.row_lengths(composed(folder, tmp_path / "system.parquet", tmp_path / "run"))
    (problem,) = found.problems()
    assert "refuses the prompt (no system role); where it has no system role, prepare the data with --system-prompt none" in problem


def test_budgets_follow_the_lengths(model, data, tmp_path):
    config = composed(model, data, tmp_path, "data.max_prompt_length=300", "data.max_response_length=700")
    assert config.actor_rollout_ref.rollout.max_model_len == 1000
    assert config.luffy.objective.constant_length == 700


def test_sft_samples_that_are_too_long(model, data, tmp_path):
    config = composed(model, data, tmp_path, "data.val_files=null", "data.max_length=150", config="sft")
    (problem,) = check_sft(config, build_tokenizer(), 1024).problems()
    assert "4 of 40 samples have more than data.max_length=150 tokens of prompt, trace and EOS (longest 157)" in problem
    assert problem.endswith("set data.max_length=160")
    config = composed(model, data, tmp_path, "data.max_length=160", config="sft")
    assert list(check_sft(config, build_tokenizer(), 1024).problems()) == []
    (problem,) = check_sft(config, build_tokenizer(), 156).problems()
    assert "the longest sample has 157 tokens, and the model takes 156" in problem


def test_what_the_engines_cannot_run(data, tmp_path):
    for name, options, says in (
        ("heads", {"heads": 4}, "has attention heads of 16 numbers; vLLM's CPU attention knows 32, 64"),
        ("headless", {}, "is a Qwen2Model, which has no head that predicts tokens"),
        ("vocabulary", {"vocabulary": 100}, "the tokenizer of .* has ids up to 261, but the model's vocabulary has 100"),
    ):
        folder = write_model(tmp_path / name, **options)
        if name == "headless":
            text = (folder / "config.json").read_text()
            (folder / "config.json").write_text(text.replace("Qwen2ForCausalLM", "Qwen2Model"))
        config = composed(folder, data, tmp_path / "run")
        with pytest.raises(InputError, match=says):
            inputs.model(config)
    weights = tmp_path / "vocabulary" / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1)
    with pytest.raises(InputError, match=f"model.safetensors: cut off, {size - 1} of {size} bytes; fetch it again"):
        inputs.model(composed(weights.parent, data, tmp_path / "run"))
    weights.write_text("<html>not found</html>")
    with pytest.raises(InputError, match="not a safetensors file"):
        inputs.model(composed(weights.parent, data, tmp_path / "run"))
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "heads" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"1 of 2 weights files are missing \(model-00002-of-00002.safetensors\)"):
        inputs.model(composed(tmp_path / "heads", data, tmp_path / "run"))
    (tmp_path / "heads" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        inputs.model(composed(tmp_path / "heads", data, tmp_path / "run"))
    for file in (tmp_path / "heads").glob("*token*"):
        file.unlink()
    with pytest.raises(InputError, match="has no tokenizer .*; copy the base model's there"):
        inputs.model(composed(tmp_path / "heads", data, tmp_path / "run"))
    with pytest.raises(InputError, match="has no tokenizer .*; copy the base model's there"):
        preflight.refuse(preflight.SFT_MACHINE, composed(tmp_path / "heads", data, tmp_path / "run", config="sft"))


def test_head_sizes_are_those_of_vllm():
    from luffy import vllm_cpu

    if not vllm_cpu.prepare():
        pytest.skip("vLLM is a GPU build")
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert tuple(CPUAttentionBackend.get_supported_head_sizes()) == CPU_HEAD_SIZES


def leave_a_run(config: DictConfig, step: int) -> RunFiles:
    """What a run of ``config`` that got to ``step`` leaves, and one step further in its metrics."""
    files = RunFiles.of(config)
    identity.begin(config, files)
    with written_aside(files.folder, step, {"identity": files.read_record["identity"]}) as aside:
        actor = aside / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        (actor / "model_world_size_1_rank_0.pt").write_bytes(b"weights")
        (actor.parent / STEP_METRICS).write_text('{"x": 7.5}')
    lines = [{"step": 0, "data": {"val-core/mine/acc/mean@8": 0.25}}, *({"step": n, "data": {"x": n}} for n in range(1, step + 2))]
    files.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files.add_start(seconds=10.0, peak_memory_bytes=5)
    return files


@pytest.mark.parametrize(
    ("overrides", "differs"),
    [
        (["trainer.total_training_steps=9", "trainer.save_freq=1", "actor_rollout_ref.rollout.agent.num_workers=1"], None),
        (["actor_rollout_ref.rollout.n=4"], "actor_rollout_ref.rollout.n 8 -> 4"),
        (["luffy.objective.shaping.gamma=0.3"], "luffy.objective.shaping.gamma 0.1 -> 0.3"),
        (["experiment=mixed", "trainer.experiment_name=luffy"], "luffy.objective.shaping.name p_div_p -> identity"),
        (["experiment=on_policy"], "trainer.experiment_name luffy -> on_policy; luffy.guidance.n_demonstrations 1 -> 0"),
        (["actor_rollout_ref.actor.optim.lr=0.1"], "actor_rollout_ref.actor.optim.lr 0.0002 -> 0.1"),
        (["data.val_files=null"], "data.val_files auto -> "),
    ],
)
def test_a_folder_belongs_to_one_run(model, data, tmp_path, overrides, differs):
    files = leave_a_run(composed(model, data, tmp_path / "run"), step=2)
    config = composed(model, data, tmp_path / "run", *overrides)
    before = {path: path.read_bytes() for path in files.folder.rglob("*") if path.is_file()}
    if differs is None:
        identity.check_folder(config)
    else:
        with pytest.raises(InputError) as error:
            identity.check_folder(config)
        assert differs in str(error.value) and f"trainer.resume_from_path={files.checkpoint}" in str(error.value)
    config.trainer.update(resume_mode="resume_path", resume_from_path=str(files.checkpoint))
    identity.check_folder(config)
    assert before == {path: path.read_bytes() for path in files.folder.rglob("*") if path.is_file()}


def test_other_content_under_the_same_name(model, data, tmp_path):
    mine, twin = tmp_path / "mine.parquet", tmp_path / "twin.parquet"
    mine.write_bytes(data.read_bytes())
    twin.write_bytes(data.read_bytes())
    leave_a_run(composed(model, mine, tmp_path / "run"), step=2)
    identity.check_folder(composed(model, twin, tmp_path / "run"))  # a copy is the same
    write_rows(mine, ["other"] * 40, [None] * 40)
    with pytest.raises(InputError, match="data.train_files has another content"):
        identity.check_folder(composed(model, mine, tmp_path / "run"))


def test_metrics_go_on_where_the_run_does(model, data, tmp_path):
    config = composed(model, data, tmp_path / "run")
    files = leave_a_run(config, step=2)
    config = composed(model, data, tmp_path / "run")
    lines = identity.begin(config, files)
    assert lines[-1] == "goes on after step 2"
    assert [json.loads(line)["step"] for line in files.metrics.read_text().splitlines()] == [0, 1, 2]  # 3 is made again
    assert files.starts == [{"seconds": 10.0, "peak_memory_bytes": 5}]
    make_definite(config, files)
    assert config.trainer.val_before_train is True  # step 2 was not measured
    files.metrics.write_text(files.metrics.read_text() + '{"step": 2, "data": {"val-core/mine/acc/mean@8": 0.5}}\n')
    make_definite(config, files)
    assert config.trainer.val_before_train is False


def test_a_step_that_was_saved_and_whose_line_was_lost_gets_it_from_the_checkpoint(model, data, tmp_path):
    config = composed(model, data, tmp_path / "run")
    files = leave_a_run(config, step=2)
    files.metrics.write_text('{"step": 1, "data": {"x": 1}}\n')  # killed between the save and the line
    identity.begin(composed(model, data, tmp_path / "run"), files)
    assert files.read_metrics() == [{"step": 1, "data": {"x": 1}}, {"step": 2, "data": {"x": 7.5}}]


def test_a_given_checkpoint_is_looked_at_and_its_other_settings_are_named(model, data, tmp_path):
    files = leave_a_run(composed(model, data, tmp_path / "run"), step=2)
    overrides = ["actor_rollout_ref.rollout.n=4", "luffy.objective.shaping.gamma=0.3", "luffy.safety.least_s=5"]
    config = composed(model, data, tmp_path / "other", *overrides)
    config.trainer.update(resume_mode="resume_path", resume_from_path=str(files.checkpoint))
    lines = identity.begin(config, RunFiles.of(config))
    assert [line for line in lines if "other settings" in line] == [
        f"note: global_step_2 was trained with other settings: {each}"
        for each in ("actor_rollout_ref.rollout.n 8 -> 4", "luffy.objective.shaping.gamma 0.1 -> 0.3")
    ]
    config.trainer.n_gpus_per_node = 2
    with pytest.raises(InputError, match="was written by 1 ranks and this run has 2"):
        identity.begin(config, RunFiles.of(config))
    (files.checkpoint / "actor" / "model_world_size_1_rank_0.pt").write_bytes(b"weight")
    with pytest.raises(InputError, match=r"resume_from_path=.* is broken: actor/model_world_size_1_rank_0\.pt has 6 bytes, 7 were saved"):
        identity.begin(config, RunFiles.of(config))


def test_another_number_of_ranks_is_refused_by_the_command(model, data, tmp_path):
    """A real start, which ends before anything is started."""
    overrides = ["profile=cpu", f"actor_rollout_ref.model.path={model}", f"data.train_files={data}", "data.val_files=null", "data.max_prompt_length=112",
                 f"trainer.default_local_dir={tmp_path / 'run'}"]  # fmt: skip
    with initialize_config_module("verl.mix_src.config", version_base=None):
        files = leave_a_run(compose("mix_ppo", overrides=[*overrides, "trainer.n_gpus_per_node=2"]), step=2)
    actor = files.checkpoint / "actor"
    for rank in (0, 1):
        (actor / f"model_world_size_2_rank_{rank}.pt").write_bytes(b"weights")
    (actor / "model_world_size_1_rank_0.pt").unlink()
    (files.checkpoint / "manifest.json").unlink()
    write_manifest(files.checkpoint, {"identity": files.read_record["identity"]})
    done = run_module("verl.mix_src.main_mix_ppo", *overrides)
    assert done.returncode == 2
    (line,) = (each for each in done.stderr.splitlines() if "error" in each.lower())
    assert line.startswith(f"error: {files.checkpoint} was written by 2 ranks and this run has 1")
    assert line.endswith("run on 2, or start anew from its exported model (actor_rollout_ref.model.path)")
    assert not files.log.exists()


def test_beginning_anew_moves_the_old_files(model, data, tmp_path):
    config = composed(model, data, tmp_path / "run", "trainer.resume_mode=disable", "luffy.objective.shaping.gamma=0.3")
    files = leave_a_run(composed(model, data, tmp_path / "run"), step=2)
    (files.folder / "notes.txt").write_text("the user's")
    identity.check_folder(config)
    identity.begin(config, files)
    old = files.folder / "earlier" / "1"
    assert (old / "global_step_2").is_dir() and len((old / "metrics.jsonl").read_text().splitlines()) == 4
    assert files.checkpoint is None and not files.metrics.exists() and files.starts == []
    assert (files.folder / "notes.txt").exists()


def test_nothing_left_to_do(model, data, tmp_path):
    config = composed(model, data, tmp_path / "run")
    leave_a_run(config, step=3)
    assert identity.nothing_left(config, 4) is None
    assert identity.nothing_left(config, 3).startswith("nothing left to do: ")
    config = composed(model, data, tmp_path / "run", "trainer.total_training_steps=null", "trainer.total_epochs=3")
    assert identity.total_steps(config) == 6  # 40 rows in batches of 16: two a pass


def test_a_finished_run_is_found_before_what_trains_is_imported(model, data, tmp_path):
    """A real start, which changes nothing."""
    overrides = ["profile=cpu", f"actor_rollout_ref.model.path={model}", f"data.train_files={data}", "data.val_files=null",
                 f"trainer.default_local_dir={tmp_path / 'run'}", "trainer.total_training_steps=3"]  # fmt: skip
    with initialize_config_module("verl.mix_src.config", version_base=None):
        files = leave_a_run(compose("mix_ppo", overrides=overrides), step=3)
    files.summary.write_text('{"kept": true}')
    files.plots.mkdir()
    before = {path: path.read_bytes() for path in files.folder.rglob("*") if path.is_file()}
    command = [sys.executable, "-X", "importtime", "-m", "verl.mix_src.main_mix_ppo", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"nothing left to do: {files.folder} has 3 of 3 steps" in done.stderr and done.stdout == f"summary: {files.summary}\n"
    assert {path: path.read_bytes() for path in files.folder.rglob("*") if path.is_file()} == before and files.plots.is_dir()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "verl.mix_src.run.entry" in imported
    assert not imported & {"vllm", "datasets", "pandas", "verl.trainer.main_ppo", "verl.trainer.ppo.v1", "verl.mix_src.rl.trainer"}


def test_own_data_brings_its_own_held_out_problems(model, data, tmp_path):
    config = composed(model, data, tmp_path / "run")
    assert config.data.val_files == "auto" and rows_held_out(config) == 4
    (line,) = identity.begin(config, RunFiles(tmp_path / "run"))
    assert line.startswith(f"held out for validation: 4 of the 40 rows of {data}, drawn by luffy.run.seed=0")
    train, held_out = ({row["content"] for (row,) in pq.read_table(file)["prompt"].to_pylist()} for file in
                       (config.data.train_files, config.data.val_files))  # fmt: skip
    assert (len(train), len(held_out), train & held_out) == (36, 4, set())
    other = composed(model, data, tmp_path / "other", "luffy.run.seed=1")
    identity.begin(other, RunFiles(tmp_path / "other"))
    assert {row["content"] for (row,) in pq.read_table(other.data.val_files)["prompt"].to_pylist()} != held_out


def test_no_validation_where_nothing_can_be_held_out(model, data, tmp_path):
    for overrides in (["data.val_files=null"], ["data.train_batch_size=40"]):
        config = composed(model, data, tmp_path / "run", *overrides)
        (line,) = identity.begin(config, RunFiles(tmp_path / "run"))
        assert line.startswith("no validation: ")
        make_definite(config, RunFiles(tmp_path / "run"))
        assert (config.data.val_files, config.trainer.test_freq, config.trainer.val_before_train) == (str(data), -1, False)


@pytest.mark.parametrize("config", ["mix_ppo", "sft"])
def test_the_projects_own_data_keeps_its_held_out_problems(config):
    where = "verl.mix_src.config" + (".sft" if config == "sft" else "")
    with initialize_config_module(where, version_base=None):
        assert compose(config, overrides=["profile=cpu"]).data.val_files == "outputs/tiny/heldout.parquet"
        assert compose(config, overrides=["profile=gpu"]).data.val_files == "data/valid.parquet"


def test_a_folder_of_before_shapings_were_objects(model, data, tmp_path):
    now = identity.identity(composed(model, data, tmp_path / "run"))
    kept = {key: value for key, value in now.items() if "shaping" not in key}
    old = {"shaping": "p_div_p", "gamma": 0.3, "weight": 0.1, "exponent": 0.5, "on_policy_shaping": "identity", "on_policy_gamma": 0.1}
    before = kept | {f"luffy.objective.{key}": value for key, value in old.items()}
    assert identity.differences(before, now) == ["luffy.objective.shaping.gamma 0.3 -> 0.1"]
    assert identity.differences(before | {"luffy.objective.gamma": 0.1}, now) == []
