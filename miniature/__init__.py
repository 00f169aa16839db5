"""The embedded example: a task that reinforcement learning alone cannot start on, and the tiny model that shows it."""
