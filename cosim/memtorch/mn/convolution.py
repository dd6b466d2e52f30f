"""What the convolutions share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cosim.checks import as_instance, as_integer
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.mn.layer import TUNING_VECTORS, MemristiveLayer, Options, checked_digital
from cosim.nn import layers
from cosim.nn.tuning import Fit

__all__ = ["Convolution"]


class Convolution(layers.Conv, MemristiveLayer):
    """A convolution on crossbars; rows are the weights of one kernel, columns the output channels.

    kind: the layer of torch that it stands for.
    """

    kind: type[nn.Module]
    transposed, output_padding = False, 0  # as torch's

    def __init__(
        self,
        convolutional_layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        memristor_model: type[Memristor],
        memristor_model_params: Mapping[str, Any] | None,
        *positional: Any,
        **named: Any,
    ) -> None:
        options = Options.of(memristor_model, memristor_model_params, *positional, **named)
        digital = checked_digital(convolutional_layer, self.kind)
        rows = math.prod(digital.weight.shape[1:])
        super().__init__(digital, options.hardware(rows, digital.out_channels // digital.groups))
        self.options = options
        self._ready()

    @property
    def weight(self) -> torch.Tensor:
        """The digital weight, in the shape of torch."""
        channels = self.in_channels // self.groups
        return self.matmul.weight.reshape(self.out_channels, channels, *self.kernel_size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the digital layer."""
        return super().forward(as_instance(input, "input", torch.Tensor, "a tensor"))

    def tune(self, input_batch_size: int = 8, input_shape: int = 32) -> Fit:
        """Fit the output to the digital one on random windows, as many as such an image has, at most 4098."""
        batch = as_integer(input_batch_size, "input_batch_size", at_least=1)
        windows = batch * as_integer(input_shape, "input_shape", at_least=1) ** self.axes
        return self.fit(max(4, min(TUNING_VECTORS, windows)))[0]
