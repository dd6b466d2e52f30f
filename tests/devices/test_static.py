"""Static solutions of models with internal feedback: of several roots, the one that ngspice finds from 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cosim import Device
from cosim.errors import ToolFailed
from cosim.spice.deck import GROUND, Current, Deck, DeviceInstance, ModelCard, Options, Sweep, VoltageSource
from cosim.spice.ngspice import run_deck
from tolerances import MILLIONTHS

FEEDBACK = {
    "cubic": "I(s) <+ V(p, n) - V(s)*V(s)*V(s) + V(s); I(p, n) <+ 1e-3*V(s);",
    "turned": "I(s) <+ V(s)*V(s)*V(s) - V(s) - V(p, n); I(p, n) <+ 1e-3*V(s) + 1e-4*V(p, n);",
    "latch": "I(s) <+ V(s) - tanh(3.0*V(s) + V(p, n)); I(p, n) <+ 1e-3*V(s) + 1e-4*V(p, n);",
    "exponential": "I(s) <+ V(s) - 0.3*exp(-5.0*V(s)) - 0.1*V(p, n)*exp(V(s)); I(p, n) <+ 1e-3*V(s);",
    "heat": "I(p, n) <+ 1e-3*V(p, n)*exp(V(s)/20.0); "
    "I(s) <+ V(s)/1e4 - V(p, n)*V(p, n)*1e-3*exp(V(s)/20.0)/(1 + exp((V(s) - 60)/5.0));",
}


def ngspice_current(device: Device, volt: float, homotopy: str) -> float:
    deck = Deck(
        title="operating point",
        libraries=("model.osdi",),
        models=(ModelCard(name="card", module=device.name),),
        elements=(
            VoltageSource(name="V1", p="p", n=GROUND, volt=volt),
            DeviceInstance(name="N1", nodes=("p", GROUND), model="card", parameters={}),
            VoltageSource(name="Vsweep", p="q", n=GROUND, volt=0.0),
        ),
        analyses=(Sweep(source="Vsweep", start=0.0, stop=1.0, step=1.0),),
        saves=(Current(source="V1"),),
        options=Options(homotopy=homotopy, reltol=1e-6, abstol=1e-12, vntol=1e-9),
    )
    (plot,) = run_deck(deck, {"model.osdi": device.osdi().read_bytes()})
    return -float(plot["i(v1)"][0])


@pytest.mark.parametrize("name", FEEDBACK)
def test_the_root_is_that_of_ngspice_from_0(tmp_path: Path, name: str) -> None:
    path = tmp_path / "feedback.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule feedback(p, n); inout p, n; electrical p, n, s;\n'
        f"analog begin {FEEDBACK[name]} end\nendmodule\n"
    )
    device, compared = Device(path), 0
    for volt in np.linspace(-1.25, 1.25, 6):
        found = float(device.current(volt))
        for homotopy in ("none", "source"):  # what ngspice tries, one after the other
            try:
                wanted = ngspice_current(device, float(volt), homotopy)
            except ToolFailed:
                continue
            assert found == pytest.approx(wanted, rel=MILLIONTHS, abs=1e-12), volt
            compared += 1
            break
    assert compared >= 5


def test_all_roots_of_a_cubic(tmp_path: Path) -> None:
    path = tmp_path / "cubic.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule cubic(p, n); inout p, n; electrical p, n, s;\n'
        f"analog begin {FEEDBACK['cubic']} end\nendmodule\n"
    )
    device, volts = Device(path), np.linspace(-1.1, 1.1, 23)
    found = device.current(volts, branches=True).numpy()
    assert found.shape == (3, 23)
    for volt, own in zip(volts, found.T, strict=True):
        roots = np.roots([1.0, 0.0, -1.0, -volt])
        real = 1e-3 * np.sort(roots[np.abs(roots.imag) < 1e-9].real)
        np.testing.assert_allclose(own[: len(real)], real, rtol=MILLIONTHS, atol=1e-12)
        assert np.isnan(own[len(real) :]).all()
