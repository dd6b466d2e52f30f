"""What a simulator tells a model: temperature and $simparam. One table, which every engine reads."""

from __future__ import annotations

import math

from cosim.devices.ir import DeviceIR
from cosim.errors import SpecError

__all__ = ["SIMULATOR_PARAMETERS", "TEMPERATURE", "ZERO_CELSIUS", "check_temperature", "model_temperature"]

ZERO_CELSIUS = 273.15  # K
TEMPERATURE = 300.15  # K: 27 degrees Celsius, SPICE's nominal temperature

# What ngspice answers at its defaults; $simparam of any other name is the default that the file gives.
# Decks set gmin and tnom explicitly, and a compiled model asks the simulator for these two. The others
# belong to a numerical method, so a model must not see them change: they are as here everywhere.
SIMULATOR_PARAMETERS: dict[str, float] = {
    "gmin": 1e-12,  # S
    "tnom": TEMPERATURE - ZERO_CELSIUS,  # degrees Celsius
    "gdev": 1e-12,  # S
    "sourceScaleFactor": 1.0,
    "epsmin": 1e-28,
    "reltol": 1e-3,
    "abstol": 1e-12,  # A
    "vntol": 1e-6,  # V
}


def check_temperature(temperature: object) -> float:
    """``temperature`` (K) as a float; SpecError unless it is finite and above 0.

    >>> check_temperature(400)
    400.0
    """
    kelvin = math.nan
    if isinstance(temperature, int | float) and not isinstance(temperature, bool):
        kelvin = float(temperature)
    if not (math.isfinite(kelvin) and kelvin > 0):
        raise SpecError(
            f"temperature is {temperature!r}: give K as one finite number above 0, such as {TEMPERATURE}"
        )
    return kelvin


def model_temperature(ir: DeviceIR, temperature: object) -> float:
    """``temperature`` (K; None: 300.15) for the model ``ir``; SpecError where the model would ignore it."""
    kelvin = TEMPERATURE if temperature is None else check_temperature(temperature)
    inputs = (*ir.setup.inputs, *ir.evaluate.inputs)
    if kelvin != TEMPERATURE and all(source.kind != "temperature" for source in inputs):
        raise SpecError(
            f"temperature is {kelvin} K: {ir.name} reads neither $temperature nor $vt, so that it has the "
            f"same current at any; leave temperature= out ({TEMPERATURE} K)"
        )
    return kelvin
