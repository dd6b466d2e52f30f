"""``LinearIonDrift``: Strukov et al. 2008 with thresholds and Joglekar's window."""

from __future__ import annotations

from typing import Any

from cosim.checks import as_number
from cosim.devices.held import state_rate
from cosim.memtorch.bh.memristor import as_memtorch as stepped
from cosim.memtorch.bh.memristor.compiled import CompiledMemristor, Physics
from cosim.memtorch.bh.StochasticParameter import unpack_parameters

__all__ = ["LinearIonDrift"]


class LinearIonDrift(CompiledMemristor):
    """Linear ion drift; positive voltages lower the resistance. State x: 1 is ON.

    Every argument may be a ``StochasticParameter``. as_memtorch: MemTorch 1.1.6's numbers instead of
    the model's. A new device is at x = 0.1, because Joglekar's window holds x = 0 and x = 1 for ever.

    >>> device = LinearIonDrift()
    >>> device.set_conductance(1e-3)
    >>> round(device.get_resistance(), 6)
    1000.0
    """

    model = "linear_ion_drift"
    loop = (4, 5, 2.5)
    bipolar = (5, 2.5)
    thresholds = ("pos_write_threshold", "neg_write_threshold")

    def __init__(
        self,
        time_series_resolution: Any = 1e-4,
        u_v: Any = 1e-14,
        d: Any = 10e-9,
        r_on: Any = 100,
        r_off: Any = 16e3,
        pos_write_threshold: Any = 0.55,
        neg_write_threshold: Any = -0.55,
        p: Any = 1,
        *,
        as_memtorch: bool = False,
    ) -> None:
        super().__init__(unpack_parameters(locals()), as_memtorch)

    @staticmethod
    def device_parameters(a: Any) -> dict[str, Any]:
        thresholds = {"v_pos": a.pos_write_threshold, "v_neg": a.neg_write_threshold}
        return {"r_on": a.r_on, "r_off": a.r_off, "u_v": a.u_v, "d": a.d, "window_p": a.p, **thresholds}

    @staticmethod
    def stepped(a: Any) -> Physics:
        thresholds = (a.pos_write_threshold, a.neg_write_threshold)
        return stepped.LinearIonDrift(a.r_on, a.r_off, a.u_v, a.d, *thresholds, a.p)

    def dxdt(self, current: float) -> float:
        """dx/dt (1/s) while ``current`` (A) flows."""
        return state_rate(self.device, as_number(current, "current") / self.g, self.physics.state)
