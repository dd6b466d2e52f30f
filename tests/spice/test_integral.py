"""idt keeps its initial value: at an operating point, and at the start of a transient, in both engines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cosim import Device
from tolerances import TRANSIENT

VA = Path(__file__).parents[1] / "data" / "va" / "integral.va"


def test_operating_point_is_at_the_initial_value() -> None:
    assert float(Device(VA, x0=0.5).current(0.2)) == pytest.approx(1e-3 * 1.5 * 0.2, rel=1e-14)


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
def test_transient_starts_at_the_initial_value(engine: str) -> None:
    """x(t) = x0 + k * flux, in closed form for a cosine drive that is not 0 at time 0."""
    device, dt, omega = Device(VA, x0=0.5), 1e-8, 2 * math.pi * 1e6
    time = dt * torch.arange(101, dtype=torch.float64)
    volts = 0.7 * torch.cos(omega * time)
    x = 0.5 + 1e6 * 0.7 * torch.sin(omega * time) / omega
    expected = 1e-3 * (1 + x) * volts
    found = device.simulate(volts, dt, engine=engine).current
    assert float((found - expected).abs().max() / expected.abs().max()) < TRANSIENT
