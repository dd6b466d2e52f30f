"""What the recurrent layers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from cosim.checks import as_integer
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.mn.layer import MOST_VECTORS, TUNING_VECTORS, MemristiveLayer, Options, checked_digital
from cosim.nn import recurrent
from cosim.nn.tuning import Fit

__all__ = ["Recurrent"]


class Recurrent(recurrent.Recurrent, MemristiveLayer):
    """A recurrent layer on crossbars; gates are digital.

    ``crossbars``: of each layer and direction the input weights, the recurrent weights and the projection.
    Without ``tile_shape`` all of them have the size of the largest, unused cells at 1/r_off. kind: the
    layer of torch that it stands for.
    """

    kind: type[nn.RNNBase]

    def __init__(
        self,
        recurrent_layer: nn.RNN | nn.LSTM | nn.GRU,
        memristor_model: type[Memristor],
        memristor_model_params: Mapping[str, Any] | None,
        *positional: Any,
        **named: Any,
    ) -> None:
        options = Options.of(memristor_model, memristor_model_params, *positional, **named)
        checked_digital(recurrent_layer, self.kind)
        shapes = [p.shape for name, p in recurrent_layer.named_parameters() if name.startswith("weight")]
        rows, outputs = (max(shape[axis] for shape in shapes) for axis in (1, 0))
        super().__init__(recurrent_layer, options.hardware(rows, outputs))
        self.options = options
        self._ready()

    def tune(self, input_shape: int = TUNING_VECTORS) -> list[Fit]:
        """Fit every product to the digital one on ``input_shape`` random vectors."""
        return self.fit(as_integer(input_shape, "input_shape", at_least=4, at_most=MOST_VECTORS))
