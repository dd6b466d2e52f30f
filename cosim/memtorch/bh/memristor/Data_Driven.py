"""``Data_Driven``: the data-driven ReRAM model of Messaris et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cosim.checks import as_number, shown
from cosim.errors import SpecError
from cosim.memtorch.bh.memristor import as_memtorch as stepped
from cosim.memtorch.bh.memristor.compiled import CompiledMemristor, Physics
from cosim.memtorch.bh.StochasticParameter import unpack_parameters

__all__ = ["Data_Driven", "coefficients"]


class Data_Driven(CompiledMemristor):
    """Data-driven ReRAM; positive voltages raise the resistance (with eta = 1).

    r_on, r_off bound the resistance parameter R (ohm) in i = a/R sinh(b v), so ``g`` is the chord at
    0.1 V, not 1/R (0.731/R with the defaults). r_p, r_n: coefficients of the limits, at most three.
    Every number may be a ``StochasticParameter``. as_memtorch: MemTorch 1.1.6's numbers, g = 1/R.

    >>> device = Data_Driven()
    >>> round(device.get_resistance() / 1280, 3)
    1.368
    """

    model = "data_driven"
    loop = (1e-3, 1.5, 10e3)
    bipolar = (1.5, 10e3)
    coefficients = ("r_p", "r_n")

    def __init__(
        self,
        time_series_resolution: Any = 1e-8,
        r_off: Any = 17e3,
        r_on: Any = 1280,
        A_p: Any = 743.47,
        A_n: Any = -68012.28374,
        t_p: Any = 6.51,
        t_n: Any = 0.31645,
        k_p: Any = 5.11e-4,
        k_n: Any = 1.17e-3,
        r_p: Sequence[float] = (16719, 0),
        r_n: Sequence[float] = (29304.82557, 23692.77225),
        eta: int = 1,
        a_p: Any = 0.24,
        a_n: Any = 0.24,
        b_p: Any = 3,
        b_n: Any = 3,
        *,
        as_memtorch: bool = False,
    ) -> None:
        super().__init__(unpack_parameters(locals()), as_memtorch)

    @staticmethod
    def device_parameters(a: Any) -> dict[str, Any]:
        names = ("t_p", "t_n", "k_p", "k_n", "eta", "a_p", "a_n", "b_p", "b_n")
        given = {name: getattr(a, name) for name in names}
        bounds = {"r_min": a.r_on, "r_max": a.r_off, "r_init": a.r_on}
        rates = {"rate_p": a.A_p, "rate_n": a.A_n}
        return {**bounds, **rates, **given, **coefficients(r_p=a.r_p, r_n=a.r_n, most=3)}

    @staticmethod
    def stepped(a: Any) -> Physics:
        rate, t, k = (a.A_p, a.A_n), (a.t_p, a.t_n), (a.k_p, a.k_n)
        factors = (a.a_p, a.a_n), (a.b_p, a.b_n)
        return stepped.DataDriven(a.r_on, a.r_off, rate, t, k, (a.r_p, a.r_n), a.eta, *factors)

    def resistance(self, voltage: float) -> float:
        """V/I (ohm) at ``voltage`` (V, not 0)."""
        if as_number(voltage, "voltage") == 0:
            raise SpecError("voltage is 0 V: V/I is not defined there")
        return voltage / self.current(voltage)


def coefficients(*, r_p: Sequence[float], r_n: Sequence[float], most: int) -> dict[str, float]:
    """Coefficients of the two limits as parameters of the model; SpecError for too many."""
    found = {}
    for name, values in (("r_p", r_p), ("r_n", r_n)):
        if not isinstance(values, Sequence | np.ndarray | torch.Tensor) or isinstance(values, str):
            raise SpecError(f"{name} is {shown(values)}: give a sequence of coefficients")
        if not 1 <= len(values) <= most:
            raise SpecError(f"{name} has {len(values)} coefficients: the model takes 1 to {most}")
        found |= {f"{name}{n}": as_number(values[n], name) if n < len(values) else 0.0 for n in range(most)}
    return found
