"""``GRU`` on memristive crossbars."""

from __future__ import annotations

from cosim.memtorch.mn.recurrent import Recurrent

__all__ = ["GRU"]


class GRU(Recurrent):
    """``torch.nn.GRU`` on crossbars; the further arguments are those of ``patch_model``.

    Any layers and directions; inputs and states as torch's.
    """
