"""A Verilog-A file of your own in every engine: nonlinear cells, with wires, against ngspice."""

from __future__ import annotations

from pathlib import Path

import torch

import cosim


def main() -> None:
    source = Path(__file__).with_name("tunnel_junction.va")
    device = cosim.Device(source, v0=0.3, state="s", state_range=(0.05, 1.0))
    generator = torch.Generator().manual_seed(0)
    states = 0.05 + 0.95 * torch.rand(8, 6, generator=generator, dtype=torch.float64)
    tile = cosim.Tile(device, state=states, wires=cosim.Wires(row=5.0, column=5.0))
    voltages = torch.rand(4, 8, generator=generator, dtype=torch.float64)
    print(cosim.compare(tile, voltages, engines=("ideal", "linear", "newton"), reference="ngspice"))


if __name__ == "__main__":
    main()
