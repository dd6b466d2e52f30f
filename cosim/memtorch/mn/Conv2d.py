"""``Conv2d`` on memristive crossbars."""

from __future__ import annotations

from cosim.memtorch.mn.convolution import Convolution

__all__ = ["Conv2d"]


class Conv2d(Convolution):
    """``torch.nn.Conv2d`` on crossbars; the further arguments are those of ``patch_model``."""
