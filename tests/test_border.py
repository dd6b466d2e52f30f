"""Every public callable, every argument, wrong values: an error of our tree, or a result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Normal, Uniform

import cosim
from cosim.errors import CosimError
from cosim.nn import effects, mapping
from cosim.nn.hardware import Hardware
from cosim.nn.registry import register
from wrong_values import NUMBERS, THINGS

WRONG = {**THINGS, **NUMBERS}
FEW = ("None", "text", "object", "nested tensor", "nan", "-1", "2**63")

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
CELLS = torch.full((3, 2), 1e-5, dtype=torch.float64)
TILE = cosim.Tile(DEVICE, conductance=CELLS, wires=cosim.Wires(row=1.0, column=1.0))
VOLTS = torch.full((2, 3), 0.1, dtype=torch.float64)
SPREAD = cosim.Device("vteam", r_on=Uniform(40.0, 60.0))
WAVE = [0.0, 0.1, 0.2]
RESISTOR = """
`include "disciplines.vams"
module cell_r(p, n);
  inout p, n;
  electrical p, n;
  (* type="instance" *) parameter real g = 1e-4 from (0:1];
  analog I(p, n) <+ g * V(p, n);
endmodule
"""


def converted() -> Any:
    return cosim.convert(nn.Linear(3, 2), device=DEVICE, adc=cosim.ADC(bits=8))


def make_device(model: Any, **options: Any) -> Any:
    """``cosim.Device`` with its model by name: there it has none, so that a parameter may be called so."""
    return cosim.Device(model, **options)


def ladder() -> Any:
    return cosim.compare(TILE, VOLTS, engines=("ideal",), reference="linear")


def calibration() -> Any:
    return cosim.calibrate(TILE, fast="ideal", reference="linear", samples=8)


def case(function: Callable[..., Any], **good: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    return function, good


def wires(out: Path) -> Any:
    ends = dict.fromkeys(("source", "sense", "source_far", "sense_far"), 1.0)
    return case(cosim.Wires, row=1.0, column=1.0, **ends)


# what to call -> it, with arguments that work; made anew for each call, because some change something
CASES: dict[str, Callable[[Path], tuple[Callable[..., Any], dict[str, Any]]]] = {
    "Wires": wires,
    "Device": lambda out: case(make_device, model="vteam", r_on=100.0),
    "Device of a file": lambda out: case(
        make_device,
        model=resistor(out),
        state="g",
        state_range=(1e-6, 1e-3),
        state_node=None,
        write=None,
        state_scale=1.0,
        set_polarity=1,
    ),
    "Device.current": lambda out: case(DEVICE.current, voltage=0.1, state=0.5),
    "Device.conductance": lambda out: case(DEVICE.conductance, state=0.5, v_read=0.1),
    "Device.state_for": lambda out: case(DEVICE.state_for, conductance=1e-5, v_read=0.1),
    "Device.check_state": lambda out: case(DEVICE.check_state, state=0.5),
    "Device.replace": lambda out: case(DEVICE.replace, r_on=1e3),
    "Device.sample": lambda out: case(SPREAD.sample, shape=(2, 3), generator=torch.Generator()),
    "Device.simulate": lambda out: case(
        DEVICE.simulate,
        voltage=WAVE,
        dt=1e-9,
        state=0.5,
        engine="torch",
        rtol=1e-6,
        atol=1e-6,
        max_steps=1000,
    ),
    "Device.simulate of a drive": lambda out: case(
        DEVICE.simulate, voltage=WAVE, time=[0.0, 1e-9, 2e-9], state=0.5, series=1e3, compliance=1e-3
    ),
    "Device.simulate with ngspice": lambda out: case(
        DEVICE.simulate,
        voltage=WAVE,
        dt=1e-9,
        state=0.5,
        engine="ngspice",
        reltol=1e-6,
        max_step=None,
        timeout=60.0,
        executor=None,
        program="ngspice",
    ),
    "Tile": lambda out: case(cosim.Tile, device=DEVICE, conductance=CELLS, wires=cosim.Wires(), v_read=0.1),
    "Tile by state": lambda out: case(cosim.Tile, device=DEVICE, state=[[0.5, 0.5]]),
    "Tile by shape": lambda out: case(cosim.Tile, device=cosim.Device(resistor(out)), shape=(3, 2)),
    "Tile.check_voltages": lambda out: case(TILE.check_voltages, voltages=VOLTS),
    "solve": lambda out: case(
        cosim.solve,
        tile=TILE,
        voltages=VOLTS,
        engine="newton",
        throw=True,
        tolerance=1e-9,
        max_iterations=50,
        memory=1 << 20,
        nodes=False,
    ),
    "solve ideal": lambda out: case(cosim.solve, tile=TILE, voltages=VOLTS, engine="ideal", throw=True),
    "solve linear": lambda out: case(
        cosim.solve, tile=TILE, voltages=VOLTS, engine="linear", throw=True, nodes=True
    ),
    "solve ngspice": lambda out: case(
        cosim.solve,
        tile=TILE,
        voltages=VOLTS,
        engine="ngspice",
        throw=False,
        timeout=60.0,
        executor=None,
        chunk=1,
        reltol=1e-9,
        abstol=1e-15,
        vntol=1e-10,
        max_iterations=100,
        progress=False,
        program="ngspice",
    ),
    "compare": lambda out: case(
        cosim.compare, tile=TILE, voltages=VOLTS, engines=("ideal",), reference="linear", throw=True
    ),
    "LadderReport": lambda out: case(ladder().__getitem__, engine="ideal"),
    "calibrate": lambda out: case(
        cosim.calibrate,
        tile=TILE,
        fast="ideal",
        reference="linear",
        samples=8,
        seed=0,
        per="tile",
        v_max=0.1,
        inputs=None,
        test_fraction=0.25,
    ),
    "Calibration": lambda out: case(calibration(), currents=CELLS[:2]),
    "Calibration.save": lambda out: case(calibration().save, path=out / "fit.json"),
    "Calibration.load": lambda out: case(type(calibration()).load, path=saved(out)),
    "write_netlist": lambda out: case(
        cosim.write_netlist, tile=TILE, folder=out / "tile", dialect="ngspice", voltages=VOLTS, name="bank"
    ),
    "DAC": lambda out: case(cosim.DAC, bits=8, v_max=0.1, full_scale=1.0, signed=True),
    "ADC": lambda out: case(
        cosim.ADC, bits=8, method="linear", per="tile", at="column", range=(0.0, 1e-3), overflow_rate=0.0
    ),
    "convert": lambda out: case(
        cosim.convert,
        model=nn.Linear(3, 2),
        layers=(nn.Linear,),
        include=None,
        exclude=(),
        seed=0,
        **vars(hardware()),
    ),
    "Hardware": lambda out: case(Hardware, **vars(hardware())),
    "matmul": lambda out: case(
        cosim.matmul, inputs=VOLTS, weight=CELLS.T, generator=torch.Generator(), device=DEVICE
    ),
    "validate": lambda out: case(
        cosim.validate,
        model=converted(),
        inputs=torch.rand(4, 3),
        reference="newton",
        samples=2,
        seed=0,
        end_to_end=0,
        confidence=0.9,
        workers=None,
        progress=False,
    ),
    "ConvertedModel.calibrate": lambda out: case(
        converted().calibrate, inputs=torch.rand(4, 3), samples=4, seed=0
    ),
    "ConvertedModel.tune": lambda out: case(
        converted().tune, inputs=torch.rand(9, 3), per="layer", samples=8, test_fraction=0.25, seed=0
    ),
    "ConvertedModel.use_engine": lambda out: case(converted().use_engine, engine="ideal"),
    "ConvertedModel.add_effects": lambda out: case(
        converted().add_effects, effects=(effects.ReadNoise(sigma=0.1),), seed=0
    ),
    "ConvertedModel.digital": lambda out: case(converted().digital, mode=True),
    "ConvertedModel.record": lambda out: case(
        converted().record, inputs=torch.rand(4, 3), samples=4, seed=0, digital=True
    ),
    "register": lambda out: case(register, kind=type("Own", (nn.Module,), {}), converter=print),
    "DoubleColumn": lambda out: case(mapping.DoubleColumn, p_l=0.1),
    "BitSlicing": lambda out: case(mapping.BitSlicing, bits=8, slice_bits=2, p_l=None),
    "DeviceFaults": lambda out: case(effects.DeviceFaults, lrs=0.1, hrs=0.1, electroform=0.1),
    "StuckLines": lambda out: case(effects.StuckLines, rows=0.1, columns=0.1, at="hrs"),
    "FiniteStates": lambda out: case(effects.FiniteStates, states=5),
    "DeviceVariability": lambda out: case(effects.DeviceVariability, parameters={"r_on": Normal(1e4, 1.0)}),
    "CycleVariability": lambda out: case(
        effects.CycleVariability, r_on=Normal(1e4, 1.0), r_off=Normal(1e6, 1.0)
    ),
    "ProgrammingNoise": lambda out: case(effects.ProgrammingNoise, sigma=0.1, of="target"),
    "ReadNoise": lambda out: case(effects.ReadNoise, sigma=0.1),
    "Endurance": lambda out: case(
        effects.Endurance,
        cycles=10.0,
        mode="gradual",
        p_lrs=(1.0, 0.1, 1.0, 0.1),
        p_hrs=None,
        stable_lrs=None,
        stable_hrs=None,
        cell_size=10.0,
        temperature=300.0,
        temperature_threshold=298.0,
    ),
    "Retention": lambda out: case(effects.Retention, seconds=10.0, p_lrs=(1.0, 0.1, 1.0, 0.1)),
    "Drift": lambda out: case(effects.Drift, seconds=10.0, nu=0.1, initial=1.0, spread=0.0),
}


def hardware() -> Hardware:
    return Hardware(
        device=DEVICE, tile_shape=(8, 8), wires=cosim.Wires(), dac=cosim.DAC(bits=8), adc=cosim.ADC(bits=8)
    )


def resistor(out: Path) -> str:
    path = out / "cell_r.va"
    path.write_text(RESISTOR)
    return str(path)


def saved(out: Path) -> str:
    calibration().save(out / "saved.json")
    return str(out / "saved.json")


def wrong_calls(name: str, kinds: Iterable[str], out: Path) -> Iterator[str]:
    """What came of each wrong value, where it was neither a result nor an error of our tree."""
    call, good = CASES[name](out)
    call(**good)
    for argument in good:
        for kind in kinds:
            call, arguments = CASES[name](out)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    call(**{**arguments, argument: WRONG[kind]})
            except CosimError as error:
                if not str(error):
                    yield f"{argument}={kind}: an error without a word"
            except Exception as error:  # noqa: BLE001  anything else is what this looks for
                yield f"{argument}={kind}: {type(error).__name__}: {error}"


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_value_is_an_error_that_names_it(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(wrong_calls(name, FEW, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_wrong_value_is_an_error_that_names_it(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(wrong_calls(name, tuple(WRONG), tmp_path)) == []
