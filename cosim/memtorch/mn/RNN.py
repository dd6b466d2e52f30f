"""``RNN`` on memristive crossbars."""

from __future__ import annotations

from torch import nn

from cosim.memtorch.mn.recurrent import Recurrent

__all__ = ["RNN"]


class RNN(Recurrent):
    """``torch.nn.RNN`` on crossbars; further arguments: see ``Options``.

    Any nonlinearity, layers and directions; inputs and states as torch's.
    """

    kind = nn.RNN
