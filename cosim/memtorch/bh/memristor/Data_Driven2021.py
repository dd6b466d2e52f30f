"""``Data_Driven2021``: the data-driven ReRAM model with a quadratic rate (arXiv:2012.02267)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cosim.checks import as_number
from cosim.errors import SpecError
from cosim.memtorch.bh.memristor import as_memtorch as stepped
from cosim.memtorch.bh.memristor.compiled import CompiledMemristor, Physics
from cosim.memtorch.bh.memristor.Data_Driven import Data_Driven, coefficients
from cosim.memtorch.bh.StochasticParameter import unpack_parameters

__all__ = ["Data_Driven2021"]

_K_P, _K_N = 5.11e-4, 1.17e-3  # MemTorch's defaults of arguments that its model does not use


class Data_Driven2021(CompiledMemristor):
    """Data-driven ReRAM of 2021; positive voltages lower the resistance (with the default fit).

    As ``Data_Driven``; the limits have at most two coefficients. k_p and k_n have no meaning in this
    model: values other than the defaults are refused.

    >>> Data_Driven2021().r_off
    3000.0
    """

    model = "data_driven_2021"
    loop = (1e-3, 1.5, 10e3)
    bipolar = (1.5, 10e3)
    coefficients = ("r_p", "r_n")

    def __init__(
        self,
        time_series_resolution: Any = 1e-10,
        r_off: Any = 3000,
        r_on: Any = 1600,
        A_p: Any = 600.10075,
        A_n: Any = -34.5988399,
        t_p: Any = -0.0212028,
        t_n: Any = -0.05343997,
        k_p: float = _K_P,
        k_n: float = _K_N,
        r_p: Sequence[float] = (2699.2336, -672.930205),
        r_n: Sequence[float] = (649.413746, -1474.32358),
        a_p: Any = 0.32046175,
        a_n: Any = 0.32046175,
        b_p: Any = 2.71689828,
        b_n: Any = 2.71689828,
        *,
        as_memtorch: bool = False,
    ) -> None:
        if (as_number(k_p, "k_p"), as_number(k_n, "k_n")) != (_K_P, _K_N):
            raise SpecError(f"k_p={k_p}, k_n={k_n}: Data_Driven2021 has no such parameters, leave them out")
        super().__init__(unpack_parameters(locals()), as_memtorch)

    @staticmethod
    def device_parameters(a: Any) -> dict[str, Any]:
        given = {name: getattr(a, name) for name in ("t_p", "t_n", "a_p", "a_n", "b_p", "b_n")}
        # the sign of the rate at v > 0 says which way R moves there
        eta = 1 if float(a.A_p) * float(a.t_p) > 0 else -1
        bounds = {"r_min": a.r_on, "r_max": a.r_off, "r_init": a.r_on, "eta": eta}
        rates = {"rate_p": a.A_p, "rate_n": a.A_n}
        return {**bounds, **rates, **given, **coefficients(r_p=a.r_p, r_n=a.r_n, most=2)}

    @staticmethod
    def stepped(a: Any) -> Physics:
        pairs = (a.A_p, a.A_n), (a.t_p, a.t_n), (a.r_p, a.r_n), (a.a_p, a.a_n), (a.b_p, a.b_n)
        return stepped.DataDriven2021(a.r_on, a.r_off, *pairs)

    resistance = Data_Driven.resistance
