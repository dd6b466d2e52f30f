"""Recording: what the inputs of a layer look like during a forward pass."""

from __future__ import annotations

import torch

from cosim.checks import as_seed

__all__ = ["Recorder"]


class Recorder:
    """Keeps the largest magnitude of all inputs, and at most ``limit`` rows drawn evenly from them.

    seen: how many rows passed. rows: ``(groups, n, inputs)`` in random order, None before the first.
    Rows that are not finite in every group only count as seen. Every other row that passes has the same
    chance to be kept (by random keys), and each group of a grouped product keeps the same places.
    """

    def __init__(self, limit: int, *, seed: int = 0) -> None:
        self.limit = limit
        self.seen = 0
        self.largest: torch.Tensor | None = None
        self.rows: torch.Tensor | None = None  # (groups, n, inputs)
        self._keys = torch.empty(0)
        self._generator = torch.Generator().manual_seed(as_seed(seed))

    def see(self, inputs: torch.Tensor) -> None:
        """Inputs ``(groups, n, inputs)`` of one product."""
        inputs = inputs.detach()
        if inputs.shape[1] == 0:
            return
        self.seen += inputs.shape[1]
        finite = inputs.isfinite().all(-1).all(0)
        inputs = inputs if bool(finite.all()) else inputs[:, finite]
        if inputs.shape[1] == 0:
            return
        largest = inputs.abs().amax()
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        keys = torch.rand(inputs.shape[1], generator=self._generator)
        keys, best = keys.topk(min(self.limit, len(keys)))
        rows = inputs[:, best.to(inputs.device)]
        if self.rows is not None:
            keys, rows = torch.cat([self._keys, keys]), torch.cat([self.rows, rows], 1)
            keys, best = keys.topk(min(self.limit, len(keys)))
            rows = rows[:, best.to(rows.device)]
        self._keys, self.rows = keys, rows
