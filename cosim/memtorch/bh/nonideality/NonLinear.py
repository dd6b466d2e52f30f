"""Nonlinear I-V characteristics during inference."""

from __future__ import annotations

from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality.FiniteConductanceStates import apply_finite_conductance_states
from cosim.memtorch.mn.layer import MemristiveLayer

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

    The curve is the device's own at its state, exactly and at every voltage, so both of MemTorch's ways
    (a sweep into a table, or ``simulate``) come to this; a read does not move the state. The sweep must
    be possible. num_conductance_states: as ``apply_finite_conductance_states``, first. A device with a
    linear I-V keeps its fast product, which is the same.
    """
    for name, value in (
        ("sweep_duration", sweep_duration),
        ("sweep_voltage_signal_amplitude", sweep_voltage_signal_amplitude),
        ("sweep_voltage_signal_frequency", sweep_voltage_signal_frequency),
    ):
        if not value > 0:
            raise SpecError(f"{name} is {value}: it must be above 0")
    if num_conductance_states is not None:
        apply_finite_conductance_states(layer, num_conductance_states)
    for product in layer.products:
        if not product.hardware.nominal.is_linear:
            product.set_engine("newton")
    return layer
