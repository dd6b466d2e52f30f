"""SPICE-coupled hardware co-simulation of memristor crossbars."""

import importlib
from typing import Any

import lazy_loader

__version__ = "0.1.0"

# __init__.pyi says where each public name is; a module is imported when a name in it is first used
_load, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_names, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Device":  # the ngspice transient engine registers itself for Device.simulate
        importlib.import_module("cosim.spice.transient")
    return _load(name)
