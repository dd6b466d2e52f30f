"""``RNN`` on memristive crossbars."""

from __future__ import annotations

from cosim.memtorch.mn.recurrent import Recurrent

__all__ = ["RNN"]


class RNN(Recurrent):
    """``torch.nn.RNN`` on crossbars; the further arguments are those of ``patch_model``.

    Any nonlinearity, layers and directions; inputs and states as torch's.
    """
