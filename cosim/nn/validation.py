"""Validation of a converted network by the circuit: sampled tiles of every layer, and whole inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cosim.checks import as_choice, as_flag, as_integer, as_number, as_seed
from cosim.devices.build import compiler
from cosim.engines import find_engine
from cosim.errors import SolveError, SpecError
from cosim.jobs import as_timeout, as_workers, cores
from cosim.nn.inputs import Batch, batches, first_tensor
from cosim.nn.model import ConvertedModel
from cosim.nn.recording import Recorder
from cosim.nn.sampled_tiles import Reference, validate_tiles
from cosim.nn.validation_report import LayerValidation, Validation
from cosim.nn.whole_inputs import Pass, check_outputs, passes, summary
from cosim.spice.ngspice import find_ngspice

__all__ = ["validate"]

_MOST_SAMPLES = 10**7  # more is a slip
_REFERENCES = ("newton", "ngspice")
_OWN_OPTIONS = ("chunk", "executor", "nodes", "progress", "workers")  # of an engine, set here


def validate(
    model: ConvertedModel,
    inputs: Any,
    *,
    reference: str = "ngspice",
    samples: int = 32,
    seed: int = 0,
    end_to_end: int = 0,
    confidence: float = 0.95,
    workers: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Validation:
    """Compare what a converted network computes with an exact solution of its circuits.

    ``inputs`` (as for ``calibrate``; axis 0 of a tensor counts the inputs) pass through the model as
    it is. Of the (tile, input vector) pairs that every product saw, ``samples`` are drawn with
    ``seed`` and solved by the engine of the product and by ``reference``, "newton" or "ngspice":
    the same cells and voltages. Every tile gets the same number of vectors, so that ``samples`` is
    rounded up; with more tiles than samples, that many tiles get one each.

    end_to_end: so many of the inputs, drawn with ``seed``, also pass with every product through
    the reference. confidence: of all intervals. workers: processes of ngspice at a time, as many
    as cores unless given. progress: show a bar, on a terminal. options: of the reference engine,
    such as ``timeout=`` (s, of one job).

    Read noise is left out of the pairs; end to end both sides see the same realisation. What a
    solver cannot do is counted in the result with the reason. Ctrl-C gives what is finished
    (KeyboardInterrupt if nothing is). Raises SpecError for anything out of range, ToolNotFound
    without ngspice, SolveError if no sample at all was solved. The model is left as it was.

    >>> import cosim
    >>> device = cosim.Device("data_driven")
    >>> network = cosim.convert(torch.nn.Linear(6, 2), device=device, tile_shape=(8, 8))
    >>> report = validate(network, torch.rand(20, 6), reference="newton", samples=8)
    >>> report["matmul"].samples, 0 < report["matmul"].current_error.value < 0.05
    (8, True)
    """
    _check_model(model, reference)
    samples, seed = as_integer(samples, "samples", at_least=1, at_most=_MOST_SAMPLES), as_seed(seed)
    confidence, workers = as_number(confidence, "confidence", above=0, below=1), as_workers(workers)
    _check_options(reference, workers, options)
    given = list(batches(inputs, model.model))
    total = sum(len(first_tensor(batch)) for batch in given)
    end_to_end = as_integer(end_to_end, "end_to_end", at_least=0, at_most=total)
    if reference == "ngspice":
        options["workers"] = workers or cores()
    with torch.no_grad(), _left_as_found(model):
        recorders = _record(model, given, samples, seed)
        if end_to_end:
            check_outputs(model, given, end_to_end, seed)  # before the long part
        with _progress(len(recorders) * samples + end_to_end, as_flag(progress, "progress")) as advance:
            run = _Run(
                model=model,
                recorders=recorders,
                reference=Reference(engine=reference, options=options),
                settings={"samples": samples, "seed": seed, "confidence": confidence},
                advance=advance,
            )
            return run(given, end_to_end)


# --- what can be refused ----------------------------------------------------------------------------


def _check_model(model: Any, reference: str) -> None:
    if not isinstance(model, ConvertedModel):
        raise SpecError(f"model is {type(model).__name__}: validate takes what cosim.convert returns")
    if not model.products:
        raise SpecError("the model has no crossbar layer: its .report says why each layer was left")
    as_choice(reference, "reference", _REFERENCES)
    for name, product in model.products.items():
        if product.digital:
            raise SpecError(f"{name} computes digitally: switch back with model.digital(False)")
        if product.engine == reference:
            raise SpecError(
                f"{name} computes with {reference!r}, the reference itself: choose another by use_engine"
            )


def _check_options(reference: str, workers: int | None, options: Mapping[str, Any]) -> None:
    if workers is not None and reference != "ngspice":
        raise SpecError(f"workers is {workers}: {reference!r} runs no processes; leave it out")
    if "timeout" in options:
        as_timeout(options["timeout"])
    known = [name for name in find_engine(reference).options if name not in _OWN_OPTIONS]
    for name in options:
        if name not in known:
            raise SpecError(f"no option {name!r} with {reference!r}: choose from {', '.join(known)}")
    if reference == "ngspice":
        find_ngspice(options.get("program", "ngspice"))  # missing: say so before the long part
        compiler()


def _record(model: ConvertedModel, given: list[Batch], samples: int, seed: int) -> dict[str, Recorder]:
    """What every product sees in a real forward pass; twice the samples, for they are rounded up."""
    recorders = model.record(given, samples=2 * samples, seed=seed, digital=False)
    if all(recorder.rows is None for recorder in recorders.values()):
        raise SpecError("no input reached a crossbar layer: the forward pass calls none of them")
    return recorders


@contextmanager
def _left_as_found(model: ConvertedModel) -> Iterator[None]:
    """Evaluation mode, and afterwards read noise goes on as if nothing had been read, ranges as they were."""
    training = [module for module in model.modules() if module.training]
    states = [(product.random_state, product.random_state.clone()) for product in model.products.values()]
    model.eval()
    try:
        with ExitStack() as kept:
            for product in model.products.values():
                kept.enter_context(product.ranges_kept())
            yield
    finally:
        for state, before in states:
            state.copy_(before)
        for module in training:
            module.training = True


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[float, str], None]]:
    """Yields what takes finished samples and what is at work; a log file shows no moving bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("validating", total=total)
        yield lambda count, what: bar.update(task, advance=count, description=what)


# --- the run ----------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Run:
    """One validation, and what is finished of it."""

    model: ConvertedModel
    recorders: Mapping[str, Recorder]
    reference: Reference
    settings: Mapping[str, Any]
    advance: Callable[[float, str], None]
    layers: list[LayerValidation] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)

    def __call__(self, given: list[Batch], end_to_end: int) -> Validation:
        interrupted = False
        try:
            self._solve(given, end_to_end)
        except KeyboardInterrupt:
            if not (self.layers or self.passes):
                raise
            interrupted = True
        self._check_any()
        done = {layer.name for layer in self.layers}
        return Validation(
            reference=self.reference.engine,
            layers=tuple(self.layers),
            end_to_end=summary(self.passes, self.settings["confidence"]) if self.passes else None,
            untouched=tuple(name for name in self.recorders if name not in self._reached),
            unfinished=tuple(name for name in self._reached if name not in done),
            interrupted=interrupted,
            **self.settings,
        )

    @property
    def _reached(self) -> dict[str, Recorder]:
        return {name: r for name, r in self.recorders.items() if r.rows is not None}

    def _solve(self, given: list[Batch], end_to_end: int) -> None:
        products, samples = self.model.products, self.settings["samples"]
        for name, recorder in self._reached.items():
            advance = partial(lambda name, part: self.advance(part * samples, name), name)
            advance(0.0)
            layer = validate_tiles(
                name, products[name], recorder, self.reference, advance=advance, **self.settings
            )
            self.layers.append(layer)
        if not end_to_end:
            return
        self.advance(0, "end to end")
        for found in passes(self.model, given, end_to_end, self.reference, seed=self.settings["seed"]):
            self.passes.append(found)
            self.advance(len(found.chosen), "end to end")

    def _check_any(self) -> None:
        """SolveError where nothing at all could be compared."""
        if any(layer.samples for layer in self.layers) or any(not p.failure for p in self.passes):
            return
        reasons = [why for layer in self.layers for why in layer.failures] + [p.failure for p in self.passes]
        if reasons:
            raise SolveError(f"not one sample was solved by both engines: {reasons[0]}")
