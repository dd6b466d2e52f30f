"""Derivatives: exact beside every awkward point, finite at it, the same in interpreter, C and torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim.devices.build import build, compile_model
from cosim.devices.interp import evaluate, run_setup
from cosim.devices.print_c import print_c
from cosim.devices.print_torch import TorchModel
from devices.osdi_host import OsdiDevice
from tolerances import FINITE_DIFFERENCE, NGSPICE_NEWTON, PRINTERS, ROUNDING

# current at voltage v, the awkward voltage, and a slope there where it is known (None: any finite number)
FORMS: list[tuple[str, float, float | None]] = [
    ("v*exp(sqrt(abs(v)))", 0.0, 1.0),
    ("sqrt(abs(v))", 0.0, None),
    ("v*v/(1e-30 + sqrt(v*v))", 0.0, None),
    ("exp(2*ln(abs(v)))", 0.0, 0.0),
    ("exp(log(abs(v)))", 0.0, 0.0),
    ("1/(1 + 1/v)", 0.0, None),
    ("exp(-1/(v*v))", 0.0, 0.0),
    ("atan(1/v)", 0.0, None),
    ("asin(v)", 1.0, None),
    ("asin(v)", -1.0, None),
    ("acos(v)", 1.0, None),
    ("acos(v)", -1.0, None),
    ("(v - 1)*acosh(v)", 1.0, 0.0),
    ("1/atanh(v)", 1.0, None),
    ("1/atanh(v)", -1.0, None),
    ("pow(abs(v), 0.5)", 0.0, None),
    ("v*pow(abs(v), a)", 0.0, 0.0),
    ("pow(v, b)", 0.0, 1.0),
    ("pow(v, 2*b)", 0.0, 0.0),
    ("1/pow(abs(v), -2)", 0.0, None),
    ("pow(v, 1)", 0.0, 1.0),
    ("pow(v, 2)", 0.0, 0.0),
    ("v**3", 0.0, 0.0),
    ("pow(abs(v), 1 + v*v)", 0.0, None),
    ("pow(0.0*b, 1 + v)", 0.0, 0.0),
    ("v/sqrt(v*v + 1e-320)", 0.0, None),
    ("hypot(v, v)", 0.0, None),
    ("atan2(v, 0*v)", 0.0, None),
    ("1/cosh(v)", 800.0, 0.0),
    ("v % 0.7", 0.3, 1.0),
    ("0.7 % v", 0.3, -2.0),
    ("hypot(v, 0.4)", 0.3, 0.6),
    ("atan2(v, 2*v - 1)", 0.3, None),
]


def source() -> str:
    lines = " else ".join(f"if (form == {k}) i = {form};" for k, (form, _, _) in enumerate(FORMS))
    return (
        '`include "disciplines.vams"\nmodule awkward(p, n); inout p, n; electrical p, n;\n'
        "parameter integer form = 0; parameter real a = 0.3; parameter real b = 1.0; real v, i;\n"
        f"analog begin v = V(p, n); i = 0;\n{lines}\nI(p, n) <+ i; end\nendmodule\n"
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("va") / "awkward.va"
    path.write_text(source())
    return path


CASES = [pytest.param(k, id=f"{form} at {at}") for k, (form, at, _) in enumerate(FORMS)]


@pytest.mark.parametrize("form", CASES)
def test_derivatives_are_finite_where_values_are(model: Path, form: int) -> None:
    _, at, wanted = FORMS[form]
    ir = compile_model(model)
    setup = run_setup(ir, {"form": form})
    expected = evaluate(ir, setup, [at, 0.0], {"form": form})
    slope = expected.jacobian_resist[0, 0]
    assert math.isfinite(expected.resist[0])
    assert np.isfinite(expected.jacobian_resist).all()
    assert wanted is None or slope == pytest.approx(wanted, rel=PRINTERS, abs=PRINTERS)

    library = OsdiDevice(build(print_c(ir, ir.parameter_names), ir.name), {"form": form})
    found, _ = library.evaluate([at, 0.0])
    assert found.resist[0] == pytest.approx(expected.resist[0], rel=PRINTERS, abs=0)
    assert found.jacobian_resist == pytest.approx(expected.jacobian_resist, rel=PRINTERS, abs=0)

    volts = torch.tensor([at, 0.37], dtype=torch.float64, requires_grad=True)
    terms = TorchModel(ir, {"form": form}, grounded=["n"])([volts], {})
    current, slopes = (
        torch.as_tensor(value, dtype=torch.float64) + 0.0 * volts.detach()
        for value in (terms.resist[0], terms.jacobian_resist[0, 0])
    )
    assert float(current[0].detach()) == pytest.approx(expected.resist[0], rel=PRINTERS, abs=0)
    assert float(slopes[0].detach()) == pytest.approx(slope, rel=PRINTERS, abs=0)
    (gradient,) = torch.autograd.grad(current.sum() + 0.0 * volts.sum(), volts)
    assert bool(torch.isfinite(gradient[0]))
    assert wanted is None or float(gradient[0]) == pytest.approx(wanted, abs=1e-6)
    if math.isfinite(float(current[1].detach())):
        assert float(gradient[1]) == pytest.approx(float(slopes[1].detach()), rel=ROUNDING)


@pytest.mark.parametrize("form", CASES)
def test_derivatives_are_exact_beside_the_awkward_points(model: Path, form: int) -> None:
    at, step = FORMS[form][1], 1e-6
    ir = compile_model(model)
    setup = run_setup(ir, {"form": form})

    def current(v: float) -> float:
        return float(evaluate(ir, setup, [v, 0.0], {"form": form}).resist[0])

    for beside in (at - 0.07, at + 0.07):
        difference = (current(beside + step) - current(beside - step)) / (2 * step)
        if math.isfinite(difference):
            slope = evaluate(ir, setup, [beside, 0.0], {"form": form}).jacobian_resist[0, 0]
            assert slope == pytest.approx(difference, rel=FINITE_DIFFERENCE, abs=FINITE_DIFFERENCE)


@pytest.mark.parametrize("current", ["1e-4*v*exp(sqrt(abs(v)))", "1e-4*v*(2 + ln(1 + sqrt(v*v)))"])
def test_vectors_of_zeros_are_solved(tmp_path: Path, current: str) -> None:
    path = tmp_path / "steep.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule steep(p, n); inout p, n; electrical p, n; real v;\n'
        f"analog begin v = V(p, n); I(p, n) <+ {current}; end\nendmodule\n"
    )
    tile = cosim.Tile(cosim.Device(path), shape=(2, 3), wires=cosim.Wires(row=2.0, column=2.0))
    volts = torch.tensor([[0.0, 0.0], [0.0, 0.4], [0.3, 0.0]], dtype=torch.float64)
    newton, reference = (cosim.solve(tile, volts, engine=engine) for engine in ("newton", "ngspice"))
    assert newton.currents[0].tolist() == reference.currents[0].tolist() == [0.0] * 3
    error = (newton.currents - reference.currents).abs().amax()
    assert float(error) <= NGSPICE_NEWTON * float(reference.currents.abs().amax())
