"""Inputs of a network as people have them: tensors, arrays, batches, data loaders, data sets."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from cosim.arrays import check_finite, out_of_memory
from cosim.checks import shown
from cosim.errors import CosimError, SpecError

__all__ = ["Batch", "batches", "call", "first_tensor"]

Batch: TypeAlias = tuple[Any, ...]  # the arguments of one call; axis 0 of the first tensor counts the inputs

_ROWS = 64  # samples of a data set at a time
_KINDS = "give a tensor, an array, a tuple of arguments, or a list, DataLoader or generator of these"


def batches(inputs: Any, network: nn.Module) -> Iterator[Batch]:
    """Arguments of each call of ``network``.

    inputs: a tensor or an array: one batch; a tuple: the several arguments of one call; a list, a
    DataLoader or another iterable of these; a data set. Of a tuple in such an iterable the network
    gets as many as ``forward`` takes, of a list, as a DataLoader gives, as many as it requires:
    labels are left out. Tensors go where the network is, floating arrays also to its dtype.

    Raises SpecError for anything else, for no batch at all, and for a first tensor that is empty or
    not finite.

    >>> [[part.shape for part in batch] for batch in batches([[torch.ones(2, 3), "labels"]], nn.Linear(3, 1))]
    [[torch.Size([2, 3])]]
    """
    required, most = _arguments(network)
    like = next(network.parameters(), next(network.buffers(), torch.zeros(())))
    count = 0
    for given in _calls(inputs):
        parts = list(given) if isinstance(given, tuple | list) else [given]
        parts = parts[: required if isinstance(given, list) else most]
        batch = tuple(_part(part, like) for part in parts)
        _check(batch)
        yield batch
        count += 1
    if not count:
        raise SpecError(f"inputs is {shown(inputs)}, without a batch: {_KINDS}")


def call(network: nn.Module, batch: Batch) -> Any:
    """What the network gives for a batch; SpecError where it does not take it."""
    try:
        with out_of_memory(f"a batch of shape {tuple(first_tensor(batch).shape)}"):
            return network(*batch)
    except (CosimError, MemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shape = tuple(first_tensor(batch).shape)
        raise SpecError(f"the model does not take inputs of shape {shape}: {error}") from error


def first_tensor(batch: Batch) -> torch.Tensor:
    """The tensor whose axis 0 counts the inputs."""
    return next(part for part in batch if isinstance(part, torch.Tensor))


def _arguments(network: nn.Module) -> tuple[int, int]:
    """How many positional arguments ``forward`` requires, 1 or more, and how many it takes."""
    forward: Any = network.forward
    parameters = inspect.signature(forward).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return max(1, required), sys.maxsize if more else max(1, len(positional))


def _calls(inputs: Any) -> Iterator[Any]:
    if isinstance(inputs, torch.Tensor | np.ndarray | tuple):
        yield inputs
    elif isinstance(inputs, Dataset) and not isinstance(inputs, IterableDataset):
        yield from DataLoader(inputs, batch_size=_ROWS)
    elif isinstance(inputs, Iterable) and not isinstance(inputs, str | bytes | Mapping | nn.Module):
        yield from inputs
    else:
        raise SpecError(f"inputs is {shown(inputs)}: {_KINDS}")


def _part(part: Any, like: torch.Tensor) -> Any:
    """An argument, where and as the network takes it."""
    if isinstance(part, np.ndarray):
        if part.dtype.kind not in "biuf" or np.ma.is_masked(part):
            raise SpecError(f"inputs of {shown(part)}: give an array of real numbers, without masked entries")
        known = part.astype(part.dtype.newbyteorder("="), copy=False)  # torch knows no other order of bytes
        known = known.astype(np.float64) if known.dtype == np.longdouble else known
        tensor = torch.from_numpy(np.require(known, requirements=["C", "W"]))
        return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)
    if not isinstance(part, torch.Tensor):
        return part
    odd = part.is_nested or part.is_meta or part.is_complex() or part.is_quantized
    if odd or part.layout is not torch.strided:
        raise SpecError("inputs are nested, sparse, quantised, complex or without data: give real ones")
    narrow = part.is_floating_point() and part.element_size() < 2  # torch computes nothing in 8 bits
    return part.to(like) if narrow else part.to(like.device)


def _check(batch: Batch) -> None:
    """SpecError unless the first tensor counts inputs, and is finite."""
    tensors = [part for part in batch if isinstance(part, torch.Tensor)]
    if not tensors:
        kinds = ", ".join(type(part).__name__ for part in batch) or "nothing"
        raise SpecError(f"inputs of type {kinds}: {_KINDS}")
    first = tensors[0]
    if first.ndim == 0:
        raise SpecError("inputs of shape (): give a tensor whose axis 0 counts the inputs")
    if first.numel() == 0:
        raise SpecError(f"inputs of shape {tuple(first.shape)} are empty: give at least one")
    check_finite(first, "inputs")
