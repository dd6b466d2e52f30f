"""Newton's method compiled: one vector at a time in the cache of a core, on every thread that torch has.

It finds cell currents, fast; whoever calls it evaluates what they are worth, and solves the vectors that
it gives up: overflow, negative slopes, conjugate gradients that take too long. See ``newton.c``.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from cosim.devices.print_cells import CellLoop
from cosim.solvers.library import LANES, Task, library, numbers, pointers, spread
from cosim.solvers.network import Network

__all__ = ["Compiled", "compiles", "solve_compiled"]

_STEPS = 60
_PRODUCTS = 16  # of conjugate gradients, times the lines of the tile; more cost more than factors do


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What the compiled iteration found; ``solved`` by its own measure, which is the caller's to check."""

    current: torch.Tensor  # (tiles, rows, batch, columns) A
    solved: torch.Tensor  # (tiles, batch)
    iterations: torch.Tensor  # (tiles, batch)
    products: torch.Tensor  # (tiles, batch), of conjugate gradients


def compiles(network: Network) -> bool:
    """True where there is compiled code for the cells, and for the dtype and device of the tensors."""
    return _code(network) is not None


def solve_compiled(network: Network) -> Compiled | None:
    """Cell currents of every vector; None unless ``compiles``."""
    found = _code(network)
    return None if found is None else _run(*found, network)


def _code(network: Network) -> tuple[ctypes.CDLL, CellLoop] | None:
    loop = network.cells.loop
    code = None if loop is None else library(loop, network.drive)
    return None if loop is None or code is None else (code, loop)


def _run(code: ctypes.CDLL, loop: CellLoop, network: Network) -> Compiled:
    rows, columns = network.shape
    tiles, _, batch, _ = shape = network.unloaded.shape
    drive = network.unloaded
    current = drive.new_empty(shape)
    solved = torch.empty(tiles, batch, dtype=torch.bool)
    iterations, products = (torch.empty(tiles, batch, dtype=torch.long) for _ in range(2))
    fields = [_laned(spread(field, network.shape).transpose(1, 2)) for field in network.cells.fields()]
    lines = _lines(network)
    rough = [part if part is None else part.float() for part in lines]
    field_pointers = pointers(fields)
    field_strides = numbers([_stride(field, axis) for field in fields for axis in (0, 1)])
    constants = torch.tensor(loop.constants, dtype=torch.float64)
    task = Task(
        tiles=tiles,
        batch=batch,
        rows=rows,
        columns=columns,
        steps=-(-columns // LANES),
        constants=constants.data_ptr(),
        fields=ctypes.addressof(field_pointers),
        field_strides=ctypes.addressof(field_strides),
        lines=pointers(lines),
        rough=pointers(rough),
        lines_stride=max(_stride(part, 0) for part in lines if part is not None),
        drive=drive.data_ptr(),
        drive_strides=numbers(drive.stride()),
        current=current.data_ptr(),
        tolerance=network.tolerance,
        turned=network.turned,
        max_steps=_STEPS,
        max_products=_PRODUCTS * (rows + columns),
        solved=solved.data_ptr(),
        iterations=iterations.data_ptr(),
        products=products.data_ptr(),
    )
    task.kept = (constants, fields, field_pointers, field_strides, lines, rough, drive)
    task.kept += (current, solved, iterations, products)
    _on_every_thread(code, task, tiles * batch)
    return Compiled(current=current, solved=solved, iterations=iterations, products=products)


def _on_every_thread(code: ctypes.CDLL, task: Task, vectors: int) -> None:
    """The threads take vectors from the task until none is left."""
    threads = max(1, min(torch.get_num_threads(), vectors))
    if threads == 1:
        failed = code.cosim_solve(ctypes.byref(task))
    else:
        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of Python's lock
            try:
                failed = any(pool.map(code.cosim_solve, [ctypes.byref(task)] * threads))
            except KeyboardInterrupt:
                task.next = vectors  # each thread stops after the vector that it has
                raise
    if failed:
        raise MemoryError(f"no memory for the cells of one {task.rows}x{task.columns} tile")


def _lines(network: Network) -> list[torch.Tensor | None]:
    """Arms of word and bit lines, as newton.c has them; one leading axis for all."""
    word, bit = network.lines.word_arms(), network.lines.bit_arms()
    parts = (word.near, bit.near, word.rest, bit.rest)
    size = (max(len(part) for part in parts if part is not None), *network.shape)
    return [part if part is None else _laned(part[:, :, 0].expand(size)) for part in parts]


def _laned(cells: torch.Tensor) -> torch.Tensor:
    """The last axis in groups of lanes, see drop.h; what fills up the last lane repeats a cell."""
    columns = cells.shape[-1]
    steps = -(-columns // LANES)
    more = steps * LANES - columns
    full = torch.cat([cells, cells[..., -1:].expand(*cells.shape[:-1], more)], -1) if more else cells
    return full.unflatten(-1, (LANES, steps)).mT.clone(memory_format=torch.contiguous_format).flatten(-2)


def _stride(part: torch.Tensor, axis: int) -> int:
    return 0 if part.shape[axis] == 1 else part.stride(axis)
