"""What users pass by habit or by mistake: arrays of every kind, empty batches, things of the wrong type."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cosim
from cosim.errors import CosimWarning, SpecError
from cosim.nn.layers import Linear
from tolerances import LAYER_FLOAT32, LINEAR_EXACT

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
WIRES = cosim.Wires(row=2.0, column=3.0)
CELLS = 1e-6 + 9e-5 * torch.rand(4, 3, generator=torch.Generator().manual_seed(40), dtype=torch.float64)
VOLTAGES = 0.1 * torch.rand(5, 4, generator=torch.Generator().manual_seed(41), dtype=torch.float64)
ENGINES = ("ideal", "linear", "newton", "ngspice")


def tile(cells: Any = CELLS) -> cosim.Tile:
    return cosim.Tile(DEVICE, conductance=cells, wires=WIRES)


FORMS: dict[str, Any] = {
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "Fortran order": lambda x: np.asfortranarray(x.numpy()),
    "reversed view": lambda x: x.numpy()[::-1].copy()[::-1],
    "read only": lambda x: np.broadcast_to(x.numpy(), x.shape),
    "not contiguous": lambda x: x.T.contiguous().T,
    "Parameter": nn.Parameter,
    "sign beside the numbers": lambda x: torch.imag(torch.complex(x, -x).conj()),
    "other order of bytes": lambda x: x.numpy().astype(">f8"),
    "long double": lambda x: x.numpy().astype(np.longdouble),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_of_every_kind_mean_the_same(form: str, engine: str):
    wanted = cosim.solve(tile(), VOLTAGES, engine=engine).currents
    make = FORMS[form]
    found = cosim.solve(tile(make(CELLS)), make(VOLTAGES), engine=engine).currents.detach()
    torch.testing.assert_close(found, wanted, rtol=LINEAR_EXACT, atol=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_whole_numbers_are_volts(dtype: torch.dtype):
    ones = torch.ones(1, 4, dtype=dtype)
    assert torch.equal(cosim.solve(tile(), ones).currents, cosim.solve(tile(), ones.double()).currents)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_batch_has_no_currents(engine: str):
    found = cosim.solve(tile(), VOLTAGES[:0], engine=engine)
    assert found.currents.shape == (0, 3)
    assert found.status.shape == (0,)
    for model, shape in ((nn.Linear(4, 3), (4,)), (nn.Conv2d(1, 2, 3), (1, 5, 5))):
        for adc in (None, cosim.ADC(bits=8)):
            empty = torch.zeros(0, *shape)
            converted = cosim.convert(model, device=DEVICE, engine=engine, adc=adc)
            assert converted(empty).shape == model(empty).shape
    assert cosim.matmul(torch.zeros(0, 4), CELLS.T.float(), device=DEVICE, engine=engine).shape == (0, 3)


def currents_of(engine: str) -> torch.Tensor:
    torch.set_num_threads(1)
    return cosim.solve(tile(), VOLTAGES, engine=engine).currents


@pytest.mark.parametrize("engine", ENGINES)
def test_tiles_and_solutions_can_be_sent_and_copied(engine: str):
    solution = cosim.solve(tile(), VOLTAGES, engine=engine)
    for send in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        assert torch.equal(send(solution).currents, solution.currents)
        assert set(send(solution).stats) == set(solution.stats)
        again = cosim.solve(send(tile()), VOLTAGES, engine=engine)
        torch.testing.assert_close(again.currents, solution.currents, rtol=LINEAR_EXACT, atol=0)


def test_other_processes_solve_too():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(currents_of, ["newton"])
    torch.testing.assert_close(found, currents_of("newton"), rtol=LINEAR_EXACT, atol=0)


def test_a_layer_with_a_forward_of_its_own_stays_digital():
    """As adapters (LoRA and the like) patch it in; the weight alone would be another layer."""
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)), torch.rand(2, 4)
    plain = model[0].forward
    model[0].forward = lambda input: 2 * plain(input)  # torch names it so
    with pytest.warns(CosimWarning, match="0.weight .has a forward of its own"):
        converted = cosim.convert(model, device=DEVICE)
    assert [layer.reason for layer in converted.report.layers] == [
        "has a forward of its own, which a crossbar layer would lose",
        "",
    ]
    torch.testing.assert_close(converted(x), model(x), rtol=LAYER_FLOAT32, atol=LAYER_FLOAT32)


def test_one_type_of_layer_needs_no_list():
    assert isinstance(cosim.convert(nn.Linear(4, 3), device=DEVICE, layers=nn.Linear).model, Linear)


NAN = torch.full((8, 4), float("nan"))


def converted() -> Any:
    options = {"dac": cosim.DAC(bits=8), "adc": cosim.ADC(bits=8)}
    return cosim.convert(nn.Linear(4, 3), device=DEVICE, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cosim.Tile("vteam", conductance=CELLS), r"device is 'vteam': give cosim.Device\('vteam'\)"),
        (lambda: cosim.convert(nn.Linear(4, 3), device="vteam"), "device is 'vteam': give cosim.Device"),
        (
            lambda: cosim.Tile(DEVICE, conductance=CELLS, wires=2.0),
            r"wires is 2.0: give cosim.Wires\(row=, col",
        ),
        (lambda: tile(CELLS.to_sparse()), "conductance is sparse or has no data"),
        (lambda: tile(CELLS.to("meta")), "conductance is sparse or has no data"),
        (lambda: tile(CELLS.to(torch.complex128)), "conductance is complex: give real numbers"),
        (lambda: tile([CELLS[0].clone().requires_grad_()]), "conductance is not an array of numbers"),
        (lambda: cosim.solve(tile(), 0.1 * NAN), r"voltages\[0, 0\] is nan: every entry must be finite"),
        (
            lambda: cosim.compare(tile(), VOLTAGES[:0]),
            r"voltages of shape \(0, 4\) hold no vector to compare",
        ),
        (
            lambda: cosim.calibrate(tile(), samples=8.0),
            "samples is 8.0: it must be a whole number, at least 1",
        ),
        (
            lambda: cosim.convert(nn.Linear(4, 3), device=DEVICE, tile_shape=16),
            r"tile_shape is 16: it must be \(rows, columns\), whole numbers of 1 or more",
        ),
        (lambda: converted().calibrate(NAN), r"inputs\[0, 0\] is nan: every entry must be finite"),
        (lambda: converted().tune(NAN), r"inputs\[0, 0\] is nan: every entry must be finite"),
    ],
)
def test_mistakes_are_named(call: Any, message: str):
    with pytest.raises(SpecError, match=message):
        call()
