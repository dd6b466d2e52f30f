"""The same results wherever the tensors lie: a GPU, or the stand-in that shows what would fail there."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import cosim
from cosim.nn.effects import DeviceFaults, Drift, FiniteStates, ProgrammingNoise, ReadNoise
from cosim.nn.mapping import BitSlicing, DoubleColumn, SingleColumn
from places.stand_in import ALONE, register
from tolerances import LAYER_FLOAT32, LINEAR_EXACT, NEWTON_EXACT

LINEAR = cosim.Device("vteam", r_on=1e4, r_off=1e6)
WIRES = cosim.Wires(row=2.0, column=2.0)


PLACES = [pytest.param("cuda", marks=pytest.mark.gpu)]
if ALONE in os.environ:
    PLACES = [pytest.param("stand_in")]


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return "cuda" if request.param == "cuda" else register(tmp_path_factory.mktemp("stand_in"))


def drawn(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def states(device: cosim.Device, *shape: int) -> torch.Tensor:
    low, high = device.state_range
    return drawn(*shape, low=low, high=high)


def error(there: torch.Tensor, here: torch.Tensor, place: str) -> float:
    """Of what was computed on ``place``, relative to the largest."""
    assert there.device.type == place
    return float((there.detach().cpu() - here.detach()).abs().max() / here.detach().abs().max())


def solve(place: str, make: Callable[[str], cosim.Tile], volts: torch.Tensor, **options: Any) -> float:
    """The error against the CPU; everything that comes back lies on ``place``."""
    there = cosim.solve(make(place), volts.to(place), **options)
    here = cosim.solve(make("cpu"), volts, **options)
    assert there.status.device.type == place
    assert there.status.cpu().equal(here.status)
    if options.get("nodes"):
        assert error(there.power.cells, here.power.cells, place) <= NEWTON_EXACT
    return error(there.currents, here.currents, place)


@pytest.mark.parametrize("engine", ["ideal", "linear", "newton", "ngspice"])
def test_engines(place: str, engine: str):
    cells, volts = drawn(6, 5, low=1e-5, high=9e-5), drawn(3, 6, high=0.3)
    per_line = cosim.Wires(row=drawn(6, 1), column=1.0, source=3.0, sense=drawn(5), sense_far=2.0)
    for wires in (None, WIRES, cosim.Wires(row=2.0), per_line):
        nodes = {"nodes": True} if engine in ("linear", "newton") and wires is not None else {}
        found = solve(
            place,
            lambda at, wires=wires: cosim.Tile(LINEAR, conductance=cells.to(at), wires=wires),
            volts,
            engine=engine,
            **nodes,
        )
        assert found <= NEWTON_EXACT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", ["data_driven", "stanford_pku"])
def test_nonlinear_tiles(place: str, model: str, dtype: torch.dtype):
    device = cosim.Device(model)
    cells, volts = states(device, 2, 40, 70).to(dtype), drawn(2, 3, 40, high=0.3).to(dtype)

    def make(at: str) -> cosim.Tile:
        return cosim.Tile(device, state=cells.to(at), wires=WIRES)

    assert solve(place, make, volts, engine="newton") <= (
        NEWTON_EXACT if dtype == torch.float64 else LAYER_FLOAT32
    )


def test_linear_tiles(place: str):
    cells, volts = drawn(3, 70, 90, low=1e-6, high=1e-4), drawn(3, 4, 70)
    for dtype, limit in ((torch.float64, LINEAR_EXACT), (torch.float32, LAYER_FLOAT32)):
        found = solve(
            place,
            lambda at, dtype=dtype: cosim.Tile(LINEAR, conductance=cells.to(at, dtype), wires=WIRES),
            volts.to(dtype),
            engine="linear",
        )
        assert found <= limit


@pytest.mark.parametrize("engine", ["linear", "newton"])
def test_gradients(place: str, engine: str):
    def gradients(at: str) -> list[torch.Tensor]:
        cells, volts = drawn(6, 5, low=2e-5, high=8e-5).to(at), drawn(3, 6, high=0.3).to(at)
        ohm = torch.tensor(2.0, dtype=torch.float64, device=at)
        parts = [part.requires_grad_() for part in (cells, volts, ohm)]
        tile = cosim.Tile(LINEAR, conductance=cells, wires=cosim.Wires(row=ohm, column=ohm))
        cosim.solve(tile, volts, engine=engine).currents.square().sum().backward()
        return [part.grad for part in parts if part.grad is not None]

    for there, here in zip(gradients(place), gradients("cpu"), strict=True):
        assert error(there, here, place) <= NEWTON_EXACT


@pytest.mark.parametrize("model", ["data_driven", "stanford_pku", "vteam"])
def test_devices(place: str, model: str):
    device = cosim.Device(model)
    start = sum(device.state_range) / 2
    wave = torch.sin(torch.linspace(0, 6.3, 60, dtype=torch.float64))
    there = device.simulate(wave.to(place), 1e-6, state=start)
    assert error(there.current, device.simulate(wave, 1e-6, state=start).current, place) <= NEWTON_EXACT
    normal = torch.distributions.Normal(torch.tensor(5e3, device=place), torch.tensor(50.0, device=place))
    spread = cosim.Device("vteam", r_off=normal).sample((4,), generator=torch.Generator().manual_seed(0))
    r_off = spread.parameters["r_off"]
    assert isinstance(r_off, torch.Tensor)
    assert r_off.device.type == place


EFFECTS = [
    FiniteStates(states=16),
    DeviceFaults(lrs=0.01),
    ProgrammingNoise(sigma=0.02),
    Drift(seconds=9, nu=0.1),
]


@pytest.mark.parametrize("scheme", [DoubleColumn(), SingleColumn(), BitSlicing()])
@pytest.mark.parametrize("trainable", [False, True])
def test_converted_networks(place: str, scheme: Any, trainable: bool):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    images = drawn(5, 1, 6, 6).float()

    def outputs(at: str) -> list[torch.Tensor]:
        model = cosim.convert(
            copy.deepcopy(network).to(at),
            device=cosim.Device("data_driven", r_min=torch.distributions.Normal(5e3, 2e2), r_max=1e5),
            wires=WIRES,
            tile_shape=(32, 32),
            dac=cosim.DAC(bits=8),
            scheme=scheme,
            effects=EFFECTS,
            trainable=trainable,
        )
        model.calibrate(images.to(at)).tune(images.to(at), per="column")
        found = [model(images.to(at)), model.use_engine("newton")(images[:1].to(at))]
        model.use_engine("linear").load_state_dict(model.state_dict())
        if trainable:
            model.train()(images.to(at)).sum().backward()
        there_and_back = copy.deepcopy(model).eval().cpu().to(at)
        return [*found, there_and_back(images.to(at))]

    for there, here in zip(outputs(place), outputs("cpu"), strict=True):
        assert error(there, here, place) <= LAYER_FLOAT32


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers(place: str, kind: type[nn.RNNBase]):
    layer = kind(5, 4, num_layers=2, bidirectional=True)
    inputs = drawn(3, 2, 5).float()
    there = cosim.convert(copy.deepcopy(layer).to(place), device=LINEAR, layers=[kind])(inputs.to(place))[0]
    assert error(there, layer(inputs)[0], place) <= LAYER_FLOAT32


def test_validation_with_read_noise_and_ranges(place: str):
    network = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).to(place)
    inputs = drawn(20, 12).float().to(place)
    device = cosim.Device("data_driven", r_min=5e3, r_max=1e5)
    options: dict[str, Any] = {"adc": cosim.ADC(bits=8), "effects": [ReadNoise(sigma=0.01)], "wires": WIRES}
    model = cosim.convert(network, device=device, tile_shape=(8, 8), **options).calibrate(inputs)
    for reference in ("newton", "ngspice"):
        report = cosim.validate(model, inputs, reference=reference, samples=4, end_to_end=2, progress=False)
        assert [layer.failures for layer in report.layers] == [{}, {}]
        assert report.end_to_end is not None
        assert report.end_to_end.outputs.isfinite().all()
