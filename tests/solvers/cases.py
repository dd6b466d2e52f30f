"""Random tiles for the solvers' tests."""

from __future__ import annotations

import itertools

import torch

from cosim.crossbar import Wires

# every resistance zero or not: 16 combinations, all four values different
ZEROS = [
    Wires(row=2.0 * a, column=3.0 * b, source=50.0 * c, sense=7.0 * d)
    for a, b, c, d in itertools.product((0, 1), repeat=4)
]
UNEQUAL = Wires(row=2.0, column=30.0, source=500.0, sense=0.7)


def ohms(wires: Wires) -> dict[str, float]:
    """The four resistances as the reference's arguments."""
    return {name: float(getattr(wires, name)) for name in ("row", "column", "source", "sense")}


def name(wires: Wires) -> str:
    return "-".join(f"{value:g}" for value in ohms(wires).values())


def cells(*shape: int, seed: int = 0) -> torch.Tensor:
    """Conductances, S, logarithmic over 1e-6..1e-4."""
    generator = torch.Generator().manual_seed(seed)
    return 10 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 6)


def inputs(*shape: int, volt: float = 1.0, seed: int = 1) -> torch.Tensor:
    """Voltages, V, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1) * volt


def distance(actual: torch.Tensor, expected: object) -> float:
    """Largest difference, relative to the largest expected value."""
    truth = torch.as_tensor(expected)
    return float((actual - truth).abs().max() / truth.abs().max())
