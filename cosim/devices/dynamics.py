"""Transient simulation of devices: a voltage waveform in, current and state out, by a named engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from cosim.arrays import Array, check_broadcast
from cosim.checks import as_integer, as_number, shown
from cosim.devices.adjoint import replay
from cosim.devices.compiled import CompiledRun, transient_library
from cosim.devices.drive import Drive, Limited, make_drive
from cosim.devices.driven import check_waveforms, follow
from cosim.devices.integrator import Integrator, Problem, Tolerances
from cosim.devices.print_steps import print_steps
from cosim.devices.print_torch import TorchModel
from cosim.devices.simulated import Simulated
from cosim.devices.small_circuits import stack
from cosim.devices.start import operating_point, state_of, tracked_node
from cosim.errors import SolveError, SpecError
from cosim.progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ENGINES",
    "Engine",
    "Trace",
    "register_engine",
    "simulate",
]

_FEW = 512  # devices, up to which C is faster than torch
_PLOTTED = 16  # devices in a figure


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A simulated waveform. Axes: time first, then the devices (``cells``).

    time: (T,) s. voltage: (T, *cells) V, of the source. current: (T, *cells) A, from p to n, with the
    displacement part; at the first sample the static current. state: (T, *cells) in the unit of the state
    parameter (see ``simulate``). device_voltage: (T, *cells) V between p and n, which a series resistance
    or a compliance makes another than that of the source. stats: what the engine counted.
    """

    time: torch.Tensor
    voltage: torch.Tensor
    current: torch.Tensor
    state: torch.Tensor
    device_voltage: torch.Tensor
    stats: Mapping[str, Any] = field(default_factory=dict)

    def plot(self) -> Figure:
        """Current over voltage, and voltage, current and state over time, as a matplotlib Figure.

        Of more than 16 devices the first 16 are drawn, and the title says so.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 6), layout="constrained")
        axes = figure.subplot_mosaic([["loop", "voltage"], ["loop", "current"], ["loop", "state"]])
        time = self.time.detach().cpu().numpy()
        lines = {
            name: getattr(self, name).detach().cpu().reshape(len(time), -1)
            for name in ("voltage", "current", "state")
        }
        total = lines["current"].shape[1]
        lines = {name: values[:, :_PLOTTED].numpy() for name, values in lines.items()}
        axes["loop"].plot(lines["voltage"], lines["current"])
        axes["loop"].set(xlabel="voltage (V)", ylabel="current (A)")
        for name, unit in (("voltage", " (V)"), ("current", " (A)"), ("state", "")):
            axes[name].plot(time, lines[name])
            axes[name].set(ylabel=name + unit)
        axes["state"].set(xlabel="time (s)")
        if total > _PLOTTED:
            figure.suptitle(f"{_PLOTTED} of {total} devices")
        return figure


# An engine takes the checked device, its Drive, state (*cells) or None, and its
# options as keyword-only arguments, whose names and defaults are the documentation of the options.
Engine = Callable[..., Trace]
ENGINES: dict[str, Engine] = {}


def register_engine(name: str) -> Callable[[Engine], Engine]:
    """Decorator: make a function available as ``simulate(..., engine=name)``."""

    def register(engine: Engine) -> Engine:
        ENGINES[name] = engine
        return engine

    return register


def simulate(
    device: Simulated,
    voltage: Array,
    dt: float | None = None,
    state: Array | None = None,
    engine: str = "torch",
    *,
    time: Array | None = None,
    series: float = 0.0,
    compliance: float | Sequence[float] | None = None,
    **options: Any,
) -> Trace:
    """Current and state of ``device`` under ``voltage`` (T,) or (T, *cells) V, a sample every ``dt`` s.

    time: (T,) s of each sample instead of ``dt``, from 0 on. The voltage is linear between samples.
    Voltage cells, state and per-cell parameters broadcast. series: ohm between source and device.
    compliance: A, what the source limits the current to, for both signs or as (low, high); with series=.

    The state node starts where ``state`` says, every other node at its operating point.
    ``Trace.state`` is state + state_scale*V(state_node), or state_scale*V(state_node) where that node is
    the state itself; of a device that declares no state node it is the first integral (``idt``) of the
    model, or else its first internal node with a charge, and 0 without either.

    A terminal beyond the pair (``Device.driven``) is an option of its name: V against n, one number or a
    waveform (T,) or (T, *cells), linear between samples.

    Options of the engine "torch": rtol (1e-6) and atol (1e-6, a part of the state range, of 1 V, or of
    1 uA) bound the error of one step; max_steps; progress: True shows it, None where it takes long, on a
    terminal. It computes in float64. Gradients with respect to voltage, state and parameters are exact
    for the steps that were made.

    Raises SpecError for an unknown engine or option or a bad waveform; SolveError where no step is
    small enough, with the devices that finished on ``.solution`` (the others are NaN from there on).

    >>> from cosim.devices.device import Device
    >>> wave = torch.sin(torch.linspace(0.0, 2 * torch.pi, 101, dtype=torch.float64))
    >>> trace = simulate(Device("vteam"), wave, 2e-10, state=0.3)
    >>> trace.current.shape, float(trace.state[0])
    (torch.Size([101]), 0.3)
    """
    others = {name: options.pop(name) for name in list(options) if name in device.driven}
    run = _engine(engine, options)
    drive = make_drive(voltage, dt, time=time, series=series, compliance=compliance)
    others = check_waveforms(device, others, len(drive.time))
    volts, cells = drive.voltage, None
    if device.state_parameter is not None or state is not None:
        cells = device.check_state(state).to(volts)
    shape = _cells(device, volts, cells, others)
    if 0 in shape:
        raise SpecError(f"voltage and state of shape {tuple(shape)} hold no device to simulate")
    waves = {n: _spread_wave(wave.to(volts), len(drive.time), shape) for n, wave in others.items()}
    drive = replace(drive, voltage=_spread_wave(volts, len(drive.time), shape), others=waves)
    return run(device, drive, None if cells is None else cells.expand(shape), **options)


def _engine(name: str, options: Mapping[str, Any]) -> Engine:
    if not (isinstance(name, str) and name in ENGINES):
        raise SpecError(
            f"no engine {shown(name)} simulates a device: use one of {', '.join(sorted(ENGINES))}"
        )
    run = ENGINES[name]
    parameters = inspect.signature(run).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise SpecError(f"engine {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    return run


def _spread_wave(wave: torch.Tensor, samples: int, cells: torch.Size) -> torch.Tensor:
    """``wave``, a number or (T,) or (T, *some cells), as (T, *cells)."""
    own = wave.shape[1:]
    return wave.reshape(-1, *[1] * (len(cells) - len(own)), *own).expand(samples, *cells)


def _cells(
    device: Simulated,
    volts: torch.Tensor,
    state: torch.Tensor | None,
    others: Mapping[str, torch.Tensor],
) -> torch.Size:
    cells = {"voltage": volts[0]} | ({} if state is None else {"state": state})
    cells |= {name: wave[0] for name, wave in others.items() if wave.ndim}
    cells |= {name: v for name, v in device.given.items() if isinstance(v, torch.Tensor)}
    return check_broadcast(f"cells of {device.name}", cells)


# --- the torch engine ---------------------------------------------------------------------------------


@register_engine("torch")
def _simulate_torch(
    device: Simulated,
    drive: Drive,
    state: torch.Tensor | None,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    max_steps: int = 1_000_000,
    progress: bool | None = None,
) -> Trace:
    rtol, atol = as_number(rtol, "rtol", above=0), as_number(atol, "atol", above=0)
    max_steps = as_integer(max_steps, "max_steps", at_least=1)
    problem = _problem(device, drive, state)
    inner = problem.model.internal
    node = tracked_node(device)
    terminal = () if drive.direct else (0,)
    track = (*((inner.index(node),) if node in inner else ()), *terminal)
    nominal = tuple(_nominal(device, name) for name in inner)
    tolerances = Tolerances(rtol=rtol, atol=atol, nominal=nominal, max_steps=max_steps)
    sources = (problem.voltage, problem.start, *problem.parameters.values(), *drive.others.values())
    differentiate = any(source.requires_grad for source in sources)
    with torch.no_grad(), progress_bar(f"simulating {device.name}", progress) as report:
        run = _runner(device, drive, problem, tolerances, track, differentiate)
        run.run(report)
    if differentiate and run.counts["latched"]:
        raise SpecError(
            f"a switch of {device.name} changes where its equations have no solution, and has no gradient: "
            "let an event set it, such as @(cross(V(p, n) - v_on, +1)), or simulate without gradients"
        )
    done = replay(problem, tolerances, run) if differentiate and not run.failures else run
    found = [unknown.reshape(drive.voltage.shape) for unknown in done.unknowns]
    trace = Trace(
        time=drive.time,
        voltage=drive.voltage,
        current=done.current.reshape(drive.voltage.shape),
        state=state_of(device, found[0] if node in inner else None, drive.voltage, state),
        device_voltage=drive.voltage if drive.direct else drive.across(drive.voltage, found[-1]),
        stats=dict(run.counts),
    )
    if run.failures:
        _raise(device, run, trace, rtol)
    return trace


def _runner(
    device: Simulated,
    drive: Drive,
    problem: Problem,
    tolerances: Tolerances,
    track: Sequence[int],
    keep: bool,
) -> Integrator | CompiledRun:
    """In C for few devices; in torch, which takes as long for a thousand devices as for one, for many."""
    loop = None
    few = problem.voltage.device.type == "cpu" and problem.voltage.shape[1] <= _FEW
    if few and not drive.others:
        loop = print_steps(_moving(device))
    library = None if loop is None else transient_library(loop)
    if loop is None or library is None:
        return Integrator(problem, tolerances, track=track, keep=keep)
    between = (
        {} if drive.direct else {"ohm": drive.ohm, "scale": drive.scale, "low": drive.low, "high": drive.high}
    )
    return CompiledRun(problem, tolerances, library, loop, track=track, keep=keep, **between)


def _moving(device: Simulated) -> TorchModel:
    write = device.write_parameter
    return device.torch_model(static=False, extra={write: 1} if write else {})


def _problem(device: Simulated, drive: Drive, state: torch.Tensor | None) -> Problem:
    write, cells = device.write_parameter, drive.voltage.shape[1:]
    model, on = _moving(device), {write: 1} if write else {}
    # with the state held, all else is at rest as it will run
    extra = on if device.state_node else dict.fromkeys(on, 0)
    still = device.torch_model(static=True, initial=True, extra=extra)

    def spread(names: Sequence[str]) -> dict[str, torch.Tensor]:
        found = {name: _parameter(device, name, state) for name in names}
        return {name: x.to(drive.voltage).expand(cells).reshape(-1) for name, x in found.items()}

    volts = drive.voltage.reshape(drive.voltage.shape[0], -1)
    waves = [drive.others[name].reshape(volts.shape) for name in device.driven]
    (circuit, lines), (quiet, _) = (follow(each, drive.time, waves) for each in (model, still))
    circuits = [circuit, quiet] if drive.direct else [Limited(each, drive) for each in (circuit, quiet)]
    resting = spread(still.varying)
    at = None if state is None else state.to(volts).reshape(-1)
    rest = operating_point(device, circuits[1], volts[0], resting | lines, at)
    solved = dict(zip(circuits[1].internal, rest, strict=True)) | still.removed(resting, volts[0])
    unknowns = [solved.get(name, torch.zeros_like(volts[0])) for name in circuits[0].internal]
    parameters, current = spread(model.varying), None
    if model.kept:  # the operating point is the first accepted point
        at_rest = ([volts[0], *rest], resting | lines)
        parameters |= dict(zip(circuits[1].kept, circuits[1].carry(*at_rest), strict=True))
        current = stack(circuits[1](*at_rest).resist[:1], volts[0])[0]
    return Problem(
        model=circuits[0],
        time=drive.time,
        voltage=volts,
        start=stack(unknowns, volts[0]),
        parameters=parameters | lines,
        current=current,
    )


def _parameter(device: Simulated, name: str, state: torch.Tensor | None) -> torch.Tensor:
    return state if name == device.state_parameter and state is not None else device.given[name]


def _nominal(device: Simulated, name: str) -> float:
    """Size of an unknown for the tolerances."""
    if name == device.state_node and device.bounded:
        low, high = device.state_range
        return (high - low) / abs(device.state_scale)
    kind = next(node.kind for node in device.ir.nodes if node.name == name)
    return 1.0 if kind == "voltage" else 1e-6


def _raise(device: Simulated, integrator: Integrator | CompiledRun, trace: Trace, rtol: float) -> None:
    first = min(integrator.failures, key=lambda failure: failure.time)
    count, total = len(integrator.failures), integrator.problem.voltage.shape[1]
    where = "" if total == 1 else f" (device {first.device}, the first of {count} among {total})"
    raise SolveError(
        f"the simulation of {device.name} stopped at t = {first.time:.9g} s{where}: {first.reason}; "
        f"sample the waveform more finely there, or loosen rtol (now {rtol:g})",
        solution=trace,
    )
