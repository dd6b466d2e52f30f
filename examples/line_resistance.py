"""What wires do to a crossbar: the error of a product without wires, against their resistance."""

from __future__ import annotations

import torch

import cosim

SIZE = 32


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    conductance = 1e-6 + 99e-6 * torch.rand(SIZE, SIZE, generator=generator, dtype=torch.float64)
    voltages = 0.2 * torch.rand(8, SIZE, generator=generator, dtype=torch.float64)
    print(f"{SIZE} x {SIZE} cells of 10 kohm to 1 Mohm")
    print("ohm per segment   error without wires, of the largest current")
    for segment in (0.1, 1.0, 10.0):
        tile = cosim.Tile(device, conductance=conductance, wires=cosim.Wires(row=segment, column=segment))
        ideal = cosim.solve(tile, voltages, engine="ideal").currents
        exact = cosim.solve(tile, voltages, engine="linear").currents
        error = (ideal - exact).abs().max() / exact.abs().max()
        print(f"{segment:15g}   {error:.2%}")


if __name__ == "__main__":
    main()
