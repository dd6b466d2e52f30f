"""Every layer kind on a grid of tile shapes, wires, quantisers and schemes, with bounds on the error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import cosim
from cosim.nn.converters import METHODS
from cosim.nn.mapping import SingleColumn
from tolerances import CONVERTERS_8_BIT, TUNED_WIRES

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
WIRES = {
    "ideal": cosim.Wires(),
    "lines": cosim.Wires(row=2.0, column=2.0),
    "ends": cosim.Wires(source=5.0, sense=5.0),
}
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(40, 12), (40,)),
    "conv1d": (lambda: nn.Conv1d(3, 8, 5, padding=2), (3, 12)),
    "conv2d": (lambda: nn.Conv2d(3, 8, (3, 2), stride=(1, 2)), (3, 7, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 6, 2, bias=False), (2, 4, 4, 5)),
}
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wires", WIRES)
@pytest.mark.parametrize("tile_shape", [(128, 128), (16, 16), (10, 7)])
def test_error_is_bounded(method: str, wires: str, tile_shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(12)
    for name, (make, shape) in LAYERS.items():
        model = make().requires_grad_(False)
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        x = torch.rand(16, *shape, generator=generator)
        wanted = model(x)
        errors = []
        for converters in ({}, {"dac": cosim.DAC(bits=8), "adc": cosim.ADC(bits=8, method=method)}):
            mnn = cosim.convert(
                model,
                device=DEVICE,
                layers=KINDS,
                tile_shape=tile_shape,
                wires=WIRES[wires],
                **converters,
            )
            mnn.calibrate(x)
            mnn.tune(x)
            errors.append(error(mnn(x), wanted))
        assert errors[0] < TUNED_WIRES[wires], name
        assert 0 < errors[1] < errors[0] + CONVERTERS_8_BIT[method], name


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("wires", WIRES)
def test_single_columns_in_wires_are_signed(name: str, wires: str):
    make, shape = LAYERS[name]
    model = make().requires_grad_(False)
    generator = torch.Generator().manual_seed(13)
    for parameter in model.parameters():
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    x = 2 * torch.rand(16, *shape, generator=generator) - 1
    mnn = cosim.convert(
        model, device=DEVICE, layers=KINDS, tile_shape=(16, 16), wires=WIRES[wires], scheme=SingleColumn()
    )
    mnn.tune(x, per="tile")
    assert error(mnn(x), model(x)) < 2 * TUNED_WIRES[wires]  # every cell carries the middle
