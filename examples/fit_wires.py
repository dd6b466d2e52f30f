"""Gradients through the wires: fit their resistances to measured currents, then compensate for them."""

from __future__ import annotations

from collections.abc import Callable

import torch

import cosim

SIZE = 16
NAMES = ("row", "column", "source", "sense")
TRUTH = {"row": 5.0, "column": 8.0, "source": 60.0, "sense": 25.0}  # ohm; the fit does not see them
LOW, HIGH = 1e-6, 1e-4  # conductances that the cells can take, S


def minimise(loss: Callable[[], torch.Tensor], parameters: torch.Tensor, steps: int) -> None:
    """Quasi-Newton descent on ``parameters``, in place."""
    optimiser = torch.optim.LBFGS(
        [parameters], max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


def fit_wires(
    device: cosim.Device, conductance: torch.Tensor, voltages: torch.Tensor, measured: torch.Tensor
) -> dict[str, float]:
    """The four resistances that explain ``measured`` best."""
    logarithms = torch.full((4,), 10.0, dtype=torch.float64).log().requires_grad_()

    def wires() -> dict[str, torch.Tensor]:
        return dict(zip(NAMES, logarithms.exp(), strict=True))

    def loss() -> torch.Tensor:
        tile = cosim.Tile(device, conductance=conductance, wires=cosim.Wires(**wires()))
        currents = cosim.solve(tile, voltages, engine="linear").currents
        return ((currents - measured) / measured.abs().max()).square().mean()

    minimise(loss, logarithms, steps=60)
    return {name: ohm.item() for name, ohm in wires().items()}


def compensate(device: cosim.Device, target: torch.Tensor, wires: cosim.Wires) -> tuple[float, float]:
    """Retrain the conductances so that the tile multiplies by ``target``; the error before and after."""
    level = torch.logit((target - LOW) / (HIGH - LOW)).requires_grad_()
    unit = torch.eye(SIZE, dtype=torch.float64)  # 1 V on one row at a time: the matrix itself

    def error() -> torch.Tensor:
        conductance = LOW + (HIGH - LOW) * level.sigmoid()
        tile = cosim.Tile(device, conductance=conductance, wires=wires)
        return (cosim.solve(tile, unit, engine="linear").currents - target) / target.max()

    before = error().detach().abs().max().item()
    minimise(lambda: error().square().sum(), level, steps=15)
    return before, error().detach().abs().max().item()


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    device = cosim.Device("vteam", r_on=1 / HIGH, r_off=1 / LOW)
    conductance = 5e-6 + 45e-6 * torch.rand(SIZE, SIZE, generator=generator, dtype=torch.float64)
    voltages = 0.2 * torch.rand(64, SIZE, generator=generator, dtype=torch.float64)
    tile = cosim.Tile(device, conductance=conductance, wires=cosim.Wires(**TRUTH))
    exact = cosim.solve(tile, voltages, engine="linear").currents
    noise = torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    measured = exact * (1 + 1e-3 * noise)  # an ammeter of 0.1 %

    fitted = fit_wires(device, conductance, voltages, measured)
    print("wire resistances from 64 measured vectors, ohm")
    for name, ohm in fitted.items():
        print(f"{name:>8}: true {TRUTH[name]:6.2f}   fitted {ohm:6.2f}")

    before, after = compensate(device, conductance, cosim.Wires(**fitted))
    print("largest error of the matrix that the tile multiplies by, of its largest entry")
    print(f"  as programmed: {before:.2%}   conductances retrained: {after:.2%}")


if __name__ == "__main__":
    main()
