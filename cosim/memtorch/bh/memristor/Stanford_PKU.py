"""``Stanford_PKU``: the filament RRAM model of Jiang et al. 2016."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cosim.checks import as_number
from cosim.devices.held import state_rate
from cosim.memtorch.bh.memristor import as_memtorch as stepped
from cosim.memtorch.bh.memristor.compiled import Compiled, CompiledMemristor, Physics
from cosim.memtorch.bh.StochasticParameter import unpack_parameters

__all__ = ["Stanford_PKU"]

# MemTorch's name -> the one of the Verilog-A model
_NAMES = {
    "g_0": "g0",
    "V_0": "v0",
    "I_0": "i0",
    "T_init": "t0",
    "R_th": "r_th",
    "gamma_init": "gamma0",
    "beta": "beta",
    "t_ox": "t_ox",
    "F_min": "f_min",
    "vel_0": "vel0",
    "E_a": "ea",
    "a_0": "a0",
    "delta_g_init": "delta_g0",
    "model_switch": "model_switch",
    "T_crit": "t_crit",
    "T_smth": "t_smth",
}
_NOISE_LIMIT = 10.0  # of the model's parameter noise, in standard deviations


class Stanford_PKU(CompiledMemristor):
    """RRAM with a tunnelling gap; positive voltages lower the resistance.

    The gap (m) is bounded by the resistances r_on and r_off at read_voltage. model_switch=1: every call
    of ``simulate`` is a cycle with its own normal draw of the gap's speed, from torch's default generator.
    Every number may be a ``StochasticParameter``. as_memtorch: MemTorch 1.1.6's numbers.

    >>> device = Stanford_PKU()
    >>> device.set_conductance(1e-4)
    >>> round(device.get_resistance(), 3)
    10000.0
    """

    model = "stanford_pku"
    loop = (0.5, 1.5, 10)
    bipolar = (1.5, 0.05)

    def __init__(
        self,
        time_series_resolution: Any = 1e-4,
        r_off: Any = 218586,
        r_on: Any = 542,
        gap_init: Any = 2e-10,
        g_0: Any = 0.25e-9,
        V_0: Any = 0.25,
        I_0: Any = 1e-3,
        read_voltage: float = 0.1,
        T_init: Any = 298,
        R_th: Any = 2.1e3,
        gamma_init: Any = 16,
        beta: Any = 0.8,
        t_ox: Any = 12e-9,
        F_min: Any = 1.4e9,
        vel_0: Any = 10,
        E_a: Any = 0.6,
        a_0: Any = 0.25e-9,
        delta_g_init: Any = 0.02,
        model_switch: int = 0,
        T_crit: Any = 450,
        T_smth: Any = 500,
        *,
        as_memtorch: bool = False,
    ) -> None:
        a = unpack_parameters(locals())
        super().__init__(a, as_memtorch)
        self._heating, self._start = float(a.R_th), float(a.T_init)

    @staticmethod
    def device_parameters(a: Any) -> dict[str, Any]:
        unit = _tensor(a.I_0) * torch.sinh(a.read_voltage / _tensor(a.V_0)) / a.read_voltage
        low, high = (_tensor(a.g_0) * torch.log(unit * _tensor(r)) for r in (a.r_on, a.r_off))
        gap = torch.minimum(torch.maximum(_tensor(a.gap_init), low), high)
        given = {va: getattr(a, name) for name, va in _NAMES.items()}
        return {"g_min": low, "g_max": high, "gap_init": gap, **given}

    @staticmethod
    def stepped(a: Any) -> Physics:
        values = {name: getattr(a, name) for name in _NAMES}
        return stepped.StanfordPKU(a.r_on, a.r_off, a.gap_init, a.read_voltage, values)

    @staticmethod
    def read_voltage_of(a: Any) -> float:
        return float(a.read_voltage)

    def simulate(
        self,
        voltage_signal: torch.Tensor | np.ndarray,
        return_current: bool = False,
        *,
        engine: str = "torch",
    ) -> torch.Tensor | np.ndarray:
        physics = self.physics
        if isinstance(physics, Compiled) and physics.device.parameters["model_switch"] == 1:
            noise = float(torch.randn(()).clamp(-_NOISE_LIMIT, _NOISE_LIMIT))
            physics.device = physics.device.replace(noise=noise)
        return super().simulate(voltage_signal, return_current, engine=engine)

    def T_current(self, voltage: float, current: float) -> float:
        """Temperature (K) of the filament at ``voltage`` (V) and ``current`` (A)."""
        volts, amperes = as_number(voltage, "voltage"), as_number(current, "current")
        return self._start + abs(volts * amperes) * self._heating

    def dg_dt(self, voltage: float, current: float | None = None) -> float:
        """Rate of the gap (m/s) at ``voltage`` (V), heated by ``current`` (A), or by the device's own."""
        as_number(voltage, "voltage")
        if current is not None:
            current = as_number(current, "current")
        physics = self.physics
        if isinstance(physics, stepped.StanfordPKU):
            return physics.rate(voltage, self.current(voltage) if current is None else current)
        device, own = self.device, self.current(voltage)
        if current is not None and own != 0:
            device = device.replace(r_th=self._heating * abs(current / own))
        return state_rate(device, voltage, physics.state)


def _tensor(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64)
