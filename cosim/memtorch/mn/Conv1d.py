"""``Conv1d`` on memristive crossbars."""

from __future__ import annotations

from cosim.memtorch.mn.convolution import Convolution

__all__ = ["Conv1d"]


class Conv1d(Convolution):
    """``torch.nn.Conv1d`` on crossbars; the further arguments are those of ``patch_model``."""
