"""Packages of the project. ``verl.mix_src`` joins the installed veRL, so ``verl/`` itself is never listed as a package."""

from setuptools import find_namespace_packages, find_packages, setup

setup(
    name="luffy-rl",
    version="0.1.0",
    description="Learning to reason under off-policy guidance, as an extension of veRL",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["luffy", "luffy.*"]) + find_namespace_packages(include=["verl.mix_src", "verl.mix_src.*"]),
    package_data={
        "luffy": ["**/*.json", "**/*.jinja"],
        "verl.mix_src.config": ["*.yaml", "*.txt", "*/*.txt", "*/*.yaml", "*/*.jinja", "*/*/*.yaml"],
    },
    entry_points={"verl.plugins": ["mix_src = verl.mix_src.register"]},
)
