"""``Linear`` on memristive crossbars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cosim.checks import as_instance, as_integer
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.mn.layer import MOST_VECTORS, TUNING_VECTORS, MemristiveLayer, Options, checked_digital
from cosim.nn import layers
from cosim.nn.tuning import Fit

__all__ = ["Linear"]


class Linear(layers.Linear, MemristiveLayer, nn.Linear):
    """``torch.nn.Linear`` on crossbars, and an instance of it; further arguments: see ``Options``.

    >>> from cosim.memtorch.bh.memristor import VTEAM
    >>> layer = Linear(nn.Linear(4, 3), VTEAM, {"r_on": 100, "r_off": 1000}, verbose=False)
    >>> layer(torch.zeros(2, 4)).shape, layer.crossbars[0].conductance_matrix.shape
    (torch.Size([2, 3]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        linear_layer: nn.Linear,
        memristor_model: type[Memristor],
        memristor_model_params: Mapping[str, Any] | None,
        *positional: Any,
        **named: Any,
    ) -> None:
        options = Options.of(memristor_model, memristor_model_params, *positional, **named)
        checked_digital(linear_layer, nn.Linear)
        hardware = options.hardware(linear_layer.in_features, linear_layer.out_features)
        super().__init__(linear_layer, hardware)
        self.options = options
        self.in_features, self.out_features = linear_layer.in_features, linear_layer.out_features
        self._ready()

    @property
    def weight(self) -> torch.Tensor:
        """The digital weight, (outputs, inputs)."""
        return self.matmul.weight[0]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``."""
        return super().forward(as_instance(input, "input", torch.Tensor, "a tensor"))

    def tune(self, input_shape: int = TUNING_VECTORS) -> Fit:
        """Fit the output to the digital one on ``input_shape`` random vectors."""
        return self.fit(as_integer(input_shape, "input_shape", at_least=4, at_most=MOST_VECTORS))[0]
