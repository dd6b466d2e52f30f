"""What the documents show is run; the examples are in test_examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of ``language`` in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def python_blocks() -> list[object]:
    return [
        pytest.param(text, id=f"{document.name}-{number}")
        for document in DOCUMENTS
        for number, text in enumerate(blocks(document, "python"))
    ]


@pytest.mark.parametrize("text", python_blocks())
def test_python_block_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "<markdown>", "exec"), {"__name__": "__main__"})


def test_readme_has_python_and_the_two_commands():
    assert blocks(ROOT / "README.md", "python")
    commands = "".join(blocks(ROOT / "README.md", "bash"))
    assert {"./scripts/demo", "./scripts/test"} <= set(re.findall(r"^\S+", commands, flags=re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_links_lead_somewhere(document: Path):
    commands = "".join(blocks(document, "bash"))
    for script in re.findall(r"\./(scripts/\w+)", commands):
        assert (ROOT / script).stat().st_mode & 0o111, f"{document.name}: {script} is not executable"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name}: dead link {target}"


def test_every_option_and_command_of_the_documents_exists():
    """``cosim <command> --option`` as written in a bash block is known to the command line."""
    from typer.testing import CliRunner

    from cosim.cli import app

    for document in DOCUMENTS:
        for line in re.findall(
            r"^\.venv/bin/cosim (.*)$", "".join(blocks(document, "bash")), flags=re.MULTILINE
        ):
            command, *words = line.split()
            shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
            assert shown.exit_code == 0, f"{document.name}: cosim {command}"
            for option in (word for word in words if word.startswith("--")):
                assert option in shown.output, f"{document.name}: cosim {command} {option}"


def test_lines_of_models_are_those_of_the_files():
    """Each block of Verilog-A in "Bring your model" stands in the file that its section names."""
    text = (ROOT / "docs/your_model.md").read_text()
    sections = re.findall(r"^## .*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    shown = set()
    for section in sections:
        for excerpt in re.findall(r"^```verilog\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL):
            (name,) = re.findall(r"\]\(\.\./(examples/models/\w+\.va)\)", section.splitlines()[0])
            lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
            start = lines.index(excerpt.splitlines()[0])
            assert lines[start : start + excerpt.count("\n")] == excerpt.splitlines(), name
            shown.add(ROOT / name)
    assert shown == set(ROOT.glob("examples/models/*.va"))
