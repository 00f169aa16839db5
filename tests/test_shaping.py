"""Shaping functions: values and gradient weights against their formulas in Python floats."""

import math
import re

import pytest
import torch

from luffy.config import LuffyConfig, luffy_node
from luffy.errors import InputError
from luffy.objective.shaping import SHAPINGS, PDivP, Shaping, read_shaping, readers, shaping

PARAMETERS = {"gamma": 0.3, "weight": 0.7, "exponent": 0.25}

# shaping: f(r), and the gradient weight r·f'(r), with the parameters above
FORMULAS = {
    "identity": (lambda r: r, lambda r: r),
    "log": (lambda r: 0.7 * math.log(r), lambda r: 0.7),
    "p_plus_log": (lambda r: r + 0.7 * math.log(r), lambda r: r + 0.7),
    "sqrt": (lambda r: math.sqrt(r), lambda r: math.sqrt(r) / 2),
    "pow": (lambda r: r**0.25, lambda r: 0.25 * r**0.25),
    "p_div_p": (lambda r: r / (r + 0.3), lambda r: 0.3 * r / (r + 0.3) ** 2),
}


def made(name: str) -> Shaping:
    """The shaping with those of the parameters that it has."""
    return SHAPINGS[name](**{key: value for key, value in PARAMETERS.items() if name in readers(key)})


def test_the_formulas_are_of_all_shapings():
    assert FORMULAS.keys() == SHAPINGS.keys()


@pytest.mark.parametrize("shaping", FORMULAS)
@pytest.mark.parametrize("ratio", [1e-12, 0.01, 0.3, 1.0, 4.0])
def test_value_and_gradient_weight(shaping, ratio):
    value, weight = (formula(ratio) for formula in FORMULAS[shaping])
    x = torch.tensor(math.log(ratio), dtype=torch.float64, requires_grad=True)
    shaped = made(shaping)(x)
    shaped.backward()
    assert shaped.item() == pytest.approx(value, rel=1e-12)
    assert x.grad.item() == pytest.approx(weight, rel=1e-12)


def test_p_div_p_weighs_tokens_of_probability_gamma_most():
    p = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    x = p.log().requires_grad_()
    PDivP(gamma=0.1)(x).sum().backward()
    assert p[x.grad.argmax()].item() == pytest.approx(0.1, abs=1e-3)
    assert x.grad.max().item() == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize("shaping", FORMULAS)
def test_gradcheck(shaping):
    x = torch.tensor([-5.0, -0.5, 0.0, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(made(shaping), x)
    old = torch.tensor([-2.0, -0.1, -1.0, -3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: made(shaping).on_policy(x, old), x)


def test_on_policy_p_div_p_is_the_quotient_of_the_shaped_probabilities():
    p, p_old = 0.5, 0.2
    ratio = made("p_div_p").on_policy(torch.tensor([p / p_old]).double().log(), torch.tensor([p_old], dtype=torch.float64).log())
    assert ratio.item() == pytest.approx((0.5 / 0.8) / (0.2 / 0.5), rel=1e-12)


@pytest.mark.parametrize(("shaping", "at_one"), [("identity", 1), ("log", 0), ("sqrt", 1), ("pow", 1), ("p_div_p", 1)])
def test_on_policy_value_where_the_policies_agree(shaping, at_one):
    old = torch.tensor([-0.1, -4.0], dtype=torch.float64)
    assert made(shaping).on_policy(torch.zeros(2, dtype=torch.float64), old).tolist() == [at_one, at_one]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("pow", "x is 'pow'; a shaping has a name and parameters: set x.name=pow"),
        (3, "x is 3; it must be a mapping of name and parameters"),
        ({"name": "p_div_p_0.1"}, "x.name is 'p_div_p_0.1'; it must be one of identity, log, p_plus_log, sqrt, pow, p_div_p"),
        ({"name": "p_div_p", "gama": 0.1}, "unknown key x.gama; did you mean x.gamma?"),
        ({"name": "p_div_p", "gamma": 0.0}, "x.gamma is 0.0; it must be a number above 0"),
        ({"name": "p_div_p", "gamma": "0.1"}, "x.gamma is '0.1'; it must be a number above 0"),
        ({"name": "log", "weight": float("nan")}, "x.weight is nan; it must be a finite number"),
        (
            {"name": "identity", "gamma": 0.3},
            "x.gamma is 0.3, but shaping identity does not read it; set x.name to p_div_p, or gamma to null",
        ),
        (
            {"name": "sqrt", "weight": 1.0},
            "x.weight is 1.0, but shaping sqrt does not read it; set x.name to log or p_plus_log, or weight to null",
        ),
    ],
)
def test_mistakes_are_named(node, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_shaping(node, "x")


def test_a_shaping_is_read_with_its_own_parameters():
    left_by_another = {"name": "pow", "gamma": 0.1, "weight": None, "exponent": 0.25}
    assert read_shaping(left_by_another, "x") == made("pow")
    assert read_shaping({"name": "p_div_p", "gamma": None}, "x") == PDivP(gamma=0.1)


def test_a_new_shaping_is_one_class(monkeypatch):
    monkeypatch.setattr("luffy.objective.shaping.SHAPINGS", dict(SHAPINGS))

    @shaping("constant_then_ratio")
    class Floor(Shaping):
        """max(r, floor)."""

        floor: float = 0.2

        def __call__(self, log_ratio):
            return log_ratio.exp().clamp(min=self.floor)

    config = LuffyConfig.from_mapping({"objective": {"shaping": {"name": "constant_then_ratio", "floor": 0.5}}})
    assert config.objective.shaping(torch.tensor([0.25, 2.0]).log()).tolist() == pytest.approx([0.5, 2.0])
    assert luffy_node()["objective"]["shaping"] == {"name": "p_div_p", "weight": None, "exponent": None, "gamma": 0.1, "floor": None}
    with pytest.raises(AssertionError, match="gamma has another default"):
        shaping("other")(type("Other", (Shaping,), {"__annotations__": {"gamma": float}, "gamma": 0.5, "__call__": Floor.__call__}))
