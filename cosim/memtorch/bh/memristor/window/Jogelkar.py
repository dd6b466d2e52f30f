"""Joglekar's window (MemTorch spells it Jogelkar)."""

from __future__ import annotations

from cosim.memtorch.names import check_window

__all__ = ["Jogelkar"]


def Jogelkar(x: float, p: int, *, as_memtorch: bool = False) -> float:
    """1 - (2x - 1)^2p, x from 0 to 1; as_memtorch: (2 - 2x)^2p.

    >>> Jogelkar(0.0, 1), Jogelkar(0.25, 1)
    (0.0, 0.75)
    """
    check_window(x, p=p)
    return (1 - (2 * x - 1)) ** (2 * p) if as_memtorch else 1 - (2 * x - 1) ** (2 * p)
