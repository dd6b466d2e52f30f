"""The one primitive of every crossbar layer: the signed product of a batch with a weight matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias, final

import torch
from torch.nn.functional import pad

from cosim.arrays import Array, as_tensor, check_finite
from cosim.crossbar import Tile
from cosim.engines import find_engine
from cosim.errors import SolveError, SpecError
from cosim.nn.cell_matrix import READS
from cosim.nn.cells import conductance_range
from cosim.nn.hardware import Hardware
from cosim.nn.periphery import Periphery
from cosim.nn.recording import Recorder
from cosim.nn.tuning import Fit, fit_outputs
from cosim.solvers.linear import LinearNetwork
from cosim.wires import Wires

__all__ = ["CrossbarMatmul"]

_MATRIX_ENGINES = ("ideal", "linear")

_Part: TypeAlias = tuple[slice, slice, torch.Tensor]  # groups, rows, what these have per column


@final
class CrossbarMatmul(Periphery):
    """``inputs @ weight.T`` on crossbar tiles, prepared once.

    weight: ``(outputs, inputs)`` or ``(groups, outputs, inputs)``; each group has its own tiles.
    Partial sums of tiles that share an output are converted one by one and then added. With a
    matrix engine ("ideal", "linear") and neither ADC nor read noise, everything up to the output is
    one matrix of the size of the weight, and a forward costs one product.

    Buffers: ``conductance`` (S, after the non-idealities), ranges, tuning. What follows from them is
    computed again after ``load_state_dict`` and is not saved.

    >>> import cosim
    >>> product = CrossbarMatmul([[1.0, -0.5]], Hardware(device=cosim.Device("vteam")))
    >>> round(float(product(torch.tensor([[1.0, 1.0]], dtype=torch.float64))), 9)
    0.5
    """

    gain: torch.Tensor
    offset: torch.Tensor
    transfer: torch.Tensor | None

    def __init__(
        self, weight: Array, hardware: Hardware, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(weight, hardware, generator=generator)
        self.engine = hardware.engine
        self.digital = False
        self.tuned_for = ""  # the engine that the lines of ``tune`` hold for; "" for every one
        self._engine_options: dict[str, Any] = {}
        self._recorder: Recorder | None = None
        self._tile: Tile | None = None
        with torch.no_grad():
            self._reset_tuning()
            self.prepare()

    # --- preparation --------------------------------------------------------------------------------

    def set_engine(self, engine: str, **options: Any) -> None:
        """Compute with another engine from now on; ranges and tuning stay.

        options: of "newton" or "ngspice" (``solve``), neither copied nor saved with the product.
        """
        known = () if engine in _MATRIX_ENGINES else find_engine(engine).options
        for name in options:
            if name not in known:
                raise SpecError(f"engine {engine!r} has no option {name!r} here; choose from {known}")
        self.engine, self._engine_options = engine, options
        self._changed()

    def prepare(self) -> None:
        """Compute what a forward needs from the cells: the folded matrix, or the transfer matrices."""
        self._tile = None
        active = self.tuned_for in ("", self.engine)
        self._tuned = active and bool((self.gain != 1).any() or (self.offset != 0).any())
        self._tile_gain = self._tuned and bool((self.gain != self.gain[:, :1]).any())
        self._noisy = bool(self.read_noise > 0)
        transfer = None
        if self.folded:
            transfer = self._fold()
        elif self.engine in _MATRIX_ENGINES:
            transfer = self._blocks(self._parts(), subtracted=self._paired)
        self.register_buffer("transfer", transfer, persistent=False)

    @property
    def folded(self) -> bool:
        """True when the product is one matrix, ``effective_weight``."""
        plain = self.hardware.adc is None and not self._noisy and not self._corrected
        return self.engine in _MATRIX_ENGINES and plain

    @property
    def _paired(self) -> bool:
        """True when columns are subtracted before anything nonlinear: half of the products."""
        adc = self.hardware.adc
        first = adc is not None and adc.at == "difference" and not self._noisy and not self._corrected
        return first and self.engine in _MATRIX_ENGINES

    def _parts(self) -> Iterator[_Part]:
        """Currents per volt of some rows of some groups, with these: ``(groups, rows, columns)`` S."""
        tiling, fill, wires = self.tiling, self.hardware.conductances[0], self._wires
        ideal = self.engine == "ideal" or wires.ideal
        if ideal and self.conductance.requires_grad:  # many pieces cost the backward pass time
            yield from self._whole(self.conductance)
            return
        # some groups and one row of tiles at a time: the padded tiles are larger than the matrix
        chunk = max(1, self.hardware.memory // (8 * tiling.height * tiling.width * tiling.across * 8))
        for top in range(0, tiling.rows, tiling.height):
            rows = slice(top, min(top + tiling.height, tiling.rows))
            for first in range(0, tiling.groups, chunk):
                groups = slice(first, first + chunk)
                part = self.conductance[groups, rows]
                if not ideal:
                    part = tiling.join(self._effective(tiling.cut(part, fill)))[:, 0, : part.shape[1]]
                yield groups, rows, part

    def _effective(self, tiles: torch.Tensor) -> torch.Tensor:
        """G_eff in the precision of the weights; in float64 where that is not enough."""
        for dtype in dict.fromkeys((tiles.dtype, torch.float64)):
            network = LinearNetwork.factor(tiles.to(dtype), self._wires)
            if bool(network.solved.all()):
                return network.transfer.to(tiles)
        raise SolveError(
            f"the wire network of a {self.tiling.height}x{self.tiling.width} tile has no solution in "
            "float64: look for cells that short long wires, or resistances that differ by 1e12 and more"
        )

    @property
    def _wires(self) -> Wires:
        assert self.hardware.wires is not None
        return self.hardware.wires

    def _whole(self, cells: torch.Tensor) -> list[_Part]:
        """All cells ``(groups, rows, columns)`` as one part."""
        return [(slice(None), slice(0, self.tiling.rows), cells)]

    def _fold(self) -> torch.Tensor:
        """``(groups, outputs, inputs)``: everything up to the output."""
        scheme, found = self.hardware.scheme, torch.empty_like(self.weight)
        for groups, rows, part in self._parts():
            outputs = scheme.combine(scheme.difference(part)) - self.zero
            found[groups, :, rows] = (outputs / self.scale).mT
        return found

    def _blocks(self, parts: Iterable[_Part], *, subtracted: bool = False) -> torch.Tensor:
        """What columns have, or pairs subtracted, as ``(groups, R, height, columns)``."""
        tiling, scheme = self.tiling, self.hardware.scheme
        width = tiling.columns // 2 if subtracted and scheme.paired else tiling.columns
        found = self.conductance.new_zeros(tiling.groups, tiling.padded_rows, width)
        for groups, rows, part in parts:
            found[groups, rows] = scheme.difference(part) if subtracted else part
        return found.unflatten(1, (tiling.down, -1))

    def tile(self) -> Tile:
        """All tiles as one ``cosim.Tile`` ``(groups, R, C, height, width)``, for any solver."""
        self.update()
        if self._tile is None:
            self._tile = self._cut_tile(self.tiling.cut)
        return self._tile

    def some_tiles(self, numbers: torch.Tensor) -> Tile:
        """Tiles by their numbers in ``tile()``, ``(k,)``, as one ``cosim.Tile`` ``(k, height, width)``."""
        return self._cut_tile(lambda cells, fill: self.tiling.cut(cells, fill).flatten(0, 2)[numbers])

    def _cut_tile(self, cut: Callable[[torch.Tensor, float], torch.Tensor]) -> Tile:
        self.update()
        device = self._device(cut)
        low, high = conductance_range(device, self.hardware.v_read)
        cells = cut(self.conductance.double(), self.hardware.conductances[0])
        # float32 conductances may lie a rounding outside what the device reaches
        cells = cells.clamp(low.to(cells), high.to(cells))
        return Tile(device, conductance=cells, wires=self._wires, v_read=self.hardware.v_read)

    # --- computing ----------------------------------------------------------------------------------

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``; with groups ``(groups, n, inputs)`` to the same."""
        if inputs.dtype != self.weight.dtype:  # half precision does not hold currents
            return self.forward(inputs.to(self.weight.dtype)).to(inputs.dtype)
        outputs = self._product(self._vectors(inputs))
        return outputs if self.grouped else outputs.reshape(*inputs.shape[:-1], self.weight.shape[-2])

    def _vectors(self, inputs: torch.Tensor) -> torch.Tensor:
        """What ``forward`` takes, as ``(groups, n, inputs)``; SpecError for another shape."""
        groups, rows = self.tiling.groups, self.tiling.rows
        if self.grouped:
            fits = inputs.ndim == 3 and inputs.shape[::2] == (groups, rows)
        else:
            fits = inputs.shape[-1:] == (rows,)
        if not fits:
            axes = f"({groups}, n, {rows})" if self.grouped else f"(..., {rows})"
            raise SpecError(f"inputs of shape {tuple(inputs.shape)} do not fit the weight: give {axes}")
        return inputs if self.grouped else inputs.reshape(1, inputs.shape[:-1].numel(), rows)

    def _product(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._recorder is not None:
            self._recorder.see(inputs)
        if self.digital:
            return inputs @ self.weight.transpose(-1, -2)
        if self.ranges_missing:
            self.take_ranges([inputs])
        self.update()
        if self.folded:
            return self.finish(self.quantise(inputs) @ self.effective_weight.transpose(-1, -2))
        generator = self._draw(READS) if self._noisy else None
        with torch.autocast(inputs.device.type, enabled=False):  # half precision does not hold currents
            outputs = [
                self._tuned_sum(self._partials(part, generator))
                for part in inputs.split(self._rows_at_once, 1)
            ]
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]

    def _tuned_sum(self, partials: torch.Tensor) -> torch.Tensor:
        """Outputs of each row of tiles ``(groups, R, n, outputs)``, each with its line, added."""
        if not self._tuned:
            return partials.sum(1)
        return (partials * self.gain[:, :, None]).sum(1) + self.offset[:, None]

    @property
    def effective_weight(self) -> torch.Tensor:
        """``(groups, outputs, inputs)`` that a folded product multiplies with; ``finish`` comes after."""
        self.update()
        if not self.folded or self.transfer is None:
            raise SpecError("there is no one matrix: an ADC, read noise or the engine is not linear")
        if not self._tile_gain:
            return self.transfer
        gain = self.gain.repeat_interleave(self.tiling.height, 1)[:, : self.tiling.rows]
        return self.transfer * gain.transpose(-1, -2)

    def finish(self, outputs: torch.Tensor, axis: int = -1) -> torch.Tensor:
        """Tuning of folded outputs ``(groups, n, outputs)``; axis: where groups*outputs lie instead."""
        if not self._tuned:
            return outputs
        gain = torch.ones_like(self.offset) if self._tile_gain else self.gain[:, 0]
        if axis == -1:
            return outputs * gain[:, None] + self.offset[:, None]
        shape = [1] * outputs.ndim
        shape[axis] = -1
        return outputs * gain.reshape(shape) + self.offset.reshape(shape)

    @property
    def _rows_at_once(self) -> int:
        lines = self.tiling.down * self.tiling.groups * (self.tiling.columns + self.tiling.height)
        return max(1, self.hardware.memory // (4 * lines * self.conductance.element_size()))

    def _partials(self, inputs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Outputs of each row of tiles before tuning, ``(groups, R, n, outputs)``."""
        if self.folded and self.transfer is not None:
            inputs = self.tiling.split_rows(self.quantise(inputs))
            return inputs @ self.tiling.split_rows(self.transfer).transpose(-1, -2)
        driven, per_volt = self.drive(inputs)
        volts = self.tiling.split_rows(driven)
        currents = self._currents(volts)
        if generator is not None:
            currents = currents + self._noise(volts, generator)
        return self.read_out(currents, volts, per_volt, subtracted=self._paired)

    def read_out(
        self, currents: torch.Tensor, volts: torch.Tensor, per_volt: torch.Tensor, *, subtracted: bool = False
    ) -> torch.Tensor:
        """Column currents ``(groups, R, n, columns)`` A as outputs of each row of tiles, before tuning.

        volts: ``(groups, R, n, height)``. per_volt: what one volt stands for (``drive``). subtracted:
        pairs of columns are subtracted already.
        """
        scheme = self.hardware.scheme
        outputs = scheme.combine(self._convert(currents, subtracted))
        outputs = outputs - self.zero * volts.sum(-1, keepdim=True)
        return outputs / self.scale * (per_volt[:, None] if per_volt.ndim else per_volt)

    def volts(self, inputs: Array) -> torch.Tensor:
        """What ``forward`` takes, as voltages of ``tile()``: ``(groups, R, 1, n, height)`` V.

        ``cosim.solve(product.tile(), product.volts(x))`` gives the currents that ``read`` takes. Rows
        without a weight are at 0 V. Raises SpecError while full scale is not known.

        >>> import cosim
        >>> product = CrossbarMatmul([[1.0, -0.5]], Hardware(device=cosim.Device("vteam"), tile_shape=(4, 4)))
        >>> x = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
        >>> product.calibrate(x[None], x.max())
        >>> solution = cosim.solve(product.tile(), product.volts(x))
        >>> solution.currents.shape, round(float(product.read(solution.currents, x)), 6)
        (torch.Size([1, 1, 1, 1, 4]), 0.75)
        """
        driven, _ = self._driven(inputs)
        volts = self.tiling.split_rows(driven)
        return pad(volts, (0, self.tiling.height - volts.shape[-1]))[:, :, None]

    def read(self, currents: torch.Tensor, inputs: Array) -> torch.Tensor:
        """Currents of ``tile()`` at ``volts(inputs)``, ``(groups, R, C, n, width)`` A, as outputs."""
        driven, per_volt = self._driven(inputs)
        volts = self.tiling.split_rows(driven)
        outputs = self._tuned_sum(self.read_out(self.tiling.join(currents).to(volts), volts, per_volt))
        shape = torch.as_tensor(inputs).shape
        return outputs if self.grouped else outputs.reshape(*shape[:-1], self.weight.shape[-2])

    def _driven(self, inputs: Array) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = check_finite(as_tensor(inputs, "inputs", like=self.weight), "inputs").to(self.weight.dtype)
        if bool(self.full_scale.isnan()):
            raise SpecError(
                f"{self._called}: full scale is not known, so inputs are no volts yet: call calibrate(inputs)"
            )
        return self.drive(self._vectors(vectors))

    def _currents(self, volts: torch.Tensor) -> torch.Tensor:
        """``(groups, R, n, height)`` V to ``(groups, R, n, columns)`` A."""
        currents = self._solved(volts)
        if not self._corrected:
            return currents
        assert self.current_gain is not None
        assert self.current_offset is not None
        return currents * self.current_gain + self.current_offset

    def _solved(self, volts: torch.Tensor) -> torch.Tensor:
        if self.transfer is not None:
            return volts @ self.transfer
        if self.hardware.trainable and self.training and self.engine == "ngspice":
            raise SpecError(
                "engine 'ngspice' has no gradients: train with 'linear' or 'newton', use ngspice in eval()"
            )
        spare = self.tiling.height - volts.shape[-1]
        padded = pad(volts, (0, spare))[:, :, None].double()
        solution = find_engine(self.engine).solve(self.tile(), padded, **self._engine_options).check()
        return self.tiling.join(solution.currents).to(volts)

    def _noise(self, volts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        variance = volts.square() @ self._blocks(self._whole(self.conductance.square()))
        drawn = torch.randn(variance.shape, generator=generator, device=variance.device, dtype=variance.dtype)
        some = variance > 0  # the gradient of a root of 0 is not finite
        return self.read_noise * some * torch.where(some, variance, 1.0).sqrt() * drawn

    # --- ranges and tuning --------------------------------------------------------------------------

    def _reset_tuning(self) -> None:
        tiling = self.tiling
        shape = (tiling.groups, tiling.down, self.weight.shape[1])
        self.register_buffer("gain", self.scale.new_ones(shape))
        self.register_buffer("offset", self.scale.new_zeros(shape[0], shape[2]))
        self._tuned = self._tile_gain = False
        self.tuned_for = ""

    @property
    def recording(self) -> bool:
        """True while the inputs are being recorded (``record``)."""
        return self._recorder is not None

    def record(self, recorder: Recorder | None) -> None:
        """Show every input to ``recorder`` from now on; None stops it."""
        self._recorder = recorder

    def _scale_offset(self, factor: torch.Tensor) -> None:
        self.offset = self.offset * factor

    def _linear_blocks(self) -> torch.Tensor:
        return self._blocks(self._parts()) if self.transfer is None else self.transfer

    @torch.no_grad()
    def calibrate(self, inputs: torch.Tensor, largest: torch.Tensor) -> None:
        """Set the ranges that are not fixed: full scale to ``largest``, the ADC's by ``inputs``.

        inputs: ``(groups, n, inputs)``. The tuning is undone: it belonged to the old ranges.
        """
        self._set_ranges(inputs, largest)
        self._reset_tuning()

    @torch.no_grad()
    def tune(
        self,
        inputs: torch.Tensor | None = None,
        *,
        per: str = "layer",
        test_fraction: float = 0.25,
        seed: int = 0,
        samples: int = 1024,
        reference: str | None = None,
        **options: Any,
    ) -> Fit:
        """Fit the output to a better one by least squares; what an earlier tuning did is undone.

        inputs: ``(groups, n, inputs)``; they also set ranges that are missing. None: ``samples`` random
        vectors within full scale, with ranges of their own for the fit; where full scale is not known
        yet, the lines are kept in units of it. per: a line for each "layer", "tile" or "column" (output).
        reference: None for the digital product, or an engine, with its options, for the circuit.
        """
        if reference == self.engine:
            raise SpecError(
                f"{self._called} computes with the reference itself, {reference!r}: use_engine of another"
            )
        rows = self.random_inputs(samples, seed=seed) if inputs is None else check_finite(inputs, "inputs")
        with self._ranges_of_their_own(rows) if inputs is None else nullcontext():
            if self.ranges_missing:
                self._set_ranges(rows, rows.abs().amax())
            self.settle()
            measured = self._all_partials(rows, seed)
            if reference is None:
                wanted = self.tiling.split_rows(rows) @ self.tiling.split_rows(self.weight).transpose(-1, -2)
            else:
                with self._as_engine(reference, options):
                    wanted = self._all_partials(rows, seed)
        block = self.tiling.used // self.hardware.scheme.columns
        fit = fit_outputs(measured, wanted, per=per, block=block, test_fraction=test_fraction)
        self.gain, self.offset = fit.gain.to(self.gain), fit.offset.to(self.offset)
        self.tuned_for = "" if reference is None else self.engine
        self._tuned, self._tile_gain = True, bool((self.gain != self.gain[:, :1]).any())
        return fit

    def _all_partials(self, rows: torch.Tensor, seed: int) -> torch.Tensor:
        generator = torch.Generator(self.conductance.device).manual_seed(seed) if self._noisy else None
        return torch.cat([self._partials(part, generator) for part in rows.split(self._rows_at_once, 1)], 2)

    @contextmanager
    def _as_engine(self, engine: str, options: dict[str, Any]) -> Iterator[None]:
        """Another engine for a while; the cells are solved as they are."""
        before = (self.engine, self._engine_options, self.transfer)
        self.engine, self._engine_options, self.transfer = engine, options, None
        try:
            yield
        finally:
            self.engine, self._engine_options, self.transfer = before

    def _lines(self) -> dict[str, str]:
        return {**super()._lines(), "tuned_for": self.tuned_for}

    # --- torch --------------------------------------------------------------------------------------

    def _apply(self, fn: Any, recurse: bool = True) -> CrossbarMatmul:
        self._tile = None  # lies on the old device

        def keep_single(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            half = moved.is_floating_point() and moved.element_size() < 4
            return tensor.to(moved.device) if half else moved

        return super()._apply(keep_single, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tile": None, "_recorder": None, "_engine_options": {}}

    def extra_repr(self) -> str:
        groups = f"{self.tiling.groups} groups of " if self.grouped else ""
        state = "digital" if self.digital else self.engine
        return (
            f"{groups}{self.tiling.rows} inputs, {self.weight.shape[1]} outputs, {self.tiling.tiles} tiles "
            f"of {self.tiling.height}x{self.tiling.width}, {state}"
        )
