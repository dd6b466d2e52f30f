"""Feed-forward layers on crossbars: they reshape for the one product, and add the bias digitally."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from cosim.errors import SpecError
from cosim.nn.hardware import Hardware
from cosim.nn.matmul import CrossbarMatmul

__all__ = ["Conv", "Linear", "register_bias"]

DigitalState: TypeAlias = dict[str, torch.Tensor | None]

_PATCHES = 1 << 20  # bytes of patches at a time that are never too many
_CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class _NoWeight(SpecError, AttributeError):
    """Also an AttributeError, by which Python tells that there is none."""


class _OnCells(nn.Module):
    """A layer whose weights are in cells."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name != "weight":
                raise
        raise _NoWeight(
            "the weight of this layer is in the cells of its crossbars, not a tensor: where the network uses "
            "it elsewhere, as tied weights do, leave the layer digital by exclude=, or make that a layer too"
        )


class Linear(_OnCells):
    """``nn.Linear`` on crossbars.

    >>> import cosim
    >>> layer = Linear(nn.Linear(3, 2), Hardware(device=cosim.Device("vteam")))
    >>> layer(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    bias: torch.Tensor | None

    def __init__(
        self, digital: nn.Linear, hardware: Hardware, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.matmul = CrossbarMatmul(digital.weight, hardware, generator=generator)
        register_bias(self, "bias", digital.bias, hardware)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``."""
        outputs = self.matmul(inputs)
        return outputs if self.bias is None else outputs + self.bias

    def digital_state(self) -> DigitalState:
        """Parameters of the digital layer by name."""
        return {"weight": self.matmul.weight[0], "bias": self.bias}


class Conv(_OnCells):
    """``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d`` on crossbars; each group has its own tiles.

    Every position of the kernel is one input vector. Where the product is one matrix
    (``CrossbarMatmul.folded``) it runs as one convolution with that matrix, which is the same.

    >>> import cosim
    >>> layer = Conv(nn.Conv2d(3, 8, 3, padding="same"), Hardware(device=cosim.Device("vteam")))
    >>> layer(torch.zeros(1, 3, 6, 5)).shape
    torch.Size([1, 8, 6, 5])
    """

    bias: torch.Tensor | None

    def __init__(
        self,
        digital: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        hardware: Hardware,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.groups = digital.groups
        self.in_channels, self.out_channels = digital.in_channels, digital.out_channels
        self.kernel_size, self.stride = digital.kernel_size, digital.stride
        self.padding, self.padding_mode = digital.padding, digital.padding_mode
        self.dilation = digital.dilation
        weight = digital.weight.reshape(self.groups, self.out_channels // self.groups, -1)
        self.matmul = CrossbarMatmul(weight, hardware, generator=generator)
        register_bias(self, "bias", digital.bias, hardware)

    @property
    def axes(self) -> int:
        """Spatial axes: 1, 2 or 3."""
        return len(self.kernel_size)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, *space)`` or ``(channels, *space)``, as the digital layer."""
        if (
            inputs.ndim not in (self.axes + 1, self.axes + 2)
            or inputs.shape[-self.axes - 1] != self.in_channels
        ):
            raise SpecError(
                f"inputs of shape {tuple(inputs.shape)} do not fit a convolution: give (batch, "
                f"{self.in_channels}, ...) with {self.axes} spatial axes"
            )
        batch = inputs if inputs.ndim == self.axes + 2 else inputs[None]
        matmul = self.matmul
        batch = batch.to(matmul.weight.dtype)
        if matmul.ranges_missing and not (matmul.recording or matmul.digital):
            matmul.take_ranges(self._pieces(batch))
        if matmul.recording or not (matmul.digital or matmul.folded):
            outputs = self._by_windows(batch)
        elif matmul.digital:
            outputs = self._convolve(batch, matmul.weight)
        else:
            outputs = self._convolve(matmul.quantise(batch), matmul.effective_weight)
            outputs = matmul.finish(outputs, axis=1)
        if self.bias is not None:
            outputs = outputs + self.bias.reshape(-1, *[1] * self.axes)
        outputs = outputs.to(inputs.dtype).contiguous()  # as torch's own: networks call .view on it
        return outputs if inputs.ndim == self.axes + 2 else outputs[0]

    def digital_state(self) -> DigitalState:
        """Parameters of the digital layer by name."""
        return {"weight": self._kernels(self.matmul.weight), "bias": self.bias}

    def _kernels(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix.reshape(self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def _convolve(self, batch: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        weight, padding = self._kernels(matrix), self.padding
        if self.padding_mode != "zeros":
            batch, padding = self._padded(batch), 0
        return _CONVOLUTIONS[self.axes](batch, weight, None, self.stride, padding, self.dilation, self.groups)

    def _padded(self, batch: torch.Tensor) -> torch.Tensor:
        ends: list[int] = []
        for axis in reversed(range(self.axes)):  # torch.nn.functional.pad starts from the last axis
            if self.padding == "same":
                total = self.dilation[axis] * (self.kernel_size[axis] - 1)
                ends += [total // 2, total - total // 2]
            else:
                one = 0 if isinstance(self.padding, str) else self.padding[axis]
                ends += [one, one]
        if not any(ends):
            return batch
        return functional.pad(
            batch, ends, mode="constant" if self.padding_mode == "zeros" else self.padding_mode
        )

    def vectors(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, *space)`` as what the product gets: ``(groups, batch * positions, inputs)``.

        Positions come in the order of the outputs' space, for each sample in turn.
        """
        return self._rows(self._windows(inputs.to(self.matmul.weight.dtype)))

    def _pieces(self, batch: torch.Tensor) -> Iterator[torch.Tensor]:
        """Every window of a batch as a row of the product, ``(groups, n, inputs)`` at a time."""
        for sample in self._samples(batch):
            yield from (self._rows(part) for part in sample)

    def _by_windows(self, batch: torch.Tensor) -> torch.Tensor:
        """Every window as a row of the product, a bounded number of windows at a time."""
        return torch.cat(
            [torch.cat([self._outputs(part) for part in sample], 2) for sample in self._samples(batch)]
        )

    def _samples(self, batch: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Windows ``(batch, channels, *space, *kernel)``: of some samples, cut along the first of space."""
        windows = self._windows(batch)
        room = min(self.matmul.hardware.memory // 4, max(_PATCHES, batch.nbytes))
        return (_slices(sample, 2, room) for sample in _slices(windows, 0, room))

    def _windows(self, batch: torch.Tensor) -> torch.Tensor:
        windows = self._padded(batch)
        for axis in range(self.axes):
            span = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            windows = windows.unfold(2 + axis, span, self.stride[axis])[..., :: self.dilation[axis]]
        return windows

    def _rows(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows ``(batch, channels, *space, *kernel)`` as rows ``(groups, batch * space, inputs)``."""
        batch, space = windows.shape[0], windows.shape[2 : 2 + self.axes]
        grouped = windows.unflatten(1, (self.groups, -1))  # (batch, groups, channels, *space, *kernel)
        order = [1, 0, *range(3, 3 + self.axes), 2, *range(3 + self.axes, 3 + 2 * self.axes)]
        inputs = self.in_channels // self.groups * math.prod(self.kernel_size)
        return grouped.permute(order).reshape(self.groups, batch * math.prod(space), inputs)

    def _outputs(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows ``(batch, channels, *space, *kernel)`` to outputs ``(batch, channels, *space)``."""
        batch, space = windows.shape[0], windows.shape[2 : 2 + self.axes]
        outputs = self.matmul(self._rows(windows))
        outputs = outputs.reshape(self.groups, batch, *space, self.out_channels // self.groups)
        return outputs.permute(1, 0, 2 + self.axes, *range(2, 2 + self.axes)).flatten(1, 2)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}"
        )


def _slices(windows: torch.Tensor, axis: int, room: int) -> tuple[torch.Tensor, ...]:
    """Pieces along ``axis`` whose patches fit in ``room`` bytes, at least one long."""
    size = windows.shape[axis]
    each = math.prod(windows.shape) // max(size, 1) * windows.element_size()
    return windows.split(max(1, room // max(1, each)), axis)


def register_bias(module: nn.Module, name: str, bias: torch.Tensor | None, hardware: Hardware) -> None:
    """Give ``module`` a copy of a bias: a parameter where it can be trained, else a buffer."""
    copied = None if bias is None else bias.detach().clone()
    if hardware.trainable:
        module.register_parameter(name, None if copied is None else nn.Parameter(copied))
    else:
        module.register_buffer(name, copied)
