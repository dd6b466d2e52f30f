"""``quantize``: values to the codes of a converter whose range comes from the values themselves."""

from __future__ import annotations

import math

import torch

from cosim.arrays import as_tensor, check_finite
from cosim.checks import as_integer, as_number
from cosim.errors import SpecError
from cosim.memtorch.names import also_called, converter_method
from cosim.nn.converters import ADC, METHODS

__all__ = ["quantize"]


@also_called(input="tensor", bits="quant")
def quantize(
    tensor: torch.Tensor,
    quant: int,
    overflow_rate: float = 0.0,
    quant_method: str | None = "linear",
    min: float | None = None,
    max: float | None = None,
    override_original: bool = False,
    *,
    as_memtorch: bool = False,
) -> torch.Tensor:
    """``tensor`` quantised, in its own dtype.

    quant: bits of ``quant_method`` ("linear", "log", "log_minmax", "min-max", "tanh"); with method None
    the number of evenly spaced levels from min to max. overflow_rate: share of the values outside the
    range. min, max: nothing of the result lies outside; they are the range of the levels.
    override_original: write the result into ``tensor`` too. MemTorch 1.1.0 calls the first two input and
    bits. as_memtorch: its "log", which makes 1 of every magnitude below 1.

    Raises SpecError for an unknown method and for bits or levels out of range.

    >>> quantize(torch.tensor([-1.0, 0.2, 0.6]), 3, 0.0, "linear").tolist()
    [-1.0, 0.25, 0.5]
    >>> quantize(torch.tensor([-1.0, 0.2, 0.6]), 3, 0.0, None).tolist()  # doctest: +ELLIPSIS
    [-1.0, 0.60..., 0.60...]
    """
    if override_original and not isinstance(tensor, torch.Tensor):
        raise SpecError(f"override_original=True needs a torch tensor, not {type(tensor).__name__}")
    method = converter_method(quant_method)
    if method is not None and method not in METHODS:
        raise SpecError(f"quant_method is {quant_method!r}: choose from {', '.join(METHODS)}, or None")
    if as_memtorch and method != "log":
        raise SpecError(f"as_memtorch=True is for quant_method 'log'; {quant_method!r} is the same in both")
    low, high = (None if v is None else as_number(v, n) for v, n in ((min, "min"), (max, "max")))
    if low is not None and high is not None and not low < high:
        raise SpecError(f"min is {min} and max is {max}: min must be below max")
    values = check_finite(as_tensor(tensor, "tensor"), "tensor").detach().clone()
    bounded = low is not None or high is not None
    if method is None:
        result = _levels(values, quant, low, high)
    else:
        values = values.clamp(low, high) if bounded else values
        result = _coded(values, quant, overflow_rate, method, low, high, as_memtorch)
    if bounded:
        result = result.clamp(low, high)
    if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
        result = result.to(tensor.dtype)
    if override_original:
        with torch.no_grad():
            tensor.copy_(result)
    return result


def _levels(values: torch.Tensor, count: int, low: float | None, high: float | None) -> torch.Tensor:
    count = as_integer(count, "quant (a number of levels, without a method)", at_least=1)
    if values.numel() == 0:
        return values
    bottom = float(values.min()) if low is None else low
    top = float(values.max()) if high is None else high
    if count == 1 or top <= bottom:
        return torch.full_like(values, bottom)
    step = (top - bottom) / (count - 1)
    return bottom + ((values - bottom) / step).round().clamp(0, count - 1) * step


def _coded(
    values: torch.Tensor,
    bits: int,
    overflow_rate: float,
    method: str,
    low: float | None,
    high: float | None,
    as_memtorch: bool,
) -> torch.Tensor:
    adc = ADC(bits=bits, method=method, overflow_rate=as_number(overflow_rate, "overflow_rate"))
    if values.numel() == 0 or bool((values == values.flatten()[0]).all()):
        return values
    if as_memtorch:
        return _memtorch_log(values, bits, overflow_rate)
    bottom, top = (end.reshape(()) for end in adc.calibrate(values.reshape(1, -1)))
    if method == "linear" and (low is not None or high is not None):
        limit = max(abs(end) for end in (low, high) if end is not None)
        top = torch.clamp(top, min=limit)
        bottom = -top
    elif method == "minmax":
        bottom = bottom if low is None else bottom.new_tensor(low)
        top = top if high is None else top.new_tensor(high)
    return adc.convert(values, bottom, top)


def _memtorch_log(values: torch.Tensor, bits: int, overflow_rate: float) -> torch.Tensor:
    """MemTorch 1.1.6: the step comes from |x| instead of ln|x|, and ln|x| is clamped at 0."""
    ordered = values.abs().flatten().sort(descending=True).values
    place = round(overflow_rate * len(ordered))
    limit = float(ordered[min(place, len(ordered) - 1)])
    step = 2.0 ** (1 - bits + math.ceil(math.log2(limit + 1e-12)))
    log = values.abs().log().clamp(min=1e-20)
    code = (log / step + 0.5).floor().clamp(-(2.0 ** (bits - 2)), 2.0 ** (bits - 2) - 1)
    return (code * step).exp() * values.sign()
