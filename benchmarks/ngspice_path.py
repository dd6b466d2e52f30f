"""What cosim costs around ngspice: the whole path against the same deck run by hand, and two workers.

    python benchmarks/ngspice_path.py [--size 128] [--batch 16] [--model stanford_pku]

Prints ratios: path over by hand (to be below 1.2), two jobs on two workers over one after the other
(to be below 0.6).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import cosim
from cosim.spice.tile import solve_tile


def timed(function, *arguments, **options) -> float:
    start = time.monotonic()
    function(*arguments, **options)
    return time.monotonic() - start


def by_hand(folder: str) -> None:
    """What a user types in the folder of a netlist."""
    subprocess.run(["ngspice", "-b", "testbench.sp"], cwd=folder, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", default="stanford_pku")
    options = parser.parse_args()

    device = cosim.Device(options.model)
    generator = np.random.default_rng(0)
    low, high = device.state_range
    states = low + (high - low) * generator.uniform(size=(2, options.size, options.size))
    tiles = cosim.Tile(device, state=states, wires=cosim.Wires(row=2.0, column=2.0))
    volts = generator.uniform(-0.3, 0.3, (options.batch, options.size))
    one = cosim.Tile(device, state=tiles.state[0], wires=tiles.wires)

    solve_tile(one, volts[:1])  # compiles the model
    with tempfile.TemporaryDirectory() as folder:
        cosim.write_netlist(one, folder, voltages=volts)
        hand = timed(by_hand, folder)
    path = timed(solve_tile, one, volts)
    print(f"{options.size}x{options.size} {options.model}, {options.batch} vectors")
    print(f"by hand {hand:.2f} s, path {path:.2f} s: ratio {path / hand:.3f}")
    serial = timed(solve_tile, tiles, volts)
    with ThreadPoolExecutor(2) as executor:
        parallel = timed(solve_tile, tiles, volts, executor=executor)
    print(f"two jobs in turn {serial:.2f} s, on two workers {parallel:.2f} s: ratio {parallel / serial:.3f}")


if __name__ == "__main__":
    main()
