"""``Conv3d`` on memristive crossbars."""

from __future__ import annotations

from cosim.memtorch.mn.convolution import Convolution

__all__ = ["Conv3d"]


class Conv3d(Convolution):
    """``torch.nn.Conv3d`` on crossbars; the further arguments are those of ``patch_model``."""
