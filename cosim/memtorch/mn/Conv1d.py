"""``Conv1d`` on memristive crossbars."""

from __future__ import annotations

from torch import nn

from cosim.memtorch.mn.convolution import Convolution

__all__ = ["Conv1d"]


class Conv1d(Convolution, nn.Conv1d):
    """``torch.nn.Conv1d`` on crossbars, and an instance of it; further arguments: see ``Options``."""

    kind = nn.Conv1d
