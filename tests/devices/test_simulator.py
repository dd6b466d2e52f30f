"""Temperature and $simparam: the closed form in every engine, at several temperatures."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim.devices.interp import Conditions, evaluate, run_setup
from cosim.errors import SpecError
from devices.osdi_host import OsdiDevice
from tolerances import CLOSED_FORM, MILLIONTHS, NGSPICE_EXACT, ROUNDING

KELVIN = (250.0, 300.15, 400.0)
BOLTZMANN = 1.3806488e-23 / 1.602176565e-19  # V/K, of the header of LRM 2.4
I_S, ALPHA = 1e-9, 4e-3


def module(folder: Path, contribution: str) -> Path:
    path = folder / "probe.va"
    path.write_text(
        f"""`include "disciplines.vams"
        module probe(p, n);
            inout p, n; electrical p, n;
            parameter real scale = 1.0;
            analog I(p, n) <+ scale*({contribution});
        endmodule"""
    )
    return path


@pytest.fixture
def diode(tmp_path: Path) -> Path:
    """A diode whose saturation current follows the temperature."""
    return module(tmp_path, f"{I_S}*(1.0 + {ALPHA}*($temperature - 300.0))*(exp(V(p, n)/$vt) - 1.0)")


def closed_form(volts: float, kelvin: float) -> float:
    return I_S * (1 + ALPHA * (kelvin - 300.0)) * math.expm1(volts / (BOLTZMANN * kelvin))


@pytest.mark.parametrize("kelvin", KELVIN)
def test_temperature_in_every_engine(diode: Path, kelvin: float) -> None:
    device = cosim.Device(diode, temperature=kelvin)
    wanted = closed_form(0.1, kelvin)
    assert device.temperature == kelvin
    assert float(device.current(0.1)) == pytest.approx(wanted, rel=CLOSED_FORM)
    tiles = [
        cosim.Tile(device, shape=(1, 1)),
        cosim.Tile(cosim.Device(diode, temperature=333.0), shape=(1, 1), temperature=kelvin),
    ]
    for tile in tiles:
        assert tile.device.temperature == kelvin
        for engine in ("newton", "ngspice"):
            found = float(cosim.solve(tile, [[0.1]], engine=engine).currents)
            assert found == pytest.approx(wanted, rel=NGSPICE_EXACT), engine
        assert float(tile.conductance) == pytest.approx(wanted / 0.1, rel=CLOSED_FORM)
    for engine in ("torch", "ngspice"):
        trace = device.simulate([0.1, 0.1], 1e-9, engine=engine)
        assert trace.current.numpy() == pytest.approx([wanted] * 2, rel=MILLIONTHS), engine
    setup = run_setup(device.ir, {}, Conditions(temperature=kelvin))
    told = evaluate(device.ir, setup, [0.1, 0.0], {}, Conditions(temperature=kelvin))
    assert told.resist[0] == pytest.approx(wanted, rel=CLOSED_FORM)


def test_the_compiled_loop_of_newton_is_at_the_temperature(diode: Path) -> None:
    """Nine cells of some megohm: wires of an ohm take a millionth of the voltage."""
    for kelvin in KELVIN:
        device = cosim.Device(diode, temperature=kelvin)
        assert device.cell_loop is not None
        tile = cosim.Tile(device, shape=(3, 3), wires=cosim.Wires(row=1.0, column=1.0))
        found = cosim.solve(tile, [[0.01, 0.02, 0.03]], engine="newton").currents
        wanted = sum(closed_form(volts, kelvin) for volts in (0.01, 0.02, 0.03))
        np.testing.assert_allclose(found, np.full((1, 3), wanted), rtol=MILLIONTHS)


def test_replace_copies_and_says_the_temperature(diode: Path) -> None:
    device = cosim.Device(diode, temperature=400.0)
    assert device.replace(scale=2.0).temperature == 400.0
    assert device.replace(temperature=250.0).temperature == 250.0
    assert pickle.loads(pickle.dumps(device)).temperature == 400.0
    assert "temperature=400.0" in repr(device)
    assert device.digest != device.replace(temperature=250.0).digest
    cold = device.replace(temperature=250.0)
    assert float(cold.current(0.1)) == pytest.approx(closed_form(0.1, 250.0), rel=CLOSED_FORM)


@pytest.mark.parametrize("bad", [0.0, -3.0, math.inf, math.nan, "27", True])
def test_a_bad_temperature(diode: Path, bad: object) -> None:
    with pytest.raises(SpecError, match=r"temperature is .*: give K as one finite number above 0"):
        cosim.Device(diode, temperature=bad)  # type: ignore[arg-type]  # what a user may type


def test_a_temperature_that_the_model_would_ignore() -> None:
    text = r"temperature is 350.0 K: vteam reads neither \$temperature nor \$vt"
    with pytest.raises(SpecError, match=text):
        cosim.Device("vteam", temperature=350.0)
    with pytest.raises(SpecError, match=text):
        cosim.Tile(cosim.Device("vteam"), state=[[0.5]], temperature=350.0)
    assert cosim.Device("vteam", temperature=300.15).temperature == 300.15


# name in ngspice -> what every engine says; a name that nobody knows is the file's own default
TOLD = {"gmin": 1e-12, "tnom": 27.0, "gdev": 1e-12, "reltol": 1e-3, "vntol": 1e-6, "no_such_name": -7.0}


@pytest.mark.parametrize("name", TOLD)
def test_simulator_parameters_in_every_engine(tmp_path: Path, name: str) -> None:
    device = cosim.Device(module(tmp_path, f'$simparam("{name}", -7.0)*V(p, n)*V(p, n)'))
    wanted = TOLD[name]
    assert float(device.current(1.0)) == pytest.approx(wanted, rel=ROUNDING)
    tile = cosim.Tile(device, shape=(1, 1))
    for engine in ("newton", "ngspice"):
        found = float(cosim.solve(tile, [[1.0]], engine=engine).currents)
        assert found == pytest.approx(wanted, rel=NGSPICE_EXACT), engine
    for engine in ("torch", "ngspice"):
        trace = device.simulate([1.0, 1.0], 1e-9, engine=engine)
        assert trace.current.tolist() == pytest.approx([wanted] * 2, rel=MILLIONTHS), engine
    setup = run_setup(device.ir, {})
    assert evaluate(device.ir, setup, [1.0, 0.0], {}).resist[0] == pytest.approx(wanted, rel=ROUNDING)
    alone, _ = OsdiDevice(device.osdi(), {}).evaluate([1.0, 0.0])  # a host that tells nothing
    assert alone.resist[0] == pytest.approx(wanted, rel=ROUNDING)


def test_a_case_over_a_parameter(tmp_path: Path) -> None:
    """What setup computes in a branch not taken is read by nobody."""
    path = tmp_path / "cases.va"
    path.write_text(
        """`include "disciplines.vams"
        module cases(p, n);
            inout p, n; electrical p, n;
            parameter integer which = 0;
            real r;
            analog begin
                case (which)
                    0: r = 1e-3*$temperature/300.0;
                    1: r = 2e-3*$vt/0.025;
                    default: r = 3e-3*sqrt($temperature)/17.0;
                endcase
                I(p, n) <+ r*V(p, n);
            end
        endmodule"""
    )
    wanted = [1e-3 * 300.15 / 300.0, 2e-3 * BOLTZMANN * 300.15 / 0.025, 3e-3 * math.sqrt(300.15) / 17.0]
    found = [float(cosim.Device(path, which=k).current(1.0)) for k in range(3)]
    assert torch.tensor(found).tolist() == pytest.approx(wanted, rel=MILLIONTHS)
