"""Everything under the one ``luffy:`` node of a training config, as frozen dataclasses; ``python -m luffy.config`` prints it.

    luffy:
      guidance:    luffy.guidance.GuidanceConfig            which rows are demonstrations, and how much of each
      objective:   luffy.objective.ObjectiveConfig          the loss
      advantage:   luffy.advantages.AdvantageConfig         from rewards to advantages
      entropy:     luffy.objective.entropy.EntropyConfig    the entropy bonus's coefficient
      stages:      luffy.stages.StagesConfig                groups rolled in rounds, with longer hints
      store:       luffy.store.StoreConfig                  rows that are kept and trained on again
      teacher:     luffy.config.TeacherConfig               whose log-probabilities are learned from
      record:      luffy.record.RecordConfig                which groups are kept whole
      run:         luffy.config.RunConfig                   seed and validation
      safety:      luffy.safety.SafetyConfig                bounds of phases, checkpoints, bad numbers

Each setting is declared in its dataclass alone: name, type, default, bounds, meaning. Defaults are the released script's. A key
that is unknown, of the wrong type, in contradiction with another, or set but read by nothing stops the run with the full key
and what to do.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from luffy.advantages import AdvantageConfig
from luffy.errors import InputError
from luffy.guidance import ALL_ROWS, GuidanceConfig
from luffy.objective import ObjectiveConfig
from luffy.objective.choice import Choice, parameters_of, readers_of
from luffy.objective.entropy import EntropyConfig
from luffy.objective.shaping import SHAPINGS, parameters
from luffy.record import RecordConfig
from luffy.safety import SafetyConfig
from luffy.schedules import Schedule, is_on
from luffy.settings import Positive, build, followed, meanings, names, reject_unknown, require, settings, takes
from luffy.stages import StagesConfig
from luffy.store import StoreConfig

_RENAMED = {
    "objective.entropy_coefficient": "entropy.coefficient",
    "objective.gamma": "objective.shaping.gamma",
    "objective.weight": "objective.shaping.weight",
    "objective.exponent": "objective.shaping.exponent",
    "objective.on_policy_gamma": "objective.on_policy_shaping.gamma",
    "objective.on_policy_shaping_weight": "objective.on_policy_shaping.weight",
    "objective.on_policy_exponent": "objective.on_policy_shaping.exponent",
}
_OF_LEARNED_AND_RULE = ("target", "learning_rate", "max_coefficient")


@settings("luffy.run")
class RunConfig:
    """How a run is seeded, validated and paced: what belongs to the extension and not to the method."""

    seed: int = 0
    """Seed of the data order, of every sampled response, and of every draw of the guidance."""

    seeded_sampling: bool = True
    """Give each sampled response a seed of its own (from seed, step, prompt and row), so that a run can be repeated;
    false leaves the random numbers to vLLM."""

    validate_greedy: bool = False
    """Answer each held-out problem greedily too, once, beside the val_kwargs.n sampled answers."""

    poll_interval_s: Positive = 2.0
    """Seconds between two looks of the trainer for finished rollouts; veRL's default is 2. Short steps want less."""

    own_pass: bool = True
    """Take the log-probabilities from before a step from its first update's own forward pass, where nothing needs them earlier, instead
    of from a pass before it; false: a pass before it of all rows, as veRL. The gradient is the same."""

    leave_out: Literal["nothing", "without_gradient", "without_advantage"] = "without_gradient"
    """Rows that an update leaves out of its forward and backward pass: nothing; without_gradient (what no stream of the objective learns
    from, so that the gradient is the same; probability and entropy in the metrics are then those of the other rows); without_advantage
    (also what only the entropy bonus or a KL divergence would learn from: these then act on the other rows alone)."""

    fork_workers: bool = True
    """On one machine without a GPU, fork Ray's workers from a process that has imported what they need, so that a run starts in a third
    of the time; false: each worker imports by itself, as on GPUs."""

    lost_rows: Annotated[int, Field(ge=0)] = 0
    """Rows of a step that may be missing, because their requests failed; more than that stop the run."""


@settings("luffy.teacher")
class TeacherConfig:
    """Whose log-probabilities the methods read that learn from a teacher's."""

    path: str | None = None
    """Model folder or hub name of the teacher, of the student's vocabulary; null: none. It takes the place of the reference
    model in veRL's worker. Paper: none."""

    privileged: str | None = None
    """What the teacher's prompt has after the student's: a text with {solution} in the place of the prompt's first trace, such
    as "\\n\\nA solution: {solution}"; null: nothing. Without a path the teacher is the start model itself. OPSD: such a text."""

    def __post_init__(self) -> None:
        require(
            self.privileged is None or "{solution}" in self.privileged,
            f"luffy.teacher.privileged is {self.privileged!r}, which has no {{solution}}; put it where the trace goes",
        )


@dataclass(frozen=True, kw_only=True)
class LuffyConfig:
    """The method's settings."""

    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    """Which rows of a group are demonstrations, and how much of each."""

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """The loss."""

    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    """From rewards to advantages."""

    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    """Coefficient of the entropy bonus."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Whose log-probabilities are learned from."""

    stages: StagesConfig = field(default_factory=StagesConfig)
    """Groups rolled in rounds, with longer hints."""

    store: StoreConfig = field(default_factory=StoreConfig)
    """Rows that are kept and trained on again."""

    record: RecordConfig = field(default_factory=RecordConfig)
    """Which groups are kept whole."""

    run: RunConfig = field(default_factory=RunConfig)
    """Seed and validation."""

    safety: SafetyConfig = field(default_factory=SafetyConfig)
    """What is done about faults."""

    def __post_init__(self) -> None:
        k, baseline = self.guidance.n_demonstrations, self.advantage.baseline
        require(
            k == 0 or self.stages.mode == "none",
            f"luffy.stages.mode is {self.stages.mode}, which decides how much of a trace each row is given; set "
            f"luffy.guidance.n_demonstrations to 0 (it is {k})",
        )
        require(
            not (k == ALL_ROWS and baseline == "on_policy"),
            "luffy.advantage.baseline is on_policy, but luffy.guidance.n_demonstrations -1 leaves no on-policy row; "
            "set baseline to group, or fewer demonstrations",
        )
        require(
            not (k == 0 and is_on(self.objective.sft_coefficient)),
            f"luffy.objective.sft_coefficient is {self.objective.sft_coefficient}, but "
            "luffy.guidance.n_demonstrations is 0; there is nothing to imitate",
        )
        needs_teacher = self.objective.reads_teacher
        require(
            not needs_teacher or self.teacher != TeacherConfig(),
            "this method reads a teacher's log-probabilities, but there is no teacher: set luffy.teacher.path to a model of the same "
            "vocabulary, or luffy.teacher.privileged to what the start model is told beside the prompt",
        )
        require(
            needs_teacher or self.teacher == TeacherConfig(),
            f"luffy.teacher is set ({self.teacher.path or self.teacher.privileged!r}), but nothing reads a teacher's log-probabilities: set "
            "luffy.objective.distill_coefficient, or an advantage to teacher, or leave it out",
        )
        require(
            not (needs_teacher and is_on(self.objective.kl_coefficient)),
            "luffy.objective.kl_coefficient needs the reference model, whose place the teacher has: set it to 0, or leave the teacher out",
        )
        for name in _OF_LEARNED_AND_RULE if self.entropy.mode == "fixed" else ():
            value = getattr(self.entropy, name)
            require(
                value == getattr(EntropyConfig(), name),
                f"luffy.entropy.{name} is {value}, but mode fixed does not read it; set mode to learned or rule",
            )

    @property
    def reads_traces(self) -> bool:
        """Whether the data must have demonstrations."""
        return self.guidance.n_demonstrations != 0 or self.store.admit == "unsolved" or self.stages.mode != "none"

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any] | None) -> LuffyConfig:
        """Read the ``luffy:`` node.

        Args:
            mapping: plain nested mapping; sections and keys that it leaves out keep their default.

        Raises:
            InputError: an unknown key (the message names the nearest known one), a value of the wrong type or out of
                bounds, keys that contradict each other, or a key that is set and that nothing reads.
        """
        mapping = {} if mapping is None else mapping
        require(isinstance(mapping, Mapping), f"luffy is {mapping!r}; it must hold {', '.join(_SECTIONS)}")
        reject_unknown(mapping, _SECTIONS, "luffy")
        read: dict[str, Any] = {}
        for name, kind in _SECTIONS.items():
            values = mapping.get(name)
            if isinstance(values, Mapping):
                for key in values:
                    _reject_renamed(f"{name}.{key}")
            read[name] = build(kind, values, f"luffy.{name}")
        return cls(**read)

    @staticmethod
    def check_key(key: str) -> None:
        """Check the name of one key, as ``luffy.guidance.min_ratio``.

        Raises:
            InputError: there is no such key; the message names the nearest known one, or the one that it is called now.
        """
        _, section, *rest = key.split(".")
        reject_unknown([section], _SECTIONS, "luffy")
        _reject_renamed(".".join([section, *rest[:1]]))
        reject_unknown(rest[:1], names(_SECTIONS[section]), f"luffy.{section}")
        if rest[1:]:
            reject_unknown(rest[1:2], _below(_SECTIONS[section], rest[0]), f"luffy.{section}.{rest[0]}")


_SECTIONS: dict[str, Any] = {each.name: each.default_factory for each in dataclasses.fields(LuffyConfig)}


def in_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by full key (``luffy.objective.gamma``), as an earlier version wrote them, by the keys of today.

    A parameter that the shaping of that time did not read is left out.
    """
    found = {}
    for key, value in values.items():
        plain = key.removeprefix("luffy.")
        section, _, name = plain.rpartition(".")
        if key.startswith("luffy.") and plain in _RENAMED:
            shaping, _, parameter = _RENAMED[plain].rpartition(".")
            used = values.get(f"luffy.{shaping}")
            if parameter in parameters() and used in SHAPINGS and parameter not in names(SHAPINGS[used]):
                continue
            plain = _RENAMED[plain]
        elif isinstance(value, str) and section in _SECTIONS and isinstance(_default(_SECTIONS[section], name), Choice):
            plain += ".name"
        found[f"luffy.{plain}" if key.startswith("luffy.") else key] = value
    return found


def luffy_node() -> dict[str, dict[str, Any]]:
    """The ``luffy:`` node with every key at its default; a key that follows another is an interpolation of it."""
    node = {}
    for section, kind in _SECTIONS.items():
        node[section] = {name: _plain(getattr(kind(), name)) for name in names(kind)}
        node[section] |= {name: f"${{{key}}}" for name, key in followed(kind).items()}
    return node


def _plain(value: Any) -> Any:
    return value.node() if isinstance(value, Choice) else value


def _default(kind: Any, name: str) -> Any:
    return getattr(kind(), name, None)


def _below(kind: Any, name: str) -> list[str]:
    """Keys of the node below a key of a section: of a choice, or of a schedule."""
    default = _default(kind, name)
    if isinstance(default, Choice):
        return ["name", *parameters_of(default.kinds())]
    return names(Schedule) if takes(kind, name, Schedule) else []


def _reject_renamed(key: str) -> None:
    require(key not in _RENAMED, f"luffy.{key} is now luffy.{_RENAMED.get(key)}; set it there")
    section, _, name = key.partition(".")
    if name not in names(_SECTIONS[section]) and (near := difflib.get_close_matches(key, _RENAMED, n=1, cutoff=0.9)):
        raise InputError(f"unknown key luffy.{key}; did you mean luffy.{_RENAMED[near[0]]}?")


def annotated() -> str:
    """The node as YAML, each key below its meaning."""
    import yaml

    lines = ["# The one node that LUFFY adds to veRL's config. Options of the released code: docs/migrating.md."]
    for section, keys in luffy_node().items():
        lines += ["", *_comment(_SECTIONS[section].__doc__.split("\n")[0], ""), f"{section}:"]
        said = meanings(_SECTIONS[section])
        for name, value in keys.items():
            lines += ["", *_comment(said[name], "  ")]
            if isinstance(value, dict):
                kinds = _default(_SECTIONS[section], name).kinds()
                lines += [f"  {name}:", f"    name: {value['name']}  # {', '.join(kinds)}"]
                for key, default in parameters_of(kinds).items():
                    shown = "null" if value[key] is None else value[key]
                    lines += [f"    {key}: {shown}  # of {', '.join(readers_of(kinds, key))}; null: {default}"]
            else:
                lines += textwrap.indent(yaml.safe_dump({name: value}, default_flow_style=False, width=200).rstrip(), "  ").split("\n")
    return "\n".join(lines)


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, width=116, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


if __name__ == "__main__":
    sys.stdout.write(annotated() + "\n")
