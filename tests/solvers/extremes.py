"""Tiles with any resistance anywhere: 0, 1e-12 to 1e30 ohm, open; cells over 15 decades; far ends."""

from __future__ import annotations

import numpy as np
import torch

from cosim.crossbar import Wires

NAMES = ("row", "column", "source", "sense", "source_far", "sense_far")


def extreme_tile(seed: int) -> tuple[torch.Tensor, torch.Tensor, Wires]:
    """Conductances (rows, columns) S, voltages (3, rows) V and wires; float64."""
    rng = np.random.default_rng(seed)
    rows, columns = (int(n) for n in rng.integers(1, 9, 2))
    top = rng.uniform(-15, 0)
    g = 10 ** rng.uniform(rng.uniform(-15, top), top, (rows, columns))
    g[rng.random((rows, columns)) < rng.choice([0.0, 0.0, 0.2])] = 0.0
    shapes = {
        "row": (rows, columns - 1),
        "column": (rows - 1, columns),
        "source": (rows,),
        "sense": (columns,),
        "source_far": (rows,),
        "sense_far": (columns,),
    }
    wires: dict[str, float | torch.Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith("far") and rng.random() < 0.4:
            continue
        if rng.random() < 0.5 or 0 in shape:
            wires[name] = float(_ohms(rng, ()))
        else:
            wires[name] = torch.from_numpy(_ohms(rng, shape))
    voltages = rng.uniform(-1, 1, (3, rows)) * 10 ** rng.uniform(-2, 0.5)
    return torch.from_numpy(g), torch.from_numpy(voltages), Wires(**wires)


def _ohms(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Drawn from one, two or all of the kinds: none, small, any, usual, open."""
    kinds = rng.choice(5, rng.choice([1, 1, 2, 5]), replace=False)
    drawn = [
        np.zeros(shape),
        10 ** rng.uniform(-12, -2, shape),
        10 ** rng.uniform(-12, 30, shape),
        10 ** rng.uniform(-1, 3, shape),
        np.full(shape, np.inf),
    ]
    return np.choose(rng.choice(kinds, shape), drawn)
