"""Supervised fine-tuning on the demonstrations, on veRL's own SFT trainer."""
