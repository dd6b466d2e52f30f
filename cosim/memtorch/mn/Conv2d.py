"""``Conv2d`` on memristive crossbars."""

from __future__ import annotations

from torch import nn

from cosim.memtorch.mn.convolution import Convolution

__all__ = ["Conv2d"]


class Conv2d(Convolution, nn.Conv2d):
    """``torch.nn.Conv2d`` on crossbars, and an instance of it; further arguments: see ``Options``."""

    kind = nn.Conv2d
