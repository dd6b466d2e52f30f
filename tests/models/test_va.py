"""The bundled .va files against the oracle, as OpenVAF-Reloaded compiles them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from cosim.devices.catalogue import CATALOGUE
from models.evaluation import C_STATE, Point, VaModel, declarations
from models.reference import DataDriven, DataDriven2021, LinearIonDrift, Model, StanfordPku, Vteam
from tolerances import FIELD_STEP_DIFFERENCE, MODEL_CURRENT, MODEL_DIFFERENCE, MODEL_RATE

WINDOWS = ("none", "joglekar", "biolek", "prodromakis", "kvatinsky")
MODELS = sorted(CATALOGUE)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A parameter set of one .va file, and the oracle with the same physics."""

    name: str
    oracle: Model
    given: dict[str, float]
    low: float
    high: float
    scale: float = 1.0  # state per volt on node y
    init: str = "x_init"
    skip: Callable[[float, float], bool] = lambda v, state: False  # inside a smooth step: no oracle

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value:g}" for key, value in self.given.items())])

    def point(self, v: float, state: float, *, start: float | None = None, **given: float) -> Point:
        """The file at this state, reached from ``start`` by a voltage on node y."""
        start = state if start is None else start
        y = (state - start) / self.scale
        return compiled(self.name).at(v, y, **{self.init: start, **self.given, **given})


@cache
def compiled(name: str) -> VaModel:
    return VaModel(CATALOGUE[name].path)


def vteam_cases() -> list[Case]:
    cases = [
        Case(name="vteam", oracle=Vteam(iv=iv), given={"iv": code}, low=0, high=1)
        for code, iv in enumerate(("linear", "exponential"))
    ]
    for code, window in enumerate(WINDOWS):
        given = {"window_p": 2, "window_j": 1.3, "alpha_off": 2.5, "x_on": 1e-9, "x_off": 4e-9}
        oracle = Vteam(window=window, p=2, j=1.3, alpha_off=2.5, x_on=1e-9, x_off=4e-9, a_on=1e-9, a_off=4e-9)
        cases.append(Case(name="vteam", oracle=oracle, given={"window": code, **given}, low=0, high=1))
    return cases


def drift_cases() -> list[Case]:
    return [
        Case(
            name="linear_ion_drift",
            oracle=LinearIonDrift(window=window, p=3, j=1.3),
            given={"window": code, "window_p": 3, "window_j": 1.3},
            low=0,
            high=1,
            skip=lambda v, state: 0 < abs(v) - 0.55 < 1e-3,
        )
        for code, window in enumerate(WINDOWS[:4])
    ]


def data_cases() -> list[Case]:
    curved = {"r_p1": -300, "r_p2": 50, "r_n2": 70, "a_n": 0.3, "b_n": 2.0}
    inverse = {"eta": -1, "rate_p": -700, "rate_n": 60e3, "r_p0": 3000}
    limits = {"name": "data_driven", "low": 1280.0, "high": 17e3, "scale": 1e4, "init": "r_init"}
    limits_2021 = {"name": "data_driven_2021", "low": 1600.0, "high": 3000.0, "scale": 1e3, "init": "r_init"}
    oracles = {
        "curved": DataDriven(r_p=(16719, -300, 50), r_n=(29304.82557, 23692.77225, 70), a_n=0.3, b_n=2.0),
        "inverse": DataDriven(eta=-1, rate_p=-700, rate_n=60e3, r_p=(3000, 0)),
        "forward": DataDriven2021(eta=1, t_p=0.2, t_n=0.3, rate_p=1e-3, rate_n=-1e-3, r_n=(1500, 10.0)),
    }
    forward = {"eta": 1, "t_p": 0.2, "t_n": 0.3, "rate_p": 1e-3, "rate_n": -1e-3, "r_n0": 1500, "r_n1": 10}
    return [
        Case(oracle=DataDriven(), given={}, **limits),
        Case(oracle=oracles["curved"], given=curved, **limits),
        Case(oracle=oracles["inverse"], given=inverse, **limits),
        Case(oracle=DataDriven2021(), given={}, **limits_2021),
        Case(oracle=oracles["forward"], given=forward, **limits_2021),
    ]


def inside_step(v: float, gap: float) -> bool:
    ratio = abs(v) / StanfordPku().threshold(gap)
    return 1 < ratio < 1.001


def stanford_cases() -> list[Case]:
    limits = {"name": "stanford_pku", "low": 0.2e-9, "high": 1.7e-9, "scale": 1e-9, "init": "gap_init"}
    return [
        Case(oracle=StanfordPku(), given={}, skip=inside_step, **limits),
        Case(oracle=StanfordPku(r_th=0.0, beta=0.0), given={"r_th": 0, "beta": 0}, **limits),
    ]


CASES = [*vteam_cases(), *drift_cases(), *data_cases(), *stanford_cases()]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_model = pytest.mark.parametrize("name", MODELS)
VOLTAGES = np.concatenate([np.linspace(-2, 2, 21), [-1e-3, 1e-9, 0.021, 0.019, -0.199, -0.201, 0.56, -0.56]])


def states(case: Case, count: int, margin: float) -> np.ndarray:
    span = case.high - case.low
    return np.linspace(case.low + margin * span, case.high - margin * span, count)


@each_case
def test_current_equals_the_equation(case: Case):
    for state in states(case, 7, 0.0):
        for v in VOLTAGES:
            expected = float(case.oracle.current(v, state))
            for start in (state, case.low, case.high):
                point = case.point(v, state, start=start)
                assert point.current == pytest.approx(expected, rel=MODEL_CURRENT, abs=0), (v, state, start)
                assert point.resist[1] == -point.resist[0]


@each_case
def test_rate_in_write_mode_equals_the_equation(case: Case):
    moved = 0
    for state in states(case, 7, 0.01):
        for v in VOLTAGES:
            if case.skip(v, state):
                continue
            expected = float(case.oracle.rate(v, state))
            point = case.point(v, state, start=case.low, write=1)
            assert point.node_rate * case.scale == pytest.approx(expected, rel=MODEL_RATE, abs=0), (v, state)
            charge = C_STATE * (1 + (state - case.low) / case.scale)
            assert point.react[2] == pytest.approx(charge, rel=MODEL_RATE)
            moved += expected != 0
    assert moved > 20


@each_model
def test_state_is_held_outside_a_writing_transient(name: str):
    """In read mode and in the operating point, node y is a conductance to ground, whatever v is."""
    for given in ({"write": 0}, {"write": 1, "time": 0.0}):
        for v in (-1.5, 0.0, 1.5):
            point = compiled(name).at(v, 1e-3, **given)
            assert point.resist[2] == pytest.approx(1e-3 * 1e-3, rel=MODEL_CURRENT)
            assert point.jacobian[2] == pytest.approx([0.0, 0.0, 1e-3], abs=0)


def differences(case: Case, v: float, state: float) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobian's columns for v and y, exact and by central differences."""
    model, y, rows = compiled(case.name), (state - case.low) / case.scale, [0, 2]
    given = {case.init: case.low, "write": 1, **case.given}
    h = 1e-6
    dv = (model.at(v + h, y, **given).resist - model.at(v - h, y, **given).resist) / (2 * h)
    dy = (model.at(v, y + h, **given).resist - model.at(v, y - h, **given).resist) / (2 * h)
    return model.at(v, y, **given).jacobian[np.ix_(rows, [0, 2])], np.stack([dv[rows], dy[rows]], axis=1)


@each_case
def test_jacobian_equals_finite_differences(case: Case):
    for state in states(case, 5, 0.013):
        for v in (-1.51, -0.87, -0.31, -0.1, 0.013, 0.11, 0.43, 0.83, 1.52):
            exact, approximate = differences(case, v, state)
            scale = np.abs(approximate).max(axis=1, keepdims=True) + 1e-30
            assert np.abs((exact - approximate) / scale).max() < MODEL_DIFFERENCE, (v, state)


@pytest.mark.parametrize(("v", "gap"), [(-1.1002, 0.9687e-9), (1.3005, 1.5667e-9), (-1.3902, 1.6975e-9)])
def test_jacobian_inside_the_field_step(v: float, gap: float):
    assert inside_step(v, gap)
    model, y, h = compiled("stanford_pku"), (gap - 0.2e-9) / 1e-9, 1e-8
    dv = (model.at(v + h, y, write=1).resist - model.at(v - h, y, write=1).resist) / (2 * h)
    dy = (model.at(v, y + h, write=1).resist - model.at(v, y - h, write=1).resist) / (2 * h)
    exact = model.at(v, y, write=1).jacobian
    assert exact[2, [0, 2]] == pytest.approx([dv[2], dy[2]], rel=FIELD_STEP_DIFFERENCE)


STEEP = [
    ("vteam", {"window": 4, "w_c": 1e-12, "a_off": 1e-9, "a_on": 2e-9, "alpha_on": 20, "alpha_off": 20}),
    ("data_driven", {"b_p": 100, "b_n": 100, "t_p": 100, "t_n": 100, "k_p": 1, "k_n": 1}),
    ("data_driven_2021", {"b_p": 100, "b_n": 100, "t_p": 0.01, "t_n": 0.01, "eta": 1}),
    ("data_driven_2021", {"t_p": -0.01, "t_n": -0.01}),
    ("stanford_pku", {"v0": 0.02, "f_width": 1e-6}),
    ("stanford_pku", {"r_th": 0, "t0": 50, "model_switch": 1, "noise": 3, "t_smth": 1}),
    ("linear_ion_drift", {"window": 2, "window_p": 100, "v_smooth": 1e-9, "v_pos": 0, "v_neg": 0}),
]


@pytest.mark.parametrize(
    ("name", "given"), [*((case.name, case.given) for case in CASES), *STEEP], ids=lambda value: str(value)
)
def test_everything_is_finite_far_outside(name: str, given: dict[str, float]):
    model, entry = compiled(name), CATALOGUE[name]
    parameters = model.parameters()
    assert entry.state_range is not None
    low, high, scale = (
        parameters[value] if isinstance(value, str) else value
        for value in (*entry.state_range, entry.state_scale)
    )
    for share in (-5.0, -1.0, -1e-4, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1.0 + 1e-4, 2.0, 6.0):
        for start in (low, high):
            y = (low + share * (high - low) - start) / scale
            for v in (-20.0, -5.0, -0.55, -0.2, -1e-300, 0.0, 1e-300, 0.02, 0.55, 5.0, 20.0):
                point = model.at(v, y, **{entry.state_parameter: start, "write": 1, **given})
                assert np.isfinite(point.resist).all(), (v, share)
                assert np.isfinite(point.jacobian).all(), (v, share)
                assert point.jacobian[0, 0] > 0, (v, share)


@each_case
def test_state_outside_its_limits_is_pulled_back(case: Case):
    span = case.high - case.low
    for v in VOLTAGES:
        for excess in (2e-4, 0.01, 1.0):
            assert case.point(v, case.low - excess * span, start=case.low, write=1).node_rate > 0
            assert case.point(v, case.high + excess * span, start=case.low, write=1).node_rate < 0


@each_case
def test_current_stays_at_its_value_on_the_limit_outside(case: Case):
    for bound, outside in ((case.low, case.low - 0.3), (case.high, case.high + 0.3)):
        y_outside = bound + (outside - bound) * case.scale
        point = case.point(0.1, y_outside, start=case.low)
        assert point.current == pytest.approx(float(case.oracle.current(0.1, bound)), rel=MODEL_CURRENT)
        assert point.jacobian[0, 2] == 0.0


def test_cycle_to_cycle_term_needs_the_switch_and_a_moving_gap():
    model = compiled("stanford_pku")
    calm = model.at(1.3, gap_init=0.9e-9, write=1).node_rate
    assert model.at(1.3, gap_init=0.9e-9, write=1, noise=1.0).node_rate == calm
    noisy = model.at(1.3, gap_init=0.9e-9, write=1, noise=1.0, model_switch=1).node_rate
    heat = 298 + 2100 * 1.3 * float(StanfordPku().current(1.3, 0.9e-9))
    assert noisy - calm == pytest.approx(1e9 * 0.02 / (1 + np.exp((450 - heat) / 500)), rel=MODEL_RATE)
    assert model.at(0.5, gap_init=0.9e-9, write=1, noise=1.0, model_switch=1).node_rate == 0.0


@each_model
def test_every_parameter_has_a_range_a_unit_and_a_description(name: str):
    source = CATALOGUE[name].path.read_text()
    found = declarations(source)
    assert len(found) == len(re.findall(r"^ *parameter ", source, flags=re.MULTILINE))
    for declaration in found:
        assert declaration.range.startswith("from "), declaration.name
        assert declaration.attributes.get("units"), declaration.name
        assert len(declaration.attributes.get("desc", "")) > 8, declaration.name
    names = [declaration.name.lower() for declaration in found]
    assert len(set(names)) == len(names), "SPICE does not tell upper from lower case"
    instance = {d.name for d in found if d.attributes.get("type") == "instance"}
    assert {CATALOGUE[name].state_parameter, "write"} <= instance


@each_model
def test_rules_of_the_source(name: str):
    code = re.sub(r"//.*", "", CATALOGUE[name].path.read_text())
    assert not re.findall(r"\bsqrt\b|\banalysis\b|\bidt\b|@|\$rdist|\$random", code)
    assert code.count("ddt(") == 1
    assert "I(y) <+ ddt(`C_STATE*(1.0 + V(y)));" in code
    # ADMS, by which Xyce takes models, reads no function whose body is not a block
    bodies = re.findall(r"analog function .*?\n( *)endfunction", code, re.DOTALL)
    assert len(bodies) == len(re.findall(r"\bend\s+endfunction", code))
