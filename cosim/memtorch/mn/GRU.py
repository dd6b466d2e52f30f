"""``GRU`` on memristive crossbars."""

from __future__ import annotations

from torch import nn

from cosim.memtorch.mn.recurrent import Recurrent

__all__ = ["GRU"]


class GRU(Recurrent):
    """``torch.nn.GRU`` on crossbars; further arguments: see ``Options``.

    Any layers and directions; inputs and states as torch's.
    """

    kind = nn.GRU
