"""Crossbars, tiles, passive arrays and programming with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.bh.crossbar import Passive, Program, Tile
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar, Scheme, init_crossbar, simulate_matmul
from cosim.memtorch.bh.crossbar.Passive import solve_passive
from cosim.memtorch.bh.crossbar.Program import gen_programming_signal, naive_program
from cosim.memtorch.bh.crossbar.Tile import gen_tiles, tile_matmul, tiled_inference

__all__ = [
    "Crossbar",
    "Passive",
    "Program",
    "Scheme",
    "Tile",
    "gen_programming_signal",
    "gen_tiles",
    "init_crossbar",
    "naive_program",
    "simulate_matmul",
    "solve_passive",
    "tile_matmul",
    "tiled_inference",
]
