"""The methods that are compared, the variants of one setting, and the regimes in which they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from luffy.errors import InputError
from miniature.dataset import DataRecipe, Teacher
from miniature.recipe import BaseRecipe, CarryNoise

LAST = 1000  # place of a method that names none
STEPS = "{steps}"  # in an override: training steps of the run
FULL_STEPS = 500  # of a run for which the methods' files set their schedules


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train.

    Attributes:
        name: folder of its runs.
        title: what tables and figures call it.
        experiment: configuration of reinforcement learning (``experiment=...``); None: supervised fine-tuning.
        overrides: Hydra overrides beside it; ``{steps}`` stands for the steps of the run.
        starts_from: method whose model at half of the budget this one starts from; None: the base.
        teacher: whether it learns from the log-probabilities of a teacher's model.
        reads_traces: whether the data set's demonstrations are shown.
        schedules: steps at which its schedules turn, by key, in a run of :data:`FULL_STEPS`.
    """

    name: str
    title: str
    experiment: str | None
    overrides: tuple[str, ...] = ()
    starts_from: str | None = None
    teacher: bool = False
    reads_traces: bool = True
    schedules: tuple[tuple[str, int], ...] = ()

    def scaled(self, steps: int) -> list[str]:
        """Overrides that let its schedules turn at the same shares of a run of so many steps."""
        return [f"{key}={max(1, round(turn * steps / FULL_STEPS)) if turn else 0}" for key, turn in self.schedules]


ON_POLICY, MIXED, LUFFY, RL_SFT_LOSS, SFT, SFT_RL = "on_policy", "mixed", "luffy", "rl_sft_loss", "sft", "sft_rl"

TEACHER = "'name': 'teacher'"  # an advantage that a teacher gives
CONFIG = Path(__file__).parents[2] / "verl" / "mix_src" / "config"


def _read(file: Path) -> tuple[int, Method]:
    """A method and its place in tables, from the ``method`` node of its config file."""
    whole = yaml.safe_load(file.read_text(encoding="utf-8"))
    node, settings = whole["method"], whole.get("luffy", {}) if file.stem != SFT else {}
    objective, guidance = settings.get("objective", {}), settings.get("guidance", {})
    asked = settings.get("stages") or settings.get("store", {}).get("admit") == "unsolved" or "privileged" in settings.get("teacher", {})
    return node.get("place", LAST), Method(
        name=file.stem,
        title=node["title"],
        experiment=None if file.stem == SFT else file.stem,
        starts_from=node.get("starts_from"),
        teacher=("distill_coefficient" in objective or TEACHER in str(objective)) and "teacher" not in settings,
        reads_traces=bool(guidance.get("n_demonstrations", 1) or asked),
        schedules=tuple(_turns(settings, "luffy")),
    )


def _turns(node: Any, key: str) -> Iterator[tuple[str, int]]:
    """Steps at which the schedules of a config node turn, by full key."""
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        if "shape" in node and name in ("until", "begin", "warm_up"):
            yield f"{key}.{name}", value
        yield from _turns(value, f"{key}.{name}")


_FOUND = sorted(map(_read, [CONFIG / "sft" / "sft.yaml", *CONFIG.glob("experiment/*.yaml")]), key=lambda found: (found[0], found[1].name))
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for _, method in _FOUND})
"""Every method that has a config file, in the order of tables; one comes after the one that it starts from."""

_SCHEDULE, _MIN, _MAX = ("luffy.guidance.schedule", "luffy.guidance.min_ratio", "luffy.guidance.max_ratio")
_GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.5)  # paper, figure 9
_LOW, _HIGH = "luffy.objective.clip_low", "luffy.objective.clip_high"

_ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "gamma": {f"γ {gamma}": (f"luffy.objective.shaping.gamma={gamma}",) for gamma in _GAMMAS},
    "n_demonstrations": {f"{k} of 8": (f"luffy.guidance.n_demonstrations={k}",) for k in (1, 2, 4)},
    "prefix": {
        "whole traces": (),
        "half of each": (f"{_SCHEDULE}=fixed", f"{_MIN}=0.5", f"{_MAX}=0.5"),
        "random share": (f"{_SCHEDULE}=random", f"{_MIN}=0.0"),
        "falling share": (f"{_SCHEDULE}=linear", f"luffy.guidance.steps={STEPS}"),
        "random below a falling bound": (f"{_SCHEDULE}=linear_max", f"luffy.guidance.steps={STEPS}"),
        "random below a rising bound": (f"{_SCHEDULE}=reverse_linear", f"luffy.guidance.steps={STEPS}"),
    },
    "on_demand": {
        "always": (),
        "below half right": ("luffy.guidance.on_demand_below=0.5",),
        "where none is right": ("luffy.guidance.on_demand_below=0.01",),
    },
    "clip": {
        "no clip": (),
        "clip 0.2": (f"{_LOW}=0.2", f"{_HIGH}=0.2"),
        "clip 0.2 and 0.28": (f"{_LOW}=0.2", f"{_HIGH}=0.28"),
    },
}
ABLATIONS = tuple(_ABLATIONS)


def ablation(name: str) -> list[Method]:
    """The variants of one ablation of LUFFY, the paper's setting among them.

    Raises:
        InputError: for a name that is not one of :data:`ABLATIONS`.
    """
    if name not in _ABLATIONS:
        raise InputError(f"there is no ablation '{name}'; choose one of {', '.join(ABLATIONS)}")
    return [
        Method(name=f"luffy_{name}_{number}", title=title, experiment="luffy", overrides=overrides)
        for number, (title, overrides) in enumerate(_ABLATIONS[name].items())
    ]


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
        overrides: Hydra overrides of the methods that are shown demonstrations.
        response_tokens: budget of a response.
    """

    name: str
    title: str
    steps: int
    prompts: int = 16
    points: int = 1
    methods: tuple[str, ...] = (LUFFY, SFT, SFT_RL)
    data: DataRecipe = field(default_factory=DataRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    overrides: tuple[str, ...] = ()
    response_tokens: int = 64


SHORT, LONG, LONGEST = 20, 96, 250  # steps
PAPER = (ON_POLICY, MIXED, LUFFY, RL_SFT_LOSS, SFT, SFT_RL)  # what LUFFY's paper compares
MAIN = Regime(name="main", title="2 048 right traces", steps=SHORT, methods=PAPER)


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
                methods=(ON_POLICY, LUFFY, SFT, SFT_RL),
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
            Regime(
                name="long",
                title="long traces of a foreign style",
                steps=SHORT,
                methods=(ON_POLICY, LUFFY, SFT, SFT_RL),
                data=DataRecipe(teachers=(Teacher(checks=True),)),
                response_tokens=112,
            ),
        )
    }
)
"""The main comparison first. Problems longer than any trace are asked of every model: they need no run of their own."""
