"""Observing: what every product in a network sees while it computes, and ranges from the first inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.periphery import FIRST_ROWS
from cosim.nn.recording import Recorder

__all__ = ["observed", "take_first_ranges"]


@contextmanager
def observed(
    network: nn.Module, recorders: Mapping[CrossbarMatmul, Recorder], *, digital: bool
) -> Iterator[None]:
    """In evaluation mode, and with every input of these products shown to their recorders.

    digital: all of these give what the digital network would. Afterwards all is as it was.
    """
    before = [(product, product.digital) for product in recorders]
    training = [module for module in network.modules() if module.training]
    try:
        for module in network.modules():
            module.training = False  # eval() would write the cells of every product again
        for product, recorder in recorders.items():
            product.digital = digital
            product.record(recorder)
        yield
    finally:
        for product, mode in before:
            product.digital = mode
            product.record(None)
        for module in training:
            module.training = True


@torch.no_grad()
def take_first_ranges(network: nn.Module, compute: Callable[[], Any]) -> None:
    """Missing ranges of all products from one digital pass of the first inputs, which ``compute`` makes.

    A product that is called several times in a pass, as in a loop over time, gets ranges for all calls.
    """
    products = [module for module in network.modules() if isinstance(module, CrossbarMatmul)]
    missing = [p for p in products if p.ranges_missing and not (p.digital or p.recording)]
    if not missing:
        return
    recorders = {product: Recorder(FIRST_ROWS) for product in products if not product.recording}
    # no random number that the caller's own pass will draw is used up
    with observed(network, recorders, digital=True), torch.random.fork_rng(devices=[]):
        compute()
    for product in missing:
        product.take_recorded(recorders[product])
