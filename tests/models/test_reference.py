"""The oracle itself, against the numbers published for these models and against other ways to get them."""

from __future__ import annotations

import numpy as np
import pytest

from models.reference import (
    DataDriven,
    DataDriven2021,
    LinearIonDrift,
    StanfordPku,
    Vteam,
    trajectory,
    vteam_sine,
    window,
)
from tolerances import MODEL_CURRENT, MODEL_ODE, SIX_DECIMALS, SIX_DIGITS, TWO_DECIMALS


def test_vteam_rate_and_sine():
    model = Vteam()
    assert float(model.rate(0.1, 0.5)) == pytest.approx(5e-4 * 4 / 3e-9, rel=MODEL_CURRENT)
    assert vteam_sine(model, 1.0, 50e6, 0.3, 48e-9) == pytest.approx(0.046658, abs=SIX_DECIMALS)
    assert vteam_sine(model, 1.0, 50e6, 0.5, 10e-9) == pytest.approx(0.551396, abs=SIX_DECIMALS)


def test_vteam_sine_is_the_integral_of_the_rate():
    model = Vteam()
    path = trajectory(model, lambda t: np.sin(2 * np.pi * 50e6 * t), 0.3, np.array([0.0, 5e-9]))
    assert vteam_sine(model, 1.0, 50e6, 0.3, 5e-9) == pytest.approx(path[-1], rel=MODEL_ODE)


@pytest.mark.parametrize(
    ("v", "r0", "expected"),
    [
        (0.6, 11e3, (11062.60, 11546.83, 13698.39, 16403.83)),
        (0.7, 11e3, (11119.35, 11942.71, 14600.35, 16666.82)),
        (0.8, 11e3, (11223.52, 12518.97, 15460.28, 16717.14)),
        (-0.6, 16e3, (15997.30, 15973.58, 15781.26, 15202.47)),
        (-0.7, 16e3, (15926.71, 15457.08, 14109.46, 12844.85)),
        (-0.8, 16e3, (15151.86, 13539.09, 11701.19, 10441.50)),
    ],
)
def test_data_driven_pulses(v: float, r0: float, expected: tuple[float, ...]):
    model = DataDriven()
    times = 100e-6 * np.array([1, 10, 100, 1000])
    assert [model.pulse(v, r0, t) for t in times] == pytest.approx(expected, abs=TWO_DECIMALS)
    path = trajectory(model, lambda t: v, r0, np.append(0.0, times), scale=1e4)
    assert path[1:] == pytest.approx([model.pulse(v, r0, t) for t in times], rel=MODEL_ODE)


@pytest.mark.parametrize(("v", "r0"), [(1.0, 2600.0), (0.5, 2900.0), (-1.0, 1700.0), (-0.9, 1800.0)])
def test_data_driven_2021_closed_form_solves_the_rate(v: float, r0: float):
    model = DataDriven2021()
    times = np.array([0.0, 1e-7, 1e-6, 1e-5, 1e-4])
    path = trajectory(model, lambda t: v, r0, times, scale=1e3)
    assert path == pytest.approx([model.pulse(v, r0, t) for t in times], rel=MODEL_ODE)
    assert (path[-1] - r0) * v < 0, "v > 0 lowers the resistance in the default fit"


def test_stanford_current_and_thresholds():
    model = StanfordPku()
    small, large = 0.2e-9, 1.7e-9
    currents = [float(model.current(v, g)) for v in (0.1, 1.0, 2.0) for g in (small, large)]
    expected = [1.845629e-4, 4.574857e-7, 1.226215e-2, 3.039483e-5, 0.669715, 1.660058e-3]
    assert currents == pytest.approx(expected, rel=SIX_DIGITS)
    thresholds = [model.threshold(small), model.threshold(large)]
    assert thresholds == pytest.approx([1.050420, 1.391927], rel=SIX_DIGITS)


@pytest.mark.parametrize(
    ("v", "gap_nm", "current"),
    [
        (1.1, 0.968729, 8.45172e-4),
        (1.2, 1.357209, 2.66588e-4),
        (1.3, 1.566783, 1.71992e-4),
        (1.39, 1.697584, 1.46095e-4),
    ],
)
def test_stanford_sliding_reset(v: float, gap_nm: float, current: float):
    model = StanfordPku()
    gap = model.sliding_gap(v)
    assert gap == pytest.approx(1e-9 * gap_nm, rel=SIX_DIGITS)
    assert -float(model.current(-v, gap)) == pytest.approx(current, rel=SIX_DIGITS)
    assert float(model.rate(-v, gap - 1e-13)) > 0 == float(model.rate(-v, gap + 1e-13))


def test_windows_of_the_papers():
    x = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert window("prodromakis", x, True) == pytest.approx([0, 0.1875, 0.25, 0.1875, 0])
    assert window("joglekar", x, True) == pytest.approx([0, 0.75, 1, 0.75, 0])
    assert window("biolek", x, True) == pytest.approx(1 - x**2)
    assert window("biolek", x, False) == pytest.approx(1 - (1 - x) ** 2)


def test_linear_ion_drift_without_window_is_the_charge_integral():
    """x grows with the charge: at constant v, the resistance falls as sqrt(R0^2 - 2 c v t)."""
    model = LinearIonDrift(window="none", v_pos=0.0)
    x0, v, times = 0.1, 2.0, np.array([0.0, 0.1, 0.3])
    slope = (model.r_off - model.r_on) * model.u_v * model.r_on / model.d**2
    r0 = model.r_off + (model.r_on - model.r_off) * x0
    expected = (model.r_off - np.sqrt(r0**2 - 2 * slope * v * times)) / (model.r_off - model.r_on)
    assert trajectory(model, lambda t: v, x0, times) == pytest.approx(expected, rel=MODEL_ODE)


def test_polarity_in_the_rate():
    assert float(Vteam().rate(0.5, 0.5)) > 0 > float(Vteam().rate(-0.5, 0.5))  # x = 1 is OFF
    assert float(DataDriven().rate(0.7, 12e3)) > 0 > float(DataDriven().rate(-0.7, 15e3))
    assert float(DataDriven2021().rate(0.9, 2500.0)) < 0 < float(DataDriven2021().rate(-0.9, 1700.0))
    assert float(StanfordPku().rate(1.3, 0.9e-9)) < 0 < float(StanfordPku().rate(-1.3, 0.9e-9))
    assert float(LinearIonDrift().rate(1.0, 0.5)) > 0 > float(LinearIonDrift().rate(-1.0, 0.5))  # x = 1 is ON
