"""Nonlinear I-V characteristics during inference."""

from __future__ import annotations

import warnings

from cosim.checks import as_flag, as_number
from cosim.memtorch.bh.nonideality.FiniteConductanceStates import apply_finite_conductance_states
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer

__all__ = ["apply_non_linear"]


def apply_non_linear(
    layer: MemristiveLayer,
    sweep_duration: float = 1,
    sweep_voltage_signal_amplitude: float = 1,
    sweep_voltage_signal_frequency: float = 1,
    num_conductance_states: int | None = None,
    simulate: bool = False,
) -> MemristiveLayer:
    """Compute with the I-V curve of every device, and the wires, from now on.

    The curve is the device's own at its state, exactly and at every voltage: what ``simulate=True`` asks
    for, and what a sweep into a table comes near to; a read does not move the state. So a sweep other
    than the default has no effect, and a warning says so. num_conductance_states: as
    ``apply_finite_conductance_states``, first. A device with a linear I-V keeps its fast product, which is
    the same. Raises SpecError for a class in Python that has a curve of its own.
    """
    for name, value in (
        ("sweep_duration", sweep_duration),
        ("sweep_voltage_signal_amplitude", sweep_voltage_signal_amplitude),
        ("sweep_voltage_signal_frequency", sweep_voltage_signal_frequency),
    ):
        if as_number(value, name, above=0) != 1:
            warnings.warn(
                f"{name}={value!r} has no effect: every device has its exact I-V curve, at any voltage",
                UserWarning,
                stacklevel=2,
            )
    as_flag(simulate, "simulate")
    checked_layer(layer).options.cell_model.check_curve()
    if num_conductance_states is not None:
        apply_finite_conductance_states(layer, num_conductance_states)
    for product in layer.products:
        if not product.hardware.nominal.is_linear:
            product.set_engine("newton")
    return layer
