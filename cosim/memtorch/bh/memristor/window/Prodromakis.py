"""Prodromakis' window."""

from __future__ import annotations

from cosim.memtorch.names import check_window

__all__ = ["Prodromakis"]


def Prodromakis(x: float, p: float, j: float = 1, *, as_memtorch: bool = False) -> float:
    """j (1 - ((x - 0.5)^2 + 0.75)^p), x from 0 to 1; as_memtorch: j (1.75 - (x - 0.5)^2)^p.

    >>> Prodromakis(0.0, 1, 1), Prodromakis(0.5, 1, 2)
    (0.0, 0.5)
    """
    check_window(x, p=p, j=j)
    middle = (x - 0.5) ** 2
    return j * (1 - middle + 0.75) ** p if as_memtorch else j * (1 - (middle + 0.75) ** p)
