"""Every option of every command with wrong texts: an exit code and one line, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from cosim import cli, demo
from cosim.bench import suite
from cosim.errors import ToolFailed

FEW = ("", "nan", "-1", "9" * 400)
TEXTS = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "x",
    "9" * 400,
    "a,b",
    "0x0",
    "1x1",
    "NAME=",
    "=1",
    "/no/such.npy",
)
TILE = ["vteam", "--shape", "2x2", "--batch", "1"]
COMMANDS = {
    "iv": ["vteam", "--points", "3"],
    "solve": [*TILE, "--engine", "ideal"],
    "compare": [*TILE, "--engines", "ideal", "--reference", "linear"],
    "netlist": TILE,
    "bench": ["--quick"],
    "demo": ["--images", "1"],
    "cache": [],
    "doctor": [],
}
GROUP: Any = typer.main.get_command(cli.app)


@pytest.fixture(autouse=True)
def nothing_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In folders of its own, for one command clears the cache; what takes long stops where it would begin."""

    def stop(*_: object, **__: object) -> None:
        raise ToolFailed("far enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COSIM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(demo, "train", stop)
    monkeypatch.setattr(suite, "run", stop)
    monkeypatch.setattr("cosim.doctor.examine", lambda: iter(()))


def options(command: str) -> Iterator[tuple[str, bool]]:
    """Every option of a command, and whether it takes a value."""
    for parameter in GROUP.commands[command].params:
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            yield parameter.opts[0], not parameter.is_flag


def test_every_command_is_tried():
    assert set(COMMANDS) == set(GROUP.commands)


def check_commands(command: str, texts: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    for option, takes_value in options(command):
        for text in texts if takes_value else ("",):
            words = [command, *COMMANDS[command], option, *([text] if takes_value else [])]
            with pytest.raises(SystemExit) as stop:  # anything else is a traceback
                cli.main(words)
            assert stop.value.code in range(8), words
            said = capsys.readouterr().err
            assert stop.value.code == 0 or said.strip(), words


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command_ends_with_a_code_and_a_message(command: str, capsys: pytest.CaptureFixture[str]):
    check_commands(command, FEW, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_wrong_command_ends_with_a_code_and_a_message(command: str, capsys: pytest.CaptureFixture[str]):
    check_commands(command, TEXTS, capsys)


@pytest.mark.parametrize("model", ["", "no_such", "/no/such.va", ".", "\0", "x" * 5000])
def test_a_wrong_model_is_told(model: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["iv", model])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("cosim: ")
