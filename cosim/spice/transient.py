"""Devices under a voltage waveform in ngspice: the engine "ngspice" of ``Device.simulate``."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosim.checks import as_number
from cosim.devices.drive import Drive
from cosim.devices.dynamics import Trace, register_engine
from cosim.devices.held import Held
from cosim.devices.osdi_names import osdi_nodes, osdi_parameters
from cosim.devices.start import state_of, tracked_node
from cosim.errors import CosimError, SpecError, ToolFailed
from cosim.jobs import JobResult, run_jobs
from cosim.progress import progress_bar
from cosim.spice.deck import (
    GROUND,
    Current,
    CurrentLimiter,
    Deck,
    DeviceInstance,
    Element,
    InternalNode,
    ModelCard,
    Options,
    Resistor,
    Save,
    Transient,
    Voltage,
    Waveform,
    WaveformSource,
)
from cosim.spice.dialects.ngspice import save_name
from cosim.spice.ngspice import find_ngspice, make_job, read_result, usable
from cosim.spice.rawfile import Plot
from cosim.spice.tile import LIBRARY, given_values

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["simulate_staircase", "transient_deck"]

_SOURCE, _INSTANCE, _P = "Vdrive", "N1", "p"
_OTHER = "t"  # node of a terminal beyond the pair, with its number
_RELTOL, _TIMEOUT = 1e-6, 600.0  # of ngspice's steps; s
_MERGED = 1e4  # longest step over the shortest time between samples: see the next line
_CORNER = 6e-5  # of the longest step: no time point further from a sample stands for it
_RAMP = 1e-4  # of a held sample, from the voltage before; ngspice merges corners below 5e-5 of the step


def transient_deck(
    device: Device,
    waveform: Waveform,
    own: Mapping[str, float],
    *,
    reltol: float,
    max_step: float,
    drive: Drive | None = None,
    others: Sequence[Waveform] = (),
) -> Deck:
    """One device from a source that follows ``waveform`` to ground. own: parameters of the instance.

    drive: what is between source and device; None for nothing. others: of the terminals beyond the pair.
    """
    nodes = tuple(f"{_OTHER}{k}" for k in range(len(others)))
    sources = (
        WaveformSource(name=f"{_SOURCE}{k}", p=node, n=GROUND, waveform=other)
        for k, (node, other) in enumerate(zip(nodes, others, strict=True))
    )
    called, given = osdi_parameters(device.ir), given_values(device).items()
    shared = tuple((called[name], float(value)) for name, value in given if name not in own)
    instance = tuple((called.get(name, name), value) for name, value in own.items())
    return Deck(
        title=f"{device.name} under a waveform of {len(waveform.seconds)} samples",
        header=(("units", "s, V, A"), ("model", f"{device.name}, digest {device.digest}")),
        libraries=(LIBRARY,),
        models=(ModelCard(name="cell", module=device.name, parameters=shared),),
        elements=(
            WaveformSource(name=_SOURCE, p=_P if drive is None else "s", n=GROUND, waveform=waveform),
            *_between(drive),
            *sources,
            DeviceInstance(name=_INSTANCE, nodes=(_P, GROUND, *nodes), model="cell", parameters=instance),
        ),
        analyses=(Transient(stop=waveform.seconds[-1], step=max_step, max_step=max_step),),
        saves=_saves(device),
        options=Options(reltol=reltol, abstol=1e-15, vntol=1e-9, temperature=device.temperature),
    )


def _between(drive: Drive | None) -> tuple[Element, ...]:
    if drive is None:
        return ()
    if not drive.limits:
        return (Resistor(name="Rseries", p="s", n=_P, ohm=drive.ohm),)
    limits = {"scale": drive.scale, "low": drive.low, "high": drive.high}
    return (CurrentLimiter(name="Blimit", p="s", n=_P, ohm=drive.ohm, **limits),)


@register_engine("ngspice")
def simulate(
    device: Device,
    drive: Drive,
    state: torch.Tensor | None,
    *,
    reltol: float = _RELTOL,
    max_step: float | None = None,
    timeout: float = _TIMEOUT,
    executor: Executor | None = None,
    program: str = "ngspice",
    progress: bool | None = None,
) -> Trace:
    """The drive's voltage ``(T, *cells)`` V, state ``(*cells)``; one ngspice job per device.

    max_step: longest time step, s (the longest time between samples, or 10^4 times the shortest).
    timeout: s, for each job, on ``executor`` if given. Raises SpecError where a gradient is asked for,
    ToolNotFound without ngspice, ToolFailed if a run fails.
    """
    start = time.monotonic()
    _check_no_gradient(device, drive, state)
    seconds = drive.time.cpu().numpy()
    step = _longest_step(seconds, max_step)
    ngspice = find_ngspice(program)
    instances = _instances(device, state, drive.voltage.shape[1:])
    library = device.osdi(per_cell=tuple(instances[0]))
    libraries = {LIBRARY: library.read_bytes()}
    between = None if drive.direct else drive
    waves = _waves(device, drive)
    decks = (
        transient_deck(device, wave, own, reltol=reltol, max_step=step, drive=between, others=others)
        for (wave, *others), own in zip(waves, instances, strict=True)
    )
    jobs = (make_job(deck, libraries, program=ngspice, timeout=timeout) for deck in decks)
    with progress_bar(f"simulating {device.name} in ngspice", progress) as report:
        outcomes = run_jobs(jobs, executor, _counter(report, len(instances)))
    plots = [_plot(outcome, device, seconds, step) for outcome in outcomes]

    def sampled(values: Callable[[Plot], np.ndarray]) -> torch.Tensor:
        # every sample is a corner of the source, where ngspice places a time point
        columns = [np.interp(seconds, plot["time"], values(plot)) for plot in plots]
        return torch.from_numpy(np.stack(columns, -1)).reshape(drive.voltage.shape).to(drive.voltage)

    current, terminal, *inner = (save_name(save) for save in _saves(device))
    tracked = sampled(lambda plot: plot[inner[0]]) if inner else None
    return Trace(
        time=drive.time,
        voltage=drive.voltage,
        current=sampled(lambda plot: -plot[current]),
        state=state_of(device, tracked, drive.voltage, state),
        device_voltage=sampled(lambda plot: plot[terminal]),
        stats={
            "seconds": time.monotonic() - start,
            "points": sum(len(plot.values) for plot in plots),
            "ngspice_version": ngspice.version,
        },
    )


def simulate_staircase(device: Device, voltage: np.ndarray, dt: float, state: float) -> Held:
    """``simulate_held`` in ngspice: each of ``voltage`` (T,) V for ``dt`` s, after a ramp of dt/10000.

    The current of a sample is that after its ramp. Raises as ``simulate`` does.
    """
    starts = dt * np.arange(len(voltage))
    corners = np.stack([starts + _RAMP * dt, starts + dt], 1)
    seconds = np.concatenate([[0.0], corners.reshape(-1)])
    volts = np.concatenate([voltage[:1], np.repeat(voltage, 2)]).astype(float)
    drive = Drive(time=torch.from_numpy(seconds), voltage=torch.from_numpy(volts))
    trace = simulate(device, drive, torch.tensor(state, dtype=torch.float64))
    return Held(current=trace.current[1::2], state=trace.state[::2])


def _longest_step(seconds: np.ndarray, asked: float | None) -> float:
    between = np.diff(seconds)
    most = min(float(between.max()), _MERGED * float(between.min()))
    return most if asked is None else as_number(asked, "max_step", above=0, at_most=most)


def _check_no_gradient(device: Device, drive: Drive, state: torch.Tensor | None) -> None:
    named = {"voltage": drive.voltage, "state": state, **drive.others, **device.given}
    for name, value in named.items():
        if torch.is_grad_enabled() and isinstance(value, torch.Tensor) and value.requires_grad:
            raise SpecError(
                f"{name} asks for a gradient, which ngspice does not have: use engine='torch', or detach it"
            )


def _counter(report: Callable[[float], None], total: int) -> Callable[[int, object], None]:
    """What counts finished jobs, in whatever order they end."""
    done = itertools.count(1)
    return lambda index, result: report(next(done) / total)


def _waves(device: Device, drive: Drive) -> list[list[Waveform]]:
    """Per device the waveform of the source, then those of the terminals beyond the pair."""
    seconds = tuple(drive.time.tolist())
    every = [drive.voltage, *(drive.others[name] for name in device.driven)]
    columns = [wave.detach().cpu().double().reshape(len(seconds), -1).T.tolist() for wave in every]
    return [[Waveform(seconds=seconds, volts=tuple(v)) for v in own] for own in zip(*columns, strict=True)]


def _instances(device: Device, state: torch.Tensor | None, cells: torch.Size) -> list[dict[str, float]]:
    """Parameters of every instance: the state, those given per cell, and writing on."""
    grids = {name: value for name, value in given_values(device).items() if isinstance(value, torch.Tensor)}
    if device.state_parameter is not None and state is not None:
        grids[device.state_parameter] = state
    columns = {name: grid.detach().expand(cells).reshape(-1).tolist() for name, grid in grids.items()}
    write = {device.write_parameter: 1.0} if device.write_parameter else {}
    return [{name: x[k] for name, x in columns.items()} | write for k in range(cells.numel())]


def _saves(device: Device) -> tuple[Save, ...]:
    node = tracked_node(device)
    inner = () if node is None else (InternalNode(device=_INSTANCE, node=osdi_nodes(device.ir)[node]),)
    return (Current(source=_SOURCE), Voltage(node=_P), *inner)


def _plot(outcome: JobResult | CosimError, device: Device, seconds: np.ndarray, step: float) -> Plot:
    """The plot of one run through samples at ``seconds``, which has a time point at each."""
    if isinstance(outcome, CosimError):
        raise outcome
    analysis = Transient(stop=seconds[-1], step=step, max_step=step)
    reading = read_result(outcome, (analysis,), _saves(device))
    if not reading.converged:
        raise ToolFailed(
            f"ngspice did not get through the waveform with {device.name}: "
            "sample it more finely, or loosen reltol",
            log=reading.log,
        )
    (plot,) = reading.plots
    if not usable(plot.values).all():
        raise ToolFailed(f"ngspice answered values of {device.name} that are not finite", log=reading.log)
    missing = _without_point(seconds, plot["time"], _CORNER * step)
    if missing is not None:
        raise ToolFailed(f"ngspice wrote no point at {missing:g} s, where the waveform has a sample")
    return plot


def _without_point(seconds: np.ndarray, times: np.ndarray, tolerance: float) -> float | None:
    """The first of ``seconds`` that none of the rising ``times`` is within ``tolerance`` of; s."""
    right = np.clip(np.searchsorted(times, seconds), 1, len(times) - 1)
    away = np.minimum(np.abs(times[right] - seconds), np.abs(times[right - 1] - seconds))
    return float(seconds[away > tolerance][0]) if (away > tolerance).any() else None
