"""Exact elimination of the wires around linear cells, row by row, without cancellation.

A word line seen from the bit lines is a dense admittance ``Y_i`` (columns x columns). Going down
the rows, the network above row i is an admittance ``A`` seen from the bit-line nodes of that row;
one bit-line segment of r ohm turns it into ``A' = (I + r A)^-1 A``, then the next ``Y_i`` is added.
Every resistance enters as a resistance, so each of them may be 0 and nothing is ever subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosim.crossbar import Wires

__all__ = ["Elimination", "WordLines", "line_resistance"]


def line_resistance(count: int, segment: float, end: float, *, like: torch.Tensor) -> torch.Tensor:
    """Resistance shared by the paths from nodes k and l of a line to its near end, ``(count, count)`` ohm.

    Node 0 is next to the ``end`` resistance: entry (k, l) is ``end + segment * min(k, l)``.
    """
    node = torch.arange(count, device=like.device, dtype=like.dtype)
    return end + segment * torch.minimum(node[:, None], node[None, :])


@dataclass(frozen=True, kw_only=True)
class WordLines:
    """All word lines of some tiles with their cells, seen from the bit-line nodes.

    conductance: g, ``(*tiles, rows, columns)`` S.
    injection: current into grounded bit lines per volt of the driver, the same shape, S.
    """

    conductance: torch.Tensor
    injection: torch.Tensor
    diagonal: torch.Tensor  # (*tiles, rows, columns) S, of Y_i
    coupling: torch.Tensor  # (*tiles, rows, columns): g_k times the impedance at node k
    divider: torch.Tensor  # (*tiles, rows, columns): voltage at node k over that at node k - 1
    upper: torch.Tensor  # (columns, columns): True above the diagonal

    @classmethod
    def scan(cls, conductance: torch.Tensor, wires: Wires) -> WordLines:
        """One sweep from each end of the lines; all rows and tiles at once."""
        cells = conductance.unbind(-1)
        towards_source = [torch.full_like(cells[0], float(wires.source or 0.0))]  # ohm
        for cell in cells[:-1]:
            near = towards_source[-1]
            towards_source.append(wires.row + near / (1 + cell * near))
        towards_end = [torch.zeros_like(cells[0])]  # S
        for cell in reversed(cells[1:]):
            far = towards_end[-1] + cell
            towards_end.append(far / (1 + wires.row * far))
        z = torch.stack(towards_source, -1)
        y = torch.stack(towards_end[::-1], -1)
        g = conductance
        loaded = 1 / (1 + z * (y + g))
        entry = loaded[..., :1]  # voltage at node 0 over that of the driver
        divider = 1 / (1 + wires.row * (y + g)[..., 1:])
        divider = torch.cat([entry, divider], -1)
        node = torch.arange(len(cells), device=g.device)
        return cls(
            conductance=g,
            injection=g * divider.cumprod(-1),
            diagonal=g * (1 + z * y) * loaded,
            coupling=g * z * loaded,
            divider=divider,
            upper=node[:, None] < node,
        )

    def admittance(self, row: int) -> torch.Tensor:
        """``Y`` of one row, ``(*tiles, columns, columns)`` S; symmetric."""
        parts = (self.conductance, self.diagonal, self.coupling, self.divider)
        g, diagonal, coupling, divider = (part[..., row, :] for part in parts)
        # from node k to node l > k: the product of the dividers on the way
        transfer = torch.where(self.upper, divider[..., None, :], 1.0).cumprod(-1)
        upper = torch.where(self.upper, coupling[..., :, None] * transfer * g[..., None, :], 0.0)
        return torch.diag_embed(diagonal) - upper - upper.mT


class Elimination:
    """Linear cells of conductance g in their wires, factored: ``solve`` gives the cell voltages.

    With ``inject`` the transfer (*systems, rows, columns) S from drivers to sense nodes is carried
    along. With ``keep`` what ``solve`` needs is kept: one dense block per row and system (two with
    ``keep_lines``, which saves work where ``solve`` runs more than once).
    """

    def __init__(
        self,
        conductance: torch.Tensor,
        wires: Wires,
        *,
        inject: bool = False,
        keep: bool = True,
        keep_lines: bool = False,
    ) -> None:
        # the dense blocks are as wide as a row: lay the shorter side along it (reciprocity)
        self._turned = conductance.shape[-1] > conductance.shape[-2]
        if self._turned:
            conductance = _turn(conductance)
            wires = Wires(row=wires.column, column=wires.row, source=wires.sense, sense=wires.source)
        self._wires = wires
        self._lines = WordLines.scan(conductance, wires)
        rows = range(conductance.shape[-2])
        blocks = [self._lines.admittance(row) for row in rows] if keep_lines else []
        self._blocks = torch.stack(blocks, -3) if keep_lines else None
        del blocks
        self._passed: list[torch.Tensor] = []  # A' of every row
        self._last: torch.Tensor | None = None  # (I + sense A)^-1 of the whole network
        self.transfer: torch.Tensor | None = None
        self._sweep(inject=inject, keep=keep)

    def _line(self, row: int) -> torch.Tensor:
        return self._lines.admittance(row) if self._blocks is None else self._blocks[..., row, :, :]

    def _through_lines(self, volts: torch.Tensor) -> torch.Tensor:
        """``Y`` of every row times the voltages ``(*systems, rows, batch, columns)``, A."""
        if self._blocks is not None:
            return volts @ self._blocks
        parts = [volts[..., row, :, :] @ self._line(row) for row in range(volts.shape[-3])]
        return torch.stack(parts, -3)

    def _segment(self, row: int) -> float:
        rows = self._lines.conductance.shape[-2]
        return self._wires.column if row + 1 < rows else float(self._wires.sense or 0.0)

    @property
    def _grounded(self) -> bool:
        return not (self._wires.column or self._wires.sense)

    def _sweep(self, *, inject: bool, keep: bool) -> None:
        """Go down the rows; see the module's text for the recursion."""
        lines = self._lines
        rows, columns = lines.conductance.shape[-2:]
        if self._grounded:
            self.transfer = self._turn_back(lines.injection) if inject else None
            return
        identity = torch.eye(columns, dtype=lines.conductance.dtype, device=lines.conductance.device)
        passed = torch.zeros_like(identity)
        injected = lines.injection[..., :0, :].mT  # (*systems, columns, 0)
        for row in range(rows):
            above = passed + self._line(row)
            if inject:
                injected = torch.cat([injected, lines.injection[..., row, :, None]], -1)
            ohm = self._segment(row)
            last = keep and row + 1 == rows
            right = torch.cat([above, injected, *([identity.expand_as(above)] if last else [])], -1)
            if ohm:
                right = torch.linalg.solve_ex(identity + ohm * above, right).result
            passed, injected = right[..., :columns], right[..., columns : columns + injected.shape[-1]]
            if keep:
                self._passed.append(passed.contiguous())
            if last:
                self._last = right[..., -columns:]
        self.transfer = self._turn_back(injected.mT) if inject else None

    def _turn_back(self, cells: torch.Tensor) -> torch.Tensor:
        return _turn(cells) if self._turned else cells

    def solve(self, drops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Voltages V and currents A of the cells, both ``(*systems, batch, rows, columns)``.

        drops: h, V, the same shape: the voltage in series with each cell. A batch of input
        vectors v is ``h = v[..., None]``; the voltages e satisfy
        ``e + (g e) R_word + R_bit (g e) = h``.
        """
        h = self._turn_back(drops).transpose(-3, -2)  # (*systems, rows, batch, columns)
        columns = self._lines.conductance.shape[-1]
        bit = torch.zeros_like(h) if self._grounded else self._bit_voltages(h)
        current = self._through_lines(h - bit)
        resistance = line_resistance(columns, self._wires.row, float(self._wires.source or 0.0), like=h)
        voltage = h - bit - current @ resistance
        back = (self._turn_back(part.transpose(-3, -2)) for part in (voltage, current))
        return next(back), next(back)

    def _bit_voltages(self, h: torch.Tensor) -> torch.Tensor:
        """Down the rows with the currents, up the rows with the voltages."""
        assert self._last is not None, "factored with keep=False"
        rows = h.shape[-3]
        injected = self._through_lines(h)
        above = torch.zeros_like(h[..., 0, :, :])
        flows = []  # into the segment below each row, were its lower end at 0 V
        for row in range(rows):
            above = above + injected[..., row, :, :]
            if row + 1 < rows:
                # (I + r A)^-1 = I - r A'; between rows r A is small enough for this difference
                above = above - self._segment(row) * (above @ self._passed[row])
            else:
                above = above @ self._last
            flows.append(above)
        below = flows[-1] * self._segment(rows - 1)
        voltages = [below]
        for row in reversed(range(rows - 1)):
            flow = flows[row] - below @ self._passed[row]
            below = below + self._segment(row) * flow
            voltages.append(below)
        return torch.stack(voltages[::-1], -3)


def _turn(cells: torch.Tensor) -> torch.Tensor:
    """Exchange word and bit lines: mirror the last two axes along the anti-diagonal."""
    return cells.flip(-1, -2).mT
