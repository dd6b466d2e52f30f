"""The state equation of each .va file, integrated by scipy, against closed forms and target numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from cosim.devices.catalogue import CATALOGUE
from models.evaluation import C_STATE, VaModel
from models.reference import DataDriven, DataDriven2021, StanfordPku, Vteam, vteam_sine
from tolerances import BOUND_WIDTH, MODEL_PATH


def end_of_path(
    name: str, voltage: Callable[[float], float], time: float, start: float, max_step: float = np.inf
) -> float:
    """V(y) at ``time``, from the state ``start``."""
    model = VaModel(CATALOGUE[name].path)
    given = {CATALOGUE[name].state_parameter: start, "write": 1.0}
    done = solve_ivp(
        lambda t, y: [model.at(voltage(t), y[0], **given).node_rate],
        (0.0, time),
        [0.0],
        method="Radau",
        jac=lambda t, y: [[-model.at(voltage(t), y[0], **given).jacobian[2, 2] / C_STATE]],
        rtol=1e-6,
        atol=1e-8,
        max_step=max_step,
    )
    assert done.success
    return float(done.y[0, -1])


def test_vteam_sine_leaves_its_bound_in_time():
    """The negative half periods press x against 0; without the restoring term it leaves 0 too late."""
    x = 0.3 + end_of_path("vteam", lambda t: np.sin(2 * np.pi * 50e6 * t), 48e-9, 0.3, max_step=2e-10)
    assert x == pytest.approx(vteam_sine(Vteam(), 1.0, 50e6, 0.3, 48e-9), rel=BOUND_WIDTH)


@pytest.mark.parametrize(("v", "r0"), [(0.8, 11e3), (0.6, 11e3), (-0.8, 16e3), (-0.6, 16e3)])
def test_data_driven_pulses(v: float, r0: float):
    r = r0 + 1e4 * end_of_path("data_driven", lambda t: v, 1e-2, r0)
    assert r == pytest.approx(DataDriven().pulse(v, r0, 1e-2), rel=MODEL_PATH)


@pytest.mark.parametrize(("v", "r0"), [(1.0, 2600.0), (-1.0, 1700.0)])
def test_data_driven_2021_pulses(v: float, r0: float):
    r = r0 + 1e3 * end_of_path("data_driven_2021", lambda t: v, 1e-5, r0)
    assert r == pytest.approx(DataDriven2021().pulse(v, r0, 1e-5), rel=MODEL_PATH)


@pytest.mark.parametrize("v", [1.1, 1.2, 1.3, 1.39])
def test_stanford_reset_ends_on_the_line_of_the_hard_threshold(v: float):
    model = StanfordPku()
    gap_nm = 0.2 + end_of_path("stanford_pku", lambda t: -v * min(1.0, 2e3 * t), 1e-3, 0.2e-9, max_step=2e-5)
    assert gap_nm == pytest.approx(1e9 * model.sliding_gap(v), rel=MODEL_PATH)
