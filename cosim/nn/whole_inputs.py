"""Whole inputs through a converted network: as it is, and with every product through a reference."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cosim.errors import OutOfMemory, SolveError, SpecError, ToolError
from cosim.nn.estimates import Errors, share
from cosim.nn.inputs import Batch, first_tensor
from cosim.nn.model import ConvertedModel
from cosim.nn.sampled_tiles import Reference
from cosim.nn.validation_report import EndToEnd

__all__ = ["Pass", "check_outputs", "passes", "summary"]

_INPUTS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """Outputs of the inputs ``chosen`` by both; or the reason why there are none."""

    chosen: tuple[int, ...]
    outputs: torch.Tensor | None = None
    reference_outputs: torch.Tensor | None = None
    failure: str = ""


def check_outputs(model: ConvertedModel, given: Sequence[Batch], count: int, seed: int) -> None:
    """SpecError for a model that does not take some of its inputs, or whose outputs cannot be compared."""
    numbers, batch = next(_chosen(given, count, seed))
    try:
        result = model(*batch)
    except (SolveError, ToolError, OutOfMemory):
        return  # ``passes`` finds out for which inputs
    except SpecError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise SpecError(
            f"the model does not take {len(numbers)} inputs, as end_to_end gives: {error}"
        ) from error
    _output(result, len(numbers))


def passes(
    model: ConvertedModel, given: Sequence[Batch], count: int, reference: Reference, *, seed: int
) -> Iterator[Pass]:
    """``count`` inputs drawn with ``seed``, some at a time; one that a solver fails on is told apart.

    ``model`` is not changed.
    """
    mine, exact = copy.deepcopy(model), copy.deepcopy(model)
    for product in exact.products.values():
        product.set_engine(reference.engine, **reference.options)
    for numbers, batch in _chosen(given, count, seed):
        yield from _pass(mine, exact, numbers, batch)


def _pass(
    mine: ConvertedModel, exact: ConvertedModel, chosen: tuple[int, ...], batch: Batch
) -> Iterator[Pass]:
    for name, product in exact.products.items():  # both see the same realisation of read noise
        product.random_state.copy_(mine.products[name].random_state)
    try:
        found, truth = (_output(model(*batch), len(chosen)) for model in (mine, exact))
    except (SolveError, ToolError, OutOfMemory) as error:
        if len(chosen) == 1:
            yield Pass(chosen=chosen, failure=str(error))
            return
        middle, whole = len(chosen) // 2, range(len(chosen))
        for half in (whole[:middle], whole[middle:]):
            yield from _pass(mine, exact, tuple(chosen[k] for k in half), _select(batch, list(half)))
    else:
        yield Pass(chosen=chosen, outputs=found, reference_outputs=truth)


def _chosen(given: Sequence[Batch], count: int, seed: int) -> Iterator[tuple[tuple[int, ...], Batch]]:
    """Numbers of inputs over all batches, and the arguments for them, some at a time."""
    sizes = [len(first_tensor(batch)) for batch in given]
    drawn = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    start = 0
    for batch, size in zip(given, sizes, strict=True):
        here = drawn[(drawn >= start) & (drawn < start + size)]
        for numbers in here.split(_INPUTS_AT_ONCE) if len(here) else ():
            yield tuple(numbers.tolist()), _select(batch, (numbers - start).tolist())
        start += size


def _select(batch: Batch, places: list[int]) -> Batch:
    """Those inputs of a batch; an argument that does not count the inputs stays whole."""
    size = len(first_tensor(batch))
    return tuple(
        part[places] if isinstance(part, torch.Tensor) and part.ndim and len(part) == size else part
        for part in batch
    )


def _output(result: Any, count: int) -> torch.Tensor:
    """The output, of a tuple the first, ``(count, ...)``."""
    first = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(first, torch.Tensor) or first.ndim == 0 or len(first) != count:
        shape = f" of shape {tuple(first.shape)}" if isinstance(first, torch.Tensor) else ""
        raise SpecError(
            f"the model returned {type(first).__name__}{shape} for {count} inputs: end_to_end compares a "
            "tensor, or the first of a tuple, whose axis 0 counts the inputs"
        )
    return first.detach().cpu()


def summary(found: Sequence[Pass], confidence: float) -> EndToEnd:
    """Errors and decisions of all passes."""
    failures = Counter(f.failure for f in found if f.failure)
    done = [(f.outputs, f.reference_outputs) for f in found]
    pairs = [(a, b) for a, b in done if a is not None and b is not None]
    pairs = pairs or [(torch.zeros(0, 0), torch.zeros(0, 0))]
    outputs, truth = (torch.cat(side) for side in zip(*pairs, strict=True))
    errors = Errors.between(outputs.flatten(1), truth.flatten(1))
    agreement = None
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        same = outputs.argmax(1) == truth.argmax(1)
        agreement = share(int(same.sum()), len(same), confidence=confidence)
    return EndToEnd(
        chosen=tuple(number for f in found if not f.failure for number in f.chosen),
        failures=dict(failures),
        outputs=outputs,
        reference_outputs=truth,
        output_error=errors.rms(confidence=confidence),
        largest_output_error=errors.worst,
        agreement=agreement,
    )
