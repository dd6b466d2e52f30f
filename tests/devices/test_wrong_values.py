"""Every argument of devices, tiles and wires takes what it can use, and refuses the rest by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cosim
from cosim.errors import CosimError
from wrong_values import NUMBERS, THINGS

SERIES = Path(__file__).parents[1] / "data" / "va" / "series.va"
STATE: dict[str, Any] = {"state": "x_init", "state_range": (0.0, 1.0)}


def on_file(**options: Any) -> cosim.Device:
    return cosim.Device(SERIES, **{**STATE, **options})


@pytest.fixture(scope="module")
def device() -> cosim.Device:
    return cosim.Device("vteam")


CALLS: dict[str, Callable[[cosim.Device, Any], Any]] = {
    "model": lambda device, x: cosim.Device(x),
    **{
        name: lambda device, x, name=name: on_file(**{name: x})
        for name in ("state", "state_range", "state_node", "state_scale", "write", "set_polarity", "rs")
    },
    "integer parameter": lambda device, x: cosim.Device("vteam", window=x),
    "parameter": lambda device, x: cosim.Device("vteam", r_on=x),
    "replace": lambda device, x: device.replace(r_off=x),
    "sample shape": lambda device, x: device.sample(x, generator=torch.Generator()),
    "sample generator": lambda device, x: device.sample((2,), generator=x),
    "voltage": lambda device, x: device.current(x, 0.5),
    "state of current": lambda device, x: device.current(0.1, x),
    "state of conductance": lambda device, x: device.conductance(x),
    "v_read": lambda device, x: device.conductance(0.5, v_read=x),
    "conductance": lambda device, x: device.state_for(x),
    "v_read of state_for": lambda device, x: device.state_for(1e-2, v_read=x),
    "tile device": lambda device, x: cosim.Tile(x, state=[[0.5]]),
    "tile conductance": lambda device, x: cosim.Tile(device, conductance=x),
    "tile state": lambda device, x: cosim.Tile(device, state=x),
    "tile shape": lambda device, x: cosim.Tile(cosim.Device(SERIES), shape=x),
    "tile wires": lambda device, x: cosim.Tile(device, state=[[0.5]], wires=x),
    "tile v_read": lambda device, x: cosim.Tile(device, state=[[0.5]], v_read=x),
    "check_voltages": lambda device, x: cosim.Tile(device, state=[[0.5]]).check_voltages(x),
    **{
        f"wires {name}": lambda device, x, name=name: cosim.Wires(**{"row": 1.0, "column": 1.0, name: x})
        for name in ("row", "column", "source", "sense", "source_far", "sense_far")
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_are_errors_of_cosim(name: str, device: cosim.Device) -> None:
    raw: dict[str, str] = {}
    refused = 0
    for label, value in (THINGS | NUMBERS).items():
        try:
            CALLS[name](device, value)
        except CosimError:
            refused += 1
        except Exception as error:  # noqa: BLE001  what must not happen
            raw[label] = repr(error)
    assert not raw
    assert refused >= len(THINGS) // 2
