"""``VTEAM``: Kvatinsky et al. 2015, without window."""

from __future__ import annotations

from typing import Any

from cosim.checks import as_number
from cosim.devices.held import state_rate
from cosim.memtorch.bh.memristor import as_memtorch as stepped
from cosim.memtorch.bh.memristor.compiled import CompiledMemristor, Physics
from cosim.memtorch.bh.StochasticParameter import unpack_parameters

__all__ = ["VTEAM"]

_SWITCHING = ("k_on", "k_off", "alpha_on", "alpha_off", "v_on", "v_off")
_NAMES = ("r_on", "r_off", "d", "x_on", "x_off", *_SWITCHING)


class VTEAM(CompiledMemristor):
    """Voltage-controlled threshold memristor; negative voltages lower the resistance. x = 0 is ON.

    The state w goes from x_on to x_off (m). v_on (negative) is the threshold of SET, v_off that of
    RESET. Every argument may be a ``StochasticParameter``. as_memtorch: MemTorch 1.1.6's numbers.

    >>> device = VTEAM(r_on=100, r_off=2.5e3)
    >>> round(device.get_resistance(), 6)
    100.0
    """

    model = "vteam"
    loop = (200e-9, 1, 50e6)
    bipolar = (1.5, 50e6)
    thresholds = ("v_off", "v_on")

    def __init__(
        self,
        time_series_resolution: Any = 1e-10,
        r_off: Any = 1000,
        r_on: Any = 50,
        d: Any = 3e-9,
        k_on: Any = -10,
        k_off: Any = 5e-4,
        alpha_on: Any = 3,
        alpha_off: Any = 1,
        v_on: Any = -0.2,
        v_off: Any = 0.02,
        x_on: Any = 0,
        x_off: Any = 3e-9,
        *,
        as_memtorch: bool = False,
    ) -> None:
        a = unpack_parameters(locals())
        super().__init__(a, as_memtorch)
        self._length = a.d if as_memtorch else a.x_off - a.x_on

    @staticmethod
    def device_parameters(a: Any) -> dict[str, Any]:
        return {"x_init": 0.0, **{name: getattr(a, name) for name in _NAMES}}

    @staticmethod
    def stepped(a: Any) -> Physics:
        pairs = (a.k_on, a.k_off), (a.alpha_on, a.alpha_off), (a.v_on, a.v_off)
        return stepped.Vteam(a.r_on, a.r_off, a.d, *pairs)

    def dxdt(self, voltage: float) -> float:
        """Rate of the state w (m/s) at ``voltage`` (V)."""
        return state_rate(self.device, as_number(voltage, "voltage"), self.physics.state) * self._length
