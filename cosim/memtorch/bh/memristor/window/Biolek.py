"""Biolek's window."""

from __future__ import annotations

from cosim.checks import as_number
from cosim.memtorch.names import check_window

__all__ = ["Biolek"]


def Biolek(voltage: float, x: float, p: int) -> float:
    """1 - (1 - x - [v > 0])^2p, x from 0 (ON) to 1: at the bound that the device leaves it is 1.

    >>> Biolek(1.0, 1.0, 1), Biolek(-1.0, 1.0, 1)
    (0.0, 1.0)
    """
    check_window(x, p=p)
    as_number(voltage, "voltage")
    return 1 - (1 - x - (1 if voltage > 0 else 0)) ** (2 * p)
