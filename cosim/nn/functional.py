"""A product on crossbars without a network."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from cosim.arrays import Array, as_tensor, check_finite, out_of_memory
from cosim.checks import as_instance
from cosim.errors import SpecError
from cosim.nn.hardware import Hardware
from cosim.nn.matmul import CrossbarMatmul

__all__ = ["matmul"]


def matmul(
    inputs: Array, weight: Array, *, generator: torch.Generator | None = None, **hardware: Any
) -> torch.Tensor:
    """``inputs @ weight.T`` on crossbars, without a network: ``(..., inputs)`` to ``(..., outputs)``.

    weight: ``(outputs, inputs)``. hardware: the fields of ``Hardware``, ``device`` among them. Ranges
    that it does not fix are those of the inputs. For many calls with one weight keep a ``CrossbarMatmul``.

    >>> import cosim
    >>> device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    >>> matmul([[1.0, 2.0]], [[0.5, -1.0], [1.0, 1.0]], device=device).tolist()[0]  # doctest: +ELLIPSIS
    [-1.5..., 3.0...]
    """
    if hardware.get("trainable") is True:
        raise SpecError(
            "trainable=True: matmul keeps no weight that could be trained; keep a CrossbarMatmul, "
            "or use cosim.convert"
        )
    if generator is not None:
        as_instance(generator, "generator", torch.Generator, "a torch.Generator, or None")
    vectors = check_finite(as_tensor(inputs, "inputs"), "inputs")
    known = [field.name for field in fields(Hardware)]
    for name in hardware:
        if name not in known:
            raise SpecError(f"matmul has no option {name!r}: choose from {', '.join(known)}")
    if "device" not in hardware:
        raise SpecError("matmul needs device=, such as cosim.Device('vteam')")
    if generator is not None:
        as_instance(generator, "generator", torch.Generator, "a torch.Generator")
    with out_of_memory(f"a product of {tuple(vectors.shape)} inputs"):
        product = CrossbarMatmul(
            as_tensor(weight, "weight").to(vectors), Hardware(**hardware), generator=generator
        )
        return product(vectors)
