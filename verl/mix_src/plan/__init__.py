"""What a configured run needs: ``python -m verl.mix_src.plan [--gpu NAME] [overrides]``, in seconds, on any machine, without weights.

The arithmetic is :mod:`luffy.plan`; this package reads veRL's config for it.
"""
