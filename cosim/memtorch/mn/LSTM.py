"""``LSTM`` on memristive crossbars."""

from __future__ import annotations

from torch import nn

from cosim.memtorch.mn.recurrent import Recurrent

__all__ = ["LSTM"]


class LSTM(Recurrent):
    """``torch.nn.LSTM`` on crossbars; further arguments: see ``Options``.

    Any layers and directions, with or without projection; inputs and states as torch's.
    """

    kind = nn.LSTM
