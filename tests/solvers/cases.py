"""Random tiles for the solvers' tests."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from cosim.crossbar import Wires

# every resistance zero or not: 16 combinations, all four values different
ZEROS = [
    Wires(row=2.0 * a, column=3.0 * b, source=50.0 * c, sense=7.0 * d)
    for a, b, c, d in itertools.product((0, 1), repeat=4)
]
UNEQUAL = Wires(row=2.0, column=30.0, source=500.0, sense=0.7)
BOTH_ENDS = Wires(row=2.0, column=30.0, source=500.0, sense=0.7, source_far=90.0, sense_far=4.0)


def ohms(wires: Wires) -> dict[str, Any]:
    """The resistances as the reference's arguments; tensors of one tile with the axes that it wants."""
    out = {}
    for name in ("row", "column", "source", "sense", "source_far", "sense_far"):
        value = getattr(wires, name)
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
            value = value[:, None] if name in ("source", "source_far") else value
            value = value[:, None] if name == "row" and value.ndim == 1 else value
        out[name] = value
    return out


def name(wires: Wires) -> str:
    return "-".join(f"{value:g}" for value in ohms(wires).values() if value is not None)


def segments(
    rows: int, columns: int, *lead: int, zeros: float = 0.3, far: str = "", scale: float = 50.0, seed: int = 0
) -> Wires:
    """A resistance of its own for every segment, a share of them 0; ``far``: which far ends are there."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        ohm = (0.1 + torch.rand(*lead, *shape, generator=generator, dtype=torch.float64)) * scale
        return ohm * (torch.rand(*lead, *shape, generator=generator) >= zeros)

    ends = {"source": draw(rows), "sense": draw(columns)}
    ends |= {f"{end}_far": draw(rows if end == "source" else columns) for end in far.split()}
    return Wires(row=draw(rows, columns - 1), column=draw(rows - 1, columns), **ends)


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
