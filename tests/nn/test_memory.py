"""Peak memory of converting a network and running it, by live tensors: no clock, no allocator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cosim.devices.device import Device
from cosim.nn.convert import convert
from cosim.nn.converters import ADC
from cosim.nn.mapping import SingleColumn
from cosim.wires import Wires
from live_memory import LiveBytes, peak_bytes
from tolerances import CONVERTED_MEMORY

DEVICE = Device("vteam", r_on=10e3, r_off=1e6)
WIRES = Wires(row=2.0, column=2.0)


def stack() -> tuple[nn.Module, torch.Tensor]:
    """Nearly all of it is weights."""
    layers = [nn.Linear(768, 768) for _ in range(3)]
    return nn.Sequential(*layers), torch.rand(16, 768)


def vgg() -> tuple[nn.Module, torch.Tensor]:
    """Activations and weights count about the same."""
    layers: list[nn.Module] = []
    channels = 3
    for outputs in (16, 32, 64):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = outputs
    layers += [nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers), torch.rand(16, 3, 32, 32)


def weight_bytes(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (stack, {}),
        (stack, {"scheme": SingleColumn()}),
        (stack, {"adc": ADC(bits=8)}),
        (stack, {"adc": ADC(bits=8, at="column", per="column")}),
        (vgg, {}),
        (vgg, {"adc": ADC(bits=8)}),
        (vgg, {"wires": WIRES}),
        (vgg, {"wires": WIRES, "adc": ADC(bits=8)}),
    ],
)
@torch.no_grad()
def test_conversion_and_forward_take_a_few_times_the_digital_network(network: Any, options: dict[str, Any]):
    digital, inputs = network()
    convert(nn.Linear(2, 1), device=DEVICE)  # what a device caches is not of the network
    allowed = weight_bytes(digital) + peak_bytes(lambda: digital(inputs))
    taken = peak_bytes(lambda: convert(digital, device=DEVICE, **options)(inputs))
    assert taken <= CONVERTED_MEMORY * allowed


@torch.no_grad()
def test_what_is_kept_is_the_weights_their_cells_and_one_matrix():
    digital, _ = stack()
    convert(nn.Linear(2, 1), device=DEVICE)
    with LiveBytes() as live:
        converted = convert(digital, device=DEVICE)
    weights = weight_bytes(digital)
    assert converted.report.cells * 4 == pytest.approx(2 * weights, rel=0.01)
    assert live.now == pytest.approx(4 * weights, rel=0.02)


def test_live_bytes_are_those_of_tensors_that_are_there():
    before = torch.zeros(1000)
    with LiveBytes() as live:
        kept = before + 1  # 4000 bytes
        view = kept[::2]
        (kept * 2).sum()
        kept.add_(before)
        assert live.now == 4000
        del kept
        assert live.now == 4000  # the view holds it
        del view
        assert live.now == 0
    assert live.peak == 8004
    assert peak_bytes(lambda: before[:10]) == 0
