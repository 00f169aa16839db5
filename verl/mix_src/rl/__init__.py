"""Reinforcement learning: what the extension makes of veRL's trainer, actor, rollout and reward workers."""
