"""What the convolutions share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.mn.layer import TUNING_VECTORS, MemristiveLayer, Options
from cosim.nn import layers
from cosim.nn.tuning import Fit

__all__ = ["Convolution"]


class Convolution(layers.Conv, MemristiveLayer):
    """A convolution on crossbars; rows are the weights of one kernel, columns the output channels."""

    def __init__(
        self,
        convolutional_layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        memristor_model: type[Memristor],
        memristor_model_params: Mapping[str, Any] | None,
        **arguments: Any,
    ) -> None:
        options = Options(
            memristor_model=memristor_model, memristor_model_params=memristor_model_params, **arguments
        )
        digital = convolutional_layer
        rows = math.prod(digital.weight.shape[1:])
        super().__init__(digital, options.hardware(rows, digital.out_channels // digital.groups))
        self.options = options
        self._ready()

    @property
    def weight(self) -> torch.Tensor:
        """The digital weight, in the shape of torch."""
        channels = self.in_channels // self.groups
        return self.matmul.weight.reshape(self.out_channels, channels, *self.kernel_size)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As the digital layer; contiguous, so that ``view`` works on the result."""
        return super().forward(inputs).contiguous()

    def tune(self, input_batch_size: int = 8, input_shape: int = 32) -> Fit:
        """Fit the output to the digital one on random windows, as many as such an image has, at most 4098."""
        return self.fit(min(TUNING_VECTORS, input_batch_size * input_shape**self.axes))[0]
