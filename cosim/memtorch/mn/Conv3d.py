"""``Conv3d`` on memristive crossbars."""

from __future__ import annotations

from torch import nn

from cosim.memtorch.mn.convolution import Convolution

__all__ = ["Conv3d"]


class Conv3d(Convolution, nn.Conv3d):
    """``torch.nn.Conv3d`` on crossbars, and an instance of it; further arguments: see ``Options``."""

    kind = nn.Conv3d
