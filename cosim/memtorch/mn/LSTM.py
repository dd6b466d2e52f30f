"""``LSTM`` on memristive crossbars."""

from __future__ import annotations

from cosim.memtorch.mn.recurrent import Recurrent

__all__ = ["LSTM"]


class LSTM(Recurrent):
    """``torch.nn.LSTM`` on crossbars; the further arguments are those of ``patch_model``.

    Any layers and directions, with or without projection; inputs and states as torch's.
    """
