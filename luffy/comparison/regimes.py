"""The situations in which methods are compared: how many traces, how good, from whom, and how able the base is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from luffy.comparison.methods import LUFFY, METHODS, ON_POLICY, SFT
from luffy.tiny.dataset import DataRecipe, Teacher
from luffy.tiny.noise import CarryNoise
from luffy.tiny.recipe import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class Regime:
    """A situation.

    Attributes:
        name: folder of its runs.
        title: what the report calls it.
        steps: training steps of a run.
        prompts: of a step.
        points: how often held-out problems are answered over a run, at even distances.
        methods: names of the methods that are run.
        data: the training problems and traces.
        base: the start model.
        overrides: Hydra overrides of the guided methods.
    """

    name: str
    title: str
    steps: int
    prompts: int = 16
    points: int = 1
    methods: tuple[str, ...] = (LUFFY, SFT)
    data: DataRecipe = field(default_factory=DataRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    overrides: tuple[str, ...] = ()


SHORT, LONG, LONGEST = 20, 96, 250  # steps
MAIN = Regime(name="main", title="2 048 right traces", steps=SHORT, methods=tuple(METHODS))


def _few(traces: int) -> Regime:
    recipe = DataRecipe(n_prompts=traces)
    return Regime(name=f"traces_{traces}", title=f"{traces} traces", steps=LONG, prompts=8, points=3, data=recipe)


FEWEST = _few(16)
OVERTRAINED = replace(FEWEST, name="traces_16_long", title=f"16 traces, {LONGEST} steps", steps=LONGEST, prompts=16, points=5)

REGIMES: Mapping[str, Regime] = MappingProxyType(
    {
        regime.name: regime
        for regime in (
            MAIN,
            FEWEST,
            _few(64),
            _few(256),
            OVERTRAINED,
            Regime(
                name="wrong_traces",
                title="half of the traces wrong",
                steps=SHORT,
                data=DataRecipe(wrong_share=0.5),
            ),
            Regime(
                name="able_base",
                title="a base with some of the skill",
                steps=SHORT,
                methods=(ON_POLICY, LUFFY, SFT),
                base=BaseRecipe(noise=CarryNoise(right=0.45, zero=0.5)),
            ),
            Regime(
                name="teachers",
                title="three teachers of different styles",
                steps=SHORT,
                data=DataRecipe(
                    teachers=(
                        Teacher(name="commas", semicolon_share=0.0),
                        Teacher(name="expert", semicolon_share=0.3),
                        Teacher(name="semicolons", semicolon_share=0.9),
                    )
                ),
                overrides=("luffy.guidance.selection=random",),
            ),
        )
    }
)
"""The main comparison first. Problems longer than any trace are asked of every model: they need no run of their own."""
