"""The README is short, links to files that exist, and its code blocks run.

A block is run as it stands, but for fewer and smaller images, in a folder of its own. A block
below a comment `<!-- not run: REASON -->` is only checked: its commands and options must exist.
"""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import run_cli
from typer.main import get_command

from anomaly_cli.cli import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]

# The quick start in seconds: what its command lines leave open is small here.
TINY = {
    "ANOMALY_CLI_SAMPLE_IMAGE_SIZE": "64",
    "ANOMALY_CLI_TRAIN_EPOCHS": "1",
    "ANOMALY_CLI_TRAIN_IMAGE_SIZE": "32",
    "ANOMALY_CLI_TRAIN_LATENT_DIM": "2",
    "ANOMALY_CLI_EVALUATE_REPLICATES": "20",
    "COLUMNS": "110",  # tables as wide as the README
}
FEWER = {"--count": "12"}  # option -> the value that it is run with

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
_END_OF_COMMAND = {">", ">>", "|", "&&", "||", ";"}


class Block(NamedTuple):
    """A fenced block of a document: commands, steps of a workflow that run them, or Python."""

    document: Path
    language: str
    text: str
    is_run: bool

    def commands(self) -> Iterator[list[str]]:
        """Split each command line into words, without comment and redirection."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("- run: "), comments=True)
            end = next((i for i, word in enumerate(words) if word in _END_OF_COMMAND), None)
            if words:
                yield words[:end]


def find_blocks(document: Path, *languages: str) -> list[Block]:
    """List the fenced blocks in these languages, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, match["language"], match["text"], is_run=match["reason"] is None)
        for match in _BLOCK.finditer(text)
        if match["language"] in languages
    ]


def require_valid(words: list[str]) -> None:
    """Refuse a command line of this tool whose command, option or value does not exist."""
    if words[0] != "anomaly-cli":
        return
    arguments = [word for word in words[1:] if word not in {"--quiet", "-q", "--debug"}]
    if arguments[0] in COMMANDS:
        # The parser alone: it knows the options, and opens no --config.
        command = COMMANDS[arguments[0]]
        command.make_parser(command.context_class(command)).parse_args(list(arguments[1:]))
    else:
        assert arguments[0] in {"--version", "--help", "--install-completion"}, words


def table_heads(text: str) -> list[list[str]]:
    """List the column titles of each table that the tool printed."""
    heads = [line.split("┃")[1:-1] for line in text.splitlines() if line.startswith("┃")]
    return [[title.strip() for title in head] for head in heads]


def test_the_readme_is_short() -> None:
    """At most 150 lines of at most 110 characters."""
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 110] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str) -> None:
    assert f"anomaly-cli {name}" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = _LINK.findall(document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_is_valid(document: Path) -> None:
    """Also those that are not run: each command and each option exists."""
    for block in find_blocks(document, "sh", "yaml"):
        for words in block.commands():
            require_valid(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_is_valid(document: Path) -> None:
    for block in find_blocks(document, "python"):
        compile(block.text, document.name, "exec")


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        require_valid(["anomaly-cli", "train", "--epoch", "3"])


def test_every_figure_of_the_readme_is_one_of_accuracy() -> None:
    """How well it works is said once; the README quotes it."""
    section = README.read_text(encoding="utf-8").split("## How well it works")[1].split("\n## ")[0]
    figures = set(re.findall(r"\d\.\d+|\d+%", section))
    assert len(figures) > 10
    known = set(re.findall(r"\d\.\d+|\d+%", (ROOT / "docs" / "accuracy.md").read_text("utf-8")))
    assert figures - known == set()


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block that is not marked otherwise, in order; tables have the titles shown there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANOMALY_CLI_DATA", raising=False)
    for variable, value in TINY.items():
        monkeypatch.setenv(variable, value)
    printed = ""
    for block in find_blocks(README, "sh", "python"):
        if not block.is_run:
            continue
        if block.language == "python":
            exec(compile(block.text, README.name, "exec"), {})  # noqa: S102 (the README's own)
            continue
        for words in block.commands():
            assert words[0] == "anomaly-cli", f"run by nobody, and not marked so: {words}"
            outcome = run_cli(*(FEWER.get(before, word) for before, word in pairwise(words)))
            assert outcome.code == 0, f"{shlex.join(words)}\n{outcome.stderr}"
            printed += outcome.stdout
    shown = "".join(block.text for block in find_blocks(README, "text"))
    assert table_heads(shown)
    assert [head for head in table_heads(shown) if head not in table_heads(printed)] == []
