"""Packages of the project. ``verl.mix_src`` joins the installed veRL, so ``verl/`` itself is never listed as a package."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

setup(
    name="luffy-rl",
    version=re.search(r'__version__ = "(.*)"', Path("luffy/__init__.py").read_text())[1],
    description="Learning to reason under off-policy guidance, as an extension of veRL",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["luffy", "luffy.*", "miniature", "miniature.*"])
    + find_namespace_packages(include=["verl.mix_src", "verl.mix_src.*"]),
    package_data={
        "luffy": ["**/*.json", "**/*.jinja", "view/page/*"],
        "verl.mix_src.config": ["*.yaml", "*.txt", "*/*.txt", "*/*.yaml", "*/*.jinja", "*/*/*.yaml"],
    },
    extras_require={
        "gym": ["reasoning-gym==0.1.25"],  # procedural tasks with verifiers; in the CPU lock, for the tests
        "trackio": ["trackio==0.43.0"],  # a logger of trainer.logger
    },
    entry_points={
        "verl.plugins": ["mix_src = verl.mix_src.register"],
        # answer kind = how its answer is read from a response, and scored
        "luffy.answers": ["tiny = miniature.task:extract_answer", "gym = luffy.rewards.gym"],
    },
)
