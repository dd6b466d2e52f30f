"""The periphery of a weight matrix on cells: drivers, ADC, their ranges, and what lies beyond these."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cosim.arrays import Array, check_finite
from cosim.calibration import Calibration
from cosim.checks import as_instance, as_seed
from cosim.errors import SpecError
from cosim.nn.cell_matrix import CellMatrix
from cosim.nn.clipping import Clipping, Tally
from cosim.nn.converters import ADC, DAC
from cosim.nn.hardware import Hardware
from cosim.nn.ranges import calibrated_range
from cosim.nn.recording import Recorder

__all__ = ["FIRST_ROWS", "Periphery"]

FIRST_ROWS = 1024  # of the first inputs, as many as ``calibrate`` of a model looks at


class Periphery(CellMatrix, abc.ABC):
    """A ``CellMatrix`` whose rows are driven and whose column currents are converted.

    Ranges that the hardware does not fix are unknown, NaN, until ``calibrate`` sets them, or else the
    first inputs; from then on they stay. Buffers ``full_scale``, ``adc_low``, ``adc_high`` (A).
    label: its name in the network, for messages.
    """

    full_scale: torch.Tensor
    adc_low: torch.Tensor | None
    adc_high: torch.Tensor | None
    current_gain: torch.Tensor | None
    current_offset: torch.Tensor | None
    engine: str

    def __init__(
        self, weight: Array, hardware: Hardware, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(weight, hardware, generator=generator)
        self.label = ""
        self.corrected_for = ""  # the engine that an attached Calibration holds for
        self.register_buffer("current_gain", None)
        self.register_buffer("current_offset", None)
        self._forget_ranges()

    # --- what the engine decides --------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def folded(self) -> bool:
        """True when everything up to the output is one matrix; ranges then only matter to a DAC."""

    @property
    @abc.abstractmethod
    def _paired(self) -> bool:
        """True when ``_linear_blocks`` has pairs of columns subtracted."""

    @abc.abstractmethod
    def _linear_blocks(self) -> torch.Tensor:
        """Currents per volt by the linear engine, ``(groups, R, height, columns)`` S."""

    # --- ranges -------------------------------------------------------------------------------------

    @property
    def _dac(self) -> DAC:
        assert self.hardware.dac is not None
        return self.hardware.dac

    def _forget_ranges(self) -> None:
        dac, adc = self._dac, self.hardware.adc
        full_scale = 1.0 if dac.v_max is None else dac.full_scale
        self.register_buffer(
            "full_scale", self.scale.new_tensor(torch.nan if full_scale is None else full_scale)
        )
        low = high = None
        if adc is not None and adc.range is not None:
            low, high = (part.to(self.scale).reshape(1, 1, 1, 1) for part in adc.fixed_range())
        elif adc is not None:
            low, high = (self.scale.new_full(self._range_shape(adc), torch.nan) for _ in range(2))
        self.register_buffer("adc_low", low)
        self.register_buffer("adc_high", high)
        self._ranges_set()

    def _range_shape(self, adc: ADC) -> tuple[int, ...]:
        if adc.per == "layer":
            return (1, 1, 1, 1)
        pairs = 2 if adc.at == "difference" and self.hardware.scheme.paired else 1
        return (self.tiling.groups, self.tiling.down, 1, self.tiling.columns // pairs)

    def _ranges_set(self) -> None:
        self._unknown: bool | None = None  # to be found out, which waits for a GPU
        self._tally = Tally()

    def _changed(self) -> None:
        self._unknown = None
        super()._changed()

    @property
    def ranges_missing(self) -> bool:
        """True when ranges matter, and nothing has set them: the next inputs do."""
        if self._unknown is None:
            ends = [self.full_scale, *(end for end in (self.adc_low,) if end is not None)]
            self._unknown = any(bool(end.isnan().any()) for end in ends)
        return self._unknown and not (self.folded and self._dac.bits is None)

    @torch.no_grad()
    def take_ranges(self, parts: Iterable[torch.Tensor]) -> None:
        """Set missing ranges by the first inputs, ``(groups, n, inputs)`` in parts."""
        with torch.inference_mode(False):  # what is kept must be fit for gradients later
            recorder = Recorder(FIRST_ROWS)
            for part in parts:
                recorder.see(part)
            self.take_recorded(recorder)

    @torch.no_grad()
    def take_recorded(self, recorder: Recorder) -> None:
        """Set missing ranges by what was recorded. Inputs that are all 0 set nothing; tuning stays."""
        if getattr(self, "_is_replica", False):
            raise SpecError(
                f"{self._called}: the ranges of its converters are not known, and a replica of DataParallel "
                "cannot keep them: calibrate(inputs) before"
            )
        if recorder.rows is None or recorder.largest is None or not bool(recorder.largest > 0):
            return
        normalised = bool(self.full_scale.isnan())
        with torch.inference_mode(False):
            self._set_ranges(recorder.rows, recorder.largest)
            if normalised:
                self._scale_offset(self.full_scale)

    @abc.abstractmethod
    def _scale_offset(self, factor: torch.Tensor) -> None:
        """Offsets that were fitted in units of full scale become offsets of the output."""

    def _set_ranges(self, inputs: torch.Tensor, largest: torch.Tensor) -> None:
        """Set what is not fixed: full scale to ``largest``, the ADC's ranges to what ``inputs`` give.

        Currents are those of the linear engine (with "ideal": of ideal wires), without noise, so that
        every rung of the ladder has the same ranges.
        """
        check_finite(inputs, "inputs")
        self.settle()
        dac, adc = self._dac, self.hardware.adc
        if dac.v_max is not None and dac.full_scale is None and float(largest) > 0:
            self.full_scale = largest.to(self.scale)
        if adc is not None and adc.range is None:
            volts, _ = dac.drive(inputs, self.full_scale)
            self.adc_low, self.adc_high = self._calibrated(adc, self.tiling.split_rows(volts))
        self._ranges_set()

    @contextmanager
    def ranges_kept(self) -> Iterator[None]:
        """Whatever sets ranges meanwhile, afterwards they are as before, and so is what was counted."""
        before = (self.full_scale, self.adc_low, self.adc_high, self._tally)
        try:
            yield
        finally:
            self.full_scale, self.adc_low, self.adc_high, self._tally = before
            self._unknown = None

    @contextmanager
    def _ranges_of_their_own(self, inputs: torch.Tensor) -> Iterator[None]:
        """Ranges by random ``inputs`` within full scale, for a while; they say nothing about real ones."""
        with self.ranges_kept():
            self.full_scale = self._full_scale
            self._set_ranges(inputs, self.full_scale)
            yield

    def _calibrated(self, adc: ADC, volts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ranges for ``volts (groups, R, n, height)``; R is 1 at a time where it can be, to save memory."""
        scheme, width, subtracted = self.hardware.scheme, self.tiling.used, self._paired
        differ = adc.at == "difference" and scheme.paired

        def found(part: torch.Tensor, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values = part @ blocks
            values = scheme.difference(values) if differ and not subtracted else values
            return calibrated_range(adc, values, width // 2 if differ else width)

        step = self.tiling.down if adc.per == "layer" else 1
        blocks = self._linear_blocks()
        ranges = [found(*pair) for pair in zip(volts.split(step, 1), blocks.split(step, 1), strict=True)]
        low, high = (torch.cat(end, 1) for end in zip(*ranges, strict=True))
        return low, high

    def random_inputs(self, count: int, *, seed: int) -> torch.Tensor:
        """Inputs ``(groups, count, inputs)``, uniform within full scale (1 while it is not known)."""
        generator = torch.Generator().manual_seed(as_seed(seed))
        shape = (self.tiling.groups, count, self.tiling.rows)
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64).to(self.scale)
        low = -1.0 if self._dac.signed else 0.0
        return drawn.mul_(1 - low).add_(low).mul_(self._full_scale)

    # --- lines at the level of currents ---------------------------------------------------------------

    def attach(self, calibration: Calibration | None) -> None:
        """Correct currents by the lines of ``cosim.calibrate(product.tile())`` from now on; None: no more.

        They hold while the product computes with ``calibration.fast``. SpecError where they do not fit.

        >>> import cosim, cosim.nn.matmul
        >>> wires = cosim.Wires(row=20.0, column=20.0)
        >>> hardware = Hardware(device=cosim.Device("vteam"), tile_shape=(4, 4), wires=wires, engine="ideal")
        >>> product = cosim.nn.matmul.CrossbarMatmul([[1.0, -0.5]], hardware)
        >>> product.attach(cosim.calibrate(product.tile(), fast="ideal", reference="newton", per="layer"))
        >>> product.corrected_for
        'ideal'
        """
        gain = offset = None
        if calibration is not None:
            calibration = as_instance(calibration, "calibration", Calibration, "what cosim.calibrate returns")
            tiling = self.tiling
            shape = (tiling.groups, tiling.down, tiling.across)
            try:
                ends = [part.expand(*shape, tiling.width) for part in (calibration.gain, calibration.offset)]
            except RuntimeError as error:
                raise SpecError(
                    f"a calibration of shape {tuple(calibration.gain.shape)} does not fit {self._called}, "
                    f"whose tile() has the shape {(*shape, tiling.height, tiling.width)}"
                ) from error
            gain, offset = (tiling.join(end[..., None, :]).to(self.scale) for end in ends)
        self.register_buffer("current_gain", gain)
        self.register_buffer("current_offset", offset)
        self.corrected_for = "" if calibration is None else calibration.fast
        self._changed()

    @property
    def _corrected(self) -> bool:
        return self.current_gain is not None and self.engine == self.corrected_for

    def _lines(self) -> dict[str, str]:
        return {**super()._lines(), "corrected_for": self.corrected_for}

    # --- driving and converting ---------------------------------------------------------------------

    @property
    def _full_scale(self) -> torch.Tensor:
        return self.full_scale.nan_to_num(nan=1.0)

    def quantise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs as the drivers give them, in input units; any shape."""
        self._count(inputs.detach())
        return self._dac.convert(inputs, self._full_scale)

    def drive(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(groups, n, inputs)`` in V, and what one volt stands for, ``(groups, n, 1)`` or one number."""
        self._count(inputs.detach())
        if self._dac.bits is None and self._dac.v_max is not None:
            self._tally.add("vectors", inputs.detach().abs().amax(-1) > self._full_scale)
        return self._dac.drive(inputs, self._full_scale)

    def _count(self, inputs: torch.Tensor) -> None:
        if self._dac.bits is None:
            return
        if self._tally.add("inputs", self._dac.beyond(inputs, self._full_scale)):
            self._tally.tell("inputs", self._clipped_inputs)

    def _convert(self, currents: torch.Tensor, subtracted: bool) -> torch.Tensor:
        """Column currents to differences, through the ADC if there is one."""
        scheme, adc = self.hardware.scheme, self.hardware.adc
        if adc is None:
            return scheme.difference(currents)
        if adc.at == "column":
            return scheme.difference(self._read(adc, currents))
        return self._read(adc, currents if subtracted else scheme.difference(currents))

    def _read(self, adc: ADC, values: torch.Tensor) -> torch.Tensor:
        assert self.adc_low is not None
        assert self.adc_high is not None
        low, high = self.adc_low.to(values), self.adc_high.to(values)
        if self._tally.add("currents", adc.beyond(values, low, high)):
            self._tally.tell("currents", self._clipped_currents, allowed=adc.overflow_rate)
        return adc.convert(values, low, high)

    # --- what is beyond -----------------------------------------------------------------------------

    @property
    def clipping(self) -> Clipping:
        """Shares beyond the ranges since these were set."""
        shares = {what: self._tally.share(what) for what in ("inputs", "vectors", "currents")}
        return Clipping(name=self._called, **shares)

    @property
    def _called(self) -> str:
        return self.label or f"a product of {self.tiling.rows} inputs and {self.weight.shape[-2]} outputs"

    def _clipped_inputs(self, share: float) -> str:
        scale = float(self._full_scale)
        low = -scale if self._dac.signed else 0.0
        remedy = self._remedy("DAC(full_scale=)" if self._dac.full_scale is not None else "")
        return (
            f"{self._called}: the DAC clips {share:.1%} of its inputs to {low:.3g} to {scale:.3g}; {remedy}"
        )

    def _clipped_currents(self, share: float) -> str:
        adc = self.hardware.adc
        remedy = self._remedy("ADC(range=)" if adc is not None and adc.range is not None else "")
        return f"{self._called}: {share:.1%} of its currents are beyond the range of the ADC; {remedy}"

    @staticmethod
    def _remedy(fixed: str) -> str:
        if fixed:
            return f"widen {fixed}"
        return "ranges are those of what calibrate, or else the first call, was given: calibrate with more"

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_unknown": None}
