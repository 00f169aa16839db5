"""Each method's loss and gradient on one small batch, by formulas in plain Python; and where a method becomes another.

Two rows of three tokens. Row 1 is the demonstration or the replayed row; of prefixes and hints its first two tokens are forced.
"""

import math
import re
from dataclasses import replace

import pytest
import torch

from luffy.errors import InputError
from luffy.objective import BatchTotals, ObjectiveConfig, load_method, mixed_policy_loss
from luffy.objective.method import methods
from luffy.objective.parts import Bounded, Constant, Importance, Mixture, Old, One, OneMinusP, Teacher, Tokens, TopEntropy
from luffy.objective.shaping import Identity, Log, PDivP
from luffy.schedules import Schedule
from luffy.store import FINE_TUNING

P = [[0.5, 0.8, 0.28], [0.05, 0.4, 0.9]]  # π
OLD = [[0.4, 0.8, 0.4], [0.0625, 0.4, 0.6]]  # π_old, and the recorded π_past
ENTROPY = [[1.0, 0.5, 1.5], [2.0, 1.2, 0.4]]
TEACHER = [[0.6, 0.4, 0.28], [0.2, 0.4, 0.45]]
REFERENCE = [[0.5, 0.7, 0.35], [0.05, 0.4, 0.8]]
A, T = (-0.5, 0.5), 10
RHO = [[p / old for p, old in zip(*rows, strict=True)] for rows in zip(P, OLD, strict=True)]
LOG = [[math.log(p) for p in row] for row in P]
H = [1.0, 1.2]  # mean entropy of a row
NLL = -sum(LOG[1]) / 3
ROLLOUT, ROLLOUT_GRADIENT = -A[0] * sum(RHO[0]) / T, [-A[0] * r / T for r in RHO[0]]  # -Aρ / T over row 0


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


WHOLE = [[False] * 3, [True] * 3]
PREFIX = [[False] * 3, [True, True, False]]
NOTHING = [[False] * 3] * 2


def run(config, forced=WHOLE, **arguments):
    """Loss and gradient on log π."""
    log_prob = tensor(P).log().requires_grad_()
    given = {
        "old_log_prob": tensor(OLD).log(),
        "advantages": tensor([[A[0]] * 3, [A[1]] * 3]),
        "response_mask": torch.ones(2, 3, dtype=torch.bool),
        "off_policy_mask": torch.tensor(forced),
        "entropy": tensor(ENTROPY),
        "ref_log_prob": tensor(REFERENCE).log(),
        "teacher_log_prob": tensor(TEACHER).log(),
        "row_correct": torch.tensor([False, True]),
    }
    result = mixed_policy_loss(log_prob=log_prob, config=replace(config, constant_length=T), **given | arguments)
    result.loss.backward()
    return result.loss.item(), log_prob.grad


def clipped(row, divisor):
    """-Aρ under the clip 0.2, as a sum over a row's tokens, and its gradients."""
    bound = [min(max(r, 0.8), 1.2) for r in RHO[row]]
    a = A[row]
    values = [max(-a * r, -a * b) / divisor for r, b in zip(RHO[row], bound, strict=True)]
    gradients = [-a * r / divisor if -a * r >= -a * b else 0.0 for r, b in zip(RHO[row], bound, strict=True)]
    return values, gradients


def shaped(x, gamma=0.1):
    return x / (x + gamma), gamma * x / (x + gamma) ** 2


def luffy():
    values, slopes = zip(*map(shaped, P[1]), strict=True)
    return ROLLOUT - A[1] * sum(values) / T, ROLLOUT_GRADIENT, [-A[1] * s / T for s in slopes]


def hpt():
    return ROLLOUT + NLL, ROLLOUT_GRADIENT, [-1 / 3] * 3


def srft_wrong():
    weight = 0.5 * math.exp(-H[1])
    off, slope = luffy()[0] - ROLLOUT, luffy()[2]
    return sum(LOG[0]) / T + weight * NLL + off, [1 / T] * 3, [-weight / 3 + s for s in slope]


def chord(mu, phi):
    values, gradients = clipped(0, 3)
    weight = [phi(p) for p in P[1]]
    imitation = -sum(w * x for w, x in zip(weight, LOG[1], strict=True)) / 3
    return (1 - mu) * sum(values) + mu * imitation, [(1 - mu) * g for g in gradients], [-mu * w / 3 for w in weight]


def prefix_rft():
    """The more uncertain of the two forced tokens is the first; the second is out of the sum, and still in the mean."""
    (first, second), (above, below) = (clipped(row, 6) for row in (0, 1)), ((1, 1, 1), (1, 0, 1))
    values = [v * w for part, weight in ((first, above), (second, below)) for v, w in zip(part[0], weight, strict=True)]
    return sum(values), first[1], [g * w for g, w in zip(second[1], below, strict=True)]


def rl_plus(floor=1.0):
    weight = [math.sqrt(1 - p) for p in P[1]]
    ratio = [4 * p / (3 * old + floor) for p, old in zip(P[1], OLD[1], strict=True)]
    terms = [-A[1] * w * r / T for w, r in zip(weight, ratio, strict=True)]
    return ROLLOUT + sum(terms), ROLLOUT_GRADIENT, terms


def exgrpo():
    values, slopes = zip(*map(shaped, RHO[1]), strict=True)
    return ROLLOUT - A[1] * sum(values) / T, ROLLOUT_GRADIENT, [-A[1] * s / T for s in slopes]


def continuation():
    """-Aρ under the clip over row 0 and the last token of row 1: four tokens."""
    (values, gradients), (more, slopes) = clipped(0, 4), clipped(1, 4)
    return sum(values) + more[2], gradients, [0.0, 0.0, slopes[2]]


def uft():
    loss, row0, row1 = continuation()
    quotients = [[ref / p for p, ref in zip(*rows, strict=True)] for rows in zip(P, REFERENCE, strict=True)]
    k3 = [q - math.log(q) - 1 for q in (*quotients[0], quotients[1][2])]
    slopes = [[0.001 * (1 - q) / 4 for q in row] for row in quotients]
    loss += 0.001 * sum(k3) / 4 - 0.001 * (LOG[1][0] + LOG[1][1]) / 2
    return loss, [a + b for a, b in zip(row0, slopes[0], strict=True)], [-0.0005, -0.0005, row1[2] + slopes[1][2]]


def opd():
    gain = [[math.log(t / old) for t, old in zip(*rows, strict=True)] for rows in zip(TEACHER, OLD, strict=True)]
    terms = [[-g * r / 6 for g, r in zip(*rows, strict=True)] for rows in zip(gain, RHO, strict=True)]
    return sum(map(sum, terms)), *terms


def kdrl(beta=0.005):
    (values, gradients), (more, slopes) = clipped(0, 6), clipped(1, 6)
    gap = [math.log(p / t) for p, t in zip(P[0], TEACHER[0], strict=True)]
    loss = sum(values) + sum(more) + beta * sum(0.5 * g * g for g in gap) / 3
    return loss, [g + beta * d / 3 for g, d in zip(gradients, gap, strict=True)], slopes


def opsd(cap=None):
    """sg(log π - log π_T) · log π, times min(ρ, cap) where there is a cap."""
    weights = [[math.log(p / t) for p, t in zip(*rows, strict=True)] for rows in zip(P, TEACHER, strict=True)]
    if cap:
        weights = [[w * min(r, cap) for w, r in zip(*rows, strict=True)] for rows in zip(weights, RHO, strict=True)]
    loss = sum(w * x for row, logs in zip(weights, LOG, strict=True) for w, x in zip(row, logs, strict=True)) / 6
    return loss, *[[w / 6 for w in row] for row in weights]


OPSD = load_method("opsd")
CASES = {  # settings, arguments; expected loss and gradients of both rows; the same, as printed in the method's facts
    "luffy": (lambda: load_method("luffy"), {}, luffy, 0.045833),
    "hpt": (lambda: load_method("hpt"), {}, hpt, 1.486628),
    "srft, row 0 wrong": (lambda: load_method("srft"), {}, srft_wrong, -0.118924),
    "srft, row 0 right": (
        lambda: load_method("srft"),
        {"row_correct": torch.tensor([True, True]), "advantages": torch.zeros(2, 3, dtype=torch.float64)},
        lambda: (
            -0.1 * math.e * sum(LOG[0]) / T + 0.5 * math.exp(-H[1]) * NLL,
            [-0.1 * math.e / T] * 3,
            [-0.5 * math.exp(-H[1]) / 3] * 3,
        ),
        0.261179,
    ),
    "chord_phi": (lambda: load_method("chord_phi"), {}, lambda: chord(0.1, lambda p: p * (1 - p)), 0.469890),
    "chord_mu": (lambda: load_method("chord_mu"), {}, lambda: chord(0.9, lambda p: 1.0), 1.256048),
    "chord_mu, step 100": (lambda: load_method("chord_mu"), {"step": 100}, lambda: chord(0.475, lambda p: 1.0), None),
    "chord_mu, step 900": (lambda: load_method("chord_mu"), {"step": 900}, lambda: chord(0.05, lambda p: 1.0), None),
    "prefix_rft": (lambda: load_method("prefix_rft"), {"forced": PREFIX}, prefix_rft, 0.087500),
    "exgrpo": (lambda: load_method("exgrpo"), {"behaviour_prob": tensor(OLD)}, exgrpo, 0.010726),
    "rl_plus": (lambda: load_method("rl_plus"), {}, rl_plus, 0.090796),
    "rl_plus, paper, 1000 words": (
        lambda: replace(load_method("rl_plus"), denominator=Mixture(floor=0.001)),
        {},
        lambda: rl_plus(0.001),
        0.012591,
    ),
    "uft": (lambda: load_method("uft"), {"forced": PREFIX}, uft, 0.233217),
    "pope": (lambda: load_method("pope"), {"forced": PREFIX}, continuation, 0.231250),
    "opd": (lambda: load_method("opd"), {"forced": NOTHING}, opd, -0.010502),
    "kdrl, row 0 wrong": (lambda: load_method("kdrl"), {"forced": NOTHING}, kdrl, 0.004595),
    "kdrl, step 140": (lambda: load_method("kdrl"), {"forced": NOTHING, "step": 140}, lambda: kdrl(0.003), None),
    "opsd": (lambda: load_method("opsd"), {"forced": NOTHING}, opsd, 0.675273),
    "sdft, importance at most 1.2": (
        lambda: replace(OPSD, distill_weight=Importance(cap=1.2)),
        {"forced": NOTHING},
        lambda: opsd(1.2),
        0.538619,
    ),
    "relift, RL step": (
        lambda: load_method("relift"),
        {},
        lambda: (ROLLOUT, ROLLOUT_GRADIENT, [0.0] * 3),
        0.147500,
    ),
    "relift, SFT step": (
        lambda: FINE_TUNING,
        {},
        lambda: (NLL, [0.0] * 3, [-1 / 3] * 3),
        1.339128,
    ),
    "ghpo": (lambda: load_method("ghpo"), {"forced": PREFIX}, continuation, 0.231250),
    "bread": (lambda: load_method("bread"), {"forced": PREFIX}, continuation, 0.231250),
    "trapo": (
        lambda: load_method("trapo"),
        {"forced": PREFIX},
        lambda: (
            ROLLOUT - (0.05 / 0.1 + 1 + A[1] * RHO[1][2]) / T,
            ROLLOUT_GRADIENT,
            [-0.5 / T, -1 / T, -A[1] * RHO[1][2] / T],
        ),
        -0.077500,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_worked_example(name):
    config, arguments, expected, printed = CASES[name]
    loss, gradient = run(config(), **arguments)
    expected_loss, *rows = expected()
    assert loss == pytest.approx(expected_loss, abs=1e-12)
    assert gradient.flatten().tolist() == pytest.approx([*rows[0], *rows[1]], abs=1e-12)
    assert printed is None or loss == pytest.approx(printed, abs=5e-7)


def test_a_method_that_is_not_there_is_named():
    with pytest.raises(InputError, match="there is no method 'sfrt'; did you mean srft?"):
        load_method("sfrt")
    assert {"hpt", "luffy", "srft"} <= set(methods())


def test_load_method_does_not_read_the_rest():
    assert load_method("luffy") == ObjectiveConfig()
    assert load_method("rl_sft_loss") == ObjectiveConfig(sft_coefficient=1.0, off_policy_weight=0.0)


def batch(seed=0, demonstrations=True):
    """Random rows of uneven length, the first third of them demonstrations, whole or in part."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    log_prob = -3 * draw(9, 7)
    place = torch.arange(7)
    return {
        "log_prob": log_prob,
        "old_log_prob": log_prob + 0.6 * (draw(9, 7) - 0.5),
        "advantages": (2 * draw(9, 1) - 1).expand(9, 7).clone(),
        "response_mask": place < (1 + draw(9, 1) * 7).long(),
        "off_policy_mask": (place < (2 + draw(9, 1) * 7).long()) & (torch.arange(9) < 3).unsqueeze(-1) & demonstrations,
        "behaviour_prob": 0.1 + 0.9 * draw(9, 7),
        "entropy": draw(9, 7),
        "ref_log_prob": log_prob - draw(9, 7),
        "teacher_log_prob": log_prob - draw(9, 7),
        "row_correct": draw(9) < 0.5,
    }


def gradient(config, rows, **arguments):
    log_prob = rows["log_prob"].clone().requires_grad_()
    mixed_policy_loss(**rows | {"log_prob": log_prob} | arguments, config=config).loss.backward()
    return log_prob.grad


ON_POLICY = load_method("on_policy")
GRPO = replace(ON_POLICY, aggregation="token_mean")
UNTAUGHT = {"behaviour_prob": None}
SAME_TEACHER = {"teacher_log_prob": batch()["log_prob"]}
LIMITS = {  # method and setting, the same without demonstrations or not, what it becomes, scale, arguments of the first
    "LUFFY, γ to ∞, times γ: no shaping": (
        ObjectiveConfig(shaping=PDivP(gamma=1e9), on_policy_weight=0.0), True, ObjectiveConfig(shaping=Identity(), on_policy_weight=0.0), 1e-9, {},
    ),
    "ExGRPO with nothing recorded: LUFFY": (load_method("luffy"), True, replace(load_method("luffy"), denominator=One()), 1, UNTAUGHT),
    "HPT whose gate is never open": (replace(load_method("hpt"), clip_low=0.2, clip_high=0.2), False, ON_POLICY, 1, {}),
    "CHORD, μ = 0": (replace(load_method("chord_phi"), imitation_share=0.0, dual_clip=None), False, GRPO, 1, {}),
    "CHORD-μ, μ = 1: SFT": (
        replace(load_method("chord_mu"), imitation_share=1.0), True,
        ObjectiveConfig(policy_coefficient=0.0, sft_coefficient=1.0, sft_divisor="own_tokens"), 1, {},
    ),
    "Prefix-RFT without a prefix": (replace(load_method("prefix_rft"), dual_clip=None), False, GRPO, 1, {}),
    "Prefix-RFT, every forced token: all tokens alike": (
        replace(load_method("prefix_rft"), dual_clip=None, token_weight=TopEntropy(share=1.0)), True, GRPO, 1, "as rollouts",
    ),
    "RL-PLUS, power to 0, floor to 0: 4/3 of the old ratio": (
        replace(load_method("rl_plus"), token_weight=OneMinusP(power=1e-12), denominator=Mixture(floor=1e-12), on_policy_weight=0.0), True,
        ObjectiveConfig(shaping=Identity(), denominator=Old(), on_policy_weight=0.0), 4 / 3, {},
    ),
    "UFT without hints and KL": (replace(load_method("uft"), kl_coefficient=0.0), False, GRPO, 1, {}),
    "UFT, no loss on the hint, no KL: POPE": (
        replace(load_method("uft"), kl_coefficient=0.0, sft_coefficient=0.0), True, load_method("pope"), 1, {},
    ),
    "OPD, the reward alone": (
        replace(load_method("opd"), on_policy_advantage=Teacher(reward=1.0, teacher=0.0), clip_low=0.2, clip_high=0.2), False, GRPO, 1, {},
    ),
    "KDRL, β = 0": (
        replace(load_method("kdrl"), distill_coefficient=0.0), False, GRPO, 1, {},
    ),
    "KDRL, a teacher that agrees": (load_method("kdrl"), False, GRPO, 1, SAME_TEACHER),
    "TRAPO, bound 1: the probability itself": (
        ObjectiveConfig(advantage=Constant(value=1.0), shaping=Identity(), denominator=Bounded(bound=1.0)), True,
        ObjectiveConfig(advantage=Constant(value=1.0), shaping=Identity(), denominator=One()), 1, {},
    ),
    "SRFT, wrong rollouts, against a constant advantage": (
        replace(load_method("srft"), sft_coefficient=0.0), True,
        replace(load_method("luffy"), on_policy_shaping=Log(weight=1.0), on_policy_denominator=One(), on_policy_advantage=Constant(value=-1.0)),
        1, {"row_correct": torch.zeros(9, dtype=torch.bool)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_a_method_becomes_another(name):
    config, demonstrations, other, scale, arguments = LIMITS[name]
    rows = batch(demonstrations=demonstrations)
    if arguments == "as rollouts":
        other_rows, arguments = rows | {"off_policy_mask": torch.zeros_like(rows["off_policy_mask"])}, {}
    else:
        other_rows = rows
    found, expected = gradient(config, rows, **arguments), gradient(other, other_rows)
    assert expected.any()
    torch.testing.assert_close(found, scale * expected, rtol=1e-7, atol=1e-15)


@pytest.mark.parametrize("config", [OPSD, load_method("opd")], ids=["distillation", "OPD at the first update"])
def test_nothing_is_learned_from_a_teacher_that_agrees(config):
    rows = batch(demonstrations=False)
    assert not gradient(config, rows | {"old_log_prob": rows["log_prob"], "teacher_log_prob": rows["log_prob"]}).any()


@pytest.mark.parametrize(("share", "kept"), [(0.2, 1), (0.5, 2), (0.51, 3), (1.0, 4), (0.0, 0)])
def test_top_entropy_is_taken_by_row_and_rounded_up(share, kept):
    """Of a row's four forced tokens; places that are not selected, and other rows, do not matter."""
    entropy = tensor([[0.1, 0.9, 0.5, 0.5, 7.0], [9.0, 8.0, 7.0, 6.0, 0.0]])
    selected = torch.tensor([[True] * 4 + [False], [True] * 4 + [False]])
    tokens = Tokens(
        log_prob=torch.zeros(2, 5, dtype=torch.float64), old_log_prob=torch.zeros(2, 5), log_behaviour=0.0, response_mask=selected,
        advantages=torch.zeros(2, 5), entropy=entropy, teacher_log_prob=None, row_correct=None, step=0,
    )  # fmt: skip
    weight = TopEntropy(share=share)(tokens, selected) * selected
    assert weight.sum(-1).tolist() == [kept, kept]
    assert weight[0].nonzero().flatten().tolist() == sorted([1, 2, 3, 0][:kept])


def test_what_a_part_needs_is_named():
    rows = batch()
    for missing, config, message in (
        ("teacher_log_prob", load_method("kdrl"), "distill_coefficient is 0.005, but teacher_log_prob is None"),
        ("teacher_log_prob", load_method("opd"), "advantage teacher needs teacher_log_prob, which is None"),
        ("row_correct", load_method("srft"), "advantage verdict needs row_correct, which is None"),
        ("row_correct", load_method("kdrl"), "a stream of wrong rows needs row_correct, which is None"),
        ("entropy", load_method("prefix_rft"), "token weight top_entropy needs entropy, which is None"),
    ):
        with pytest.raises(InputError, match=message):
            gradient(config, rows | {missing: None})
    with pytest.raises(InputError, match="a stream divides by its own tokens or rows, which totals does not have"):
        gradient(load_method("hpt"), rows, totals=BatchTotals(tokens=9, sequences=3))
    with pytest.raises(InputError, match=r"row_correct has shape \(2,\); log_prob has 9 rows"):
        gradient(load_method("hpt"), rows | {"row_correct": torch.ones(2)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_off_policy": True}, "luffy.objective.clip_off_policy is true, but there is no clip"),
        ({"imitation_share": 0.5}, "luffy.objective.imitation_share is set, but there is nothing to imitate"),
        ({"imitation_share": Schedule(start=1.2, end=0.0, until=3), "sft_coefficient": 1.0}, "imitation_share has the value 1.2; it must be in"),
        ({"sft_coefficient": Schedule(start=1.0, end=-0.5, until=3)}, "sft_coefficient has the value -0.5; it must be at least 0"),
        ({"sft_coefficient": -1.0}, "luffy.objective.sft_coefficient is -1.0; it must be a number of at least 0 or a schedule"),
    ],
)  # fmt: skip
def test_settings_that_contradict_are_named(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ObjectiveConfig(**settings)


@pytest.mark.parametrize(
    ("rows", "origin", "divisor", "number"),
    [
        ("all", "all", "own_tokens", 5), ("wrong", "all", "own_tokens", 3), ("right", "all", "own_tokens", 2),
        ("all", "on_policy", "own_tokens", 4), ("right", "on_policy", "own_tokens", 1), ("all", "all", "own_rows", 2),
        ("right", "on_policy", "own_rows", 1), ("wrong", "all", "constant", T), ("wrong", "all", None, T),
    ],
)  # fmt: skip
def test_a_stream_is_divided_by_its_own(rows, origin, divisor, number):
    """Row 0 has three tokens and is wrong; row 1 has two, of which the first is forced, and is right."""
    config = ObjectiveConfig(
        policy_coefficient=0.0, distill_coefficient=1.0, distill_estimator="k2", distill_rows=rows, distill_tokens=origin,
        distill_divisor=divisor,
    )  # fmt: skip
    mask = torch.tensor([[True] * 3, [True, True, False]])
    _, gradient = run(config, forced=[[False] * 3, [True, False, False]], response_mask=mask)
    expected = [
        [math.log(p / t) / number if chosen else 0.0 for p, t, chosen in zip(*row, strict=True)]
        for row in zip(P, TEACHER, [[rows != "right"] * 3, [rows != "wrong" and origin == "all", rows != "wrong", False]], strict=True)
    ]
    torch.testing.assert_close(gradient, tensor(expected), rtol=1e-12, atol=1e-15)
