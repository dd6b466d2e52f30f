"""SPICE-coupled hardware co-simulation of memristor crossbars."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# name -> module that defines it; imported at first use, so that `import cosim` stays light
_HOME = {
    "Device": "cosim.devices.device",
    "Tile": "cosim.crossbar",
    "Wires": "cosim.wires",
    "Solution": "cosim.crossbar",
    "Status": "cosim.crossbar",
    "solve": "cosim.engines",
    "compare": "cosim.ladder",
    "calibrate": "cosim.calibration",
    "write_netlist": "cosim.spice.netlist",
    "convert": "cosim.nn.convert",
    "validate": "cosim.nn.validation",
    "matmul": "cosim.nn.functional",
    "DAC": "cosim.nn.converters",
    "ADC": "cosim.nn.converters",
    "errors": "cosim.errors",
}

# imported together with a name: the ngspice transient engine registers itself for Device.simulate
_REGISTERS = {"Device": "cosim.spice.transient"}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cosim' has no attribute {name!r}")
    if name in _REGISTERS:
        importlib.import_module(_REGISTERS[name])
    module = importlib.import_module(_HOME[name])
    value = module if name == "errors" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
