"""The overrides of the released code's four training scripts (names and values; paths are short)."""

from __future__ import annotations

COMMON = """
algorithm.adv_estimator=grpo data.train_files=data/openr1.parquet data.val_files=data/valid.parquet data.train_batch_size=128
data.val_batch_size=512 data.max_prompt_length=1024 data.max_response_length=8192
actor_rollout_ref.model.path=Elliott/Qwen2.5-Math-7B-16k-think actor_rollout_ref.actor.optim.lr=1e-6
actor_rollout_ref.model.use_remove_padding=True actor_rollout_ref.actor.ppo_mini_batch_size=64
actor_rollout_ref.actor.ppo_micro_batch_size=64 actor_rollout_ref.actor.use_dynamic_bsz=True
actor_rollout_ref.actor.ppo_max_token_len_per_gpu=32768 actor_rollout_ref.actor.kl_loss_coef=0.00
actor_rollout_ref.actor.kl_loss_type=low_var_kl actor_rollout_ref.actor.ulysses_sequence_parallel_size=1
actor_rollout_ref.model.enable_gradient_checkpointing=True actor_rollout_ref.actor.fsdp_config.param_offload=False
actor_rollout_ref.actor.fsdp_config.grad_offload=False actor_rollout_ref.actor.fsdp_config.optimizer_offload=False
actor_rollout_ref.rollout.tensor_model_parallel_size=2 actor_rollout_ref.rollout.name=vllm
actor_rollout_ref.rollout.temperature=1.0 actor_rollout_ref.rollout.val_temperature=0.6
actor_rollout_ref.rollout.gpu_memory_utilization=0.80 actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.n_val=1
actor_rollout_ref.ref.fsdp_config.param_offload=True actor_rollout_ref.rollout.max_prefix_len=8192
algorithm.kl_ctrl.kl_coef=0.000 actor_rollout_ref.actor.entropy_coeff=0.001 trainer.critic_warmup=0
trainer.logger=['console','wandb'] trainer.project_name=luffy-math-test trainer.experiment_name=TEST
+trainer.val_before_train=False trainer.n_gpus_per_node=8 trainer.nnodes=1 trainer.save_freq=50 trainer.test_freq=10
actor_rollout_ref.actor.use_kl_loss=False actor_rollout_ref.actor.use_sft_prefix_reward=False
actor_rollout_ref.rollout.prefix_share_across_samples=False actor_rollout_ref.rollout.prefix_strategy=random
actor_rollout_ref.rollout.n_prefix=1 actor_rollout_ref.rollout.min_prefix_ratio=1.0
actor_rollout_ref.rollout.max_prefix_ratio=1.0 actor_rollout_ref.rollout.prefix_reward_weight_alpha=1.0
actor_rollout_ref.ref.use_ref=False actor_rollout_ref.actor.use_off_policy_loss=True algorithm.grpo_use_std=False
actor_rollout_ref.actor.loss_remove_token_mean=True data.reward_impl_version=3 trainer.max_optim_to_keep=2
data.shuffle=True trainer.default_hdfs_dir=null trainer.total_epochs=30
""".split()

NO_PREFIX = ["actor_rollout_ref.rollout.min_prefix_ratio=0.0", "actor_rollout_ref.rollout.max_prefix_ratio=0.0"]
TOKEN_LOSS = ["actor_rollout_ref.actor.off_policy_normalize=False", "actor_rollout_ref.actor.off_policy_loss_impl=token"]
NO_CLIP = "actor_rollout_ref.actor.loss_remove_clip=True"

SCRIPTS = {
    "train.sh": [*COMMON, *TOKEN_LOSS, NO_CLIP, "actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.1"],
    "train_on_policy.sh": [*COMMON, *TOKEN_LOSS, *NO_PREFIX],
    "train_rl_sft_loss.sh": [
        *COMMON,
        NO_CLIP,
        "algorithm.adv_estimator=grpo_split",
        "actor_rollout_ref.actor.use_off_policy_loss=False",
        "actor_rollout_ref.actor.use_sft_multitask_loss=True",
    ],
    "train_sft_rl.sh": [
        *COMMON,
        *NO_PREFIX,
        "actor_rollout_ref.model.path=Elliott/Qwen2.5-Math-7B-SFT",
        "data.train_files=data/openr1.complement.parquet",
        "actor_rollout_ref.actor.off_policy_loss_impl=token",
    ],
}
