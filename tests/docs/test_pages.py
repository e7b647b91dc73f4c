"""What the pages show can be done as shown: blocks run, links lead somewhere, both languages land together."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from yilian.cli import main as cli
from yilian.client import verify_cli

ROOT = Path(__file__).parent.parent.parent
TOP = ("README.md", "README.zh.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [
    *(ROOT / name for name in TOP),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "spec").glob("*.md")),
    ROOT / "examples" / "README.md",
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LANGUAGES = {"sh", "console", "python", "toml", "text", "json", ""}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def _blocks(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}")
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for match in BLOCK.finditer(text)
        for found, block in [match.groups()]
        if found == language
    ]


def _command_lines(block: str) -> list[list[str]]:
    """Give the words of each command of a shell block; a line that ends in a backslash goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    shown = [re.split(r" [#<|>] ?", line.removeprefix("$ "))[0].strip() for line in lines]
    return [shlex.split(line) for line in shown if line and not line.startswith("#")]


def _find(words: list[str]) -> tuple[Any, list[str]]:
    """Go down the command line's own tree by the words of a command; what is left are its arguments."""
    command: Any = typer.main.get_command(cli.app)
    rest = words[1:]
    while rest and not rest[0].startswith("-") and getattr(command, "commands", None) is not None:
        inner = command.get_command(None, rest[0])
        assert inner is not None, f"{' '.join(words)}: there is no {rest[0]}"
        command, rest = inner, rest[1:]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page: Path) -> None:
    found = {match.group(1) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))}
    assert found <= LANGUAGES


@pytest.mark.parametrize("block", _blocks("python"))
def test_a_python_block_runs(block: str) -> None:
    exec(compile(block, "block", "exec"), {"__name__": "block"})  # noqa: S102 - our own pages


@pytest.mark.parametrize("block", _blocks("toml"))
def test_a_toml_block_reads(block: str) -> None:
    assert tomllib.loads(block)


@pytest.mark.parametrize("block", _blocks("sh"))
def test_a_shell_block_holds_commands_as_the_program_takes_them(block: str) -> None:
    for words in _command_lines(block):
        if words[0] == "yilian-verify":
            assert verify_cli.parser().parse_args(words[1:])
            continue
        assert words[0] == "yilian", f"{words[0]}: only yilian and yilian-verify in a sh block"
        command, rest = _find(words)
        if hasattr(command, "commands") and not command.invoke_without_command:
            assert set(rest) <= {"--help", "--version"}
            continue
        if "--help" not in rest:
            command.make_context("yilian", list(rest), resilient_parsing=False)


@pytest.mark.parametrize("block", _blocks("console"))
def test_a_console_block_names_targets_and_tools_that_exist(block: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in _command_lines(block):
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word]
            assert set(named) <= targets
        else:
            assert words[0] == ".venv/bin/python"
            assert (ROOT / words[1]).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_something_in_the_tree(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [link for link in targets if link and not (page.parent / link).exists()] == []


def _pairs() -> list[Path]:
    single = {ROOT / "docs" / "adr", ROOT / "spec", ROOT / "examples"}
    pages = [page for page in PAGES if page.parent not in single and page.name not in TOP[2:]]
    return [page for page in pages if not page.name.endswith(".zh.md")]


@pytest.mark.parametrize("page", _pairs(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_its_chinese_twin_with_the_same_parts(page: Path) -> None:
    twin = page.with_name(page.name.removesuffix(".md") + ".zh.md")
    english, chinese = (one.read_text(encoding="utf-8") for one in (page, twin))
    assert [len(mark) for mark in HEADING.findall(english)] == [len(mark) for mark in HEADING.findall(chinese)]
    assert [match.group(1) for match in BLOCK.finditer(english)] == [
        match.group(1) for match in BLOCK.finditer(chinese)
    ]
    assert english.count("\n|") == chinese.count("\n|")


def test_no_chinese_page_stands_alone() -> None:
    twins = [page for page in PAGES if page.name.endswith(".zh.md")]
    assert [page for page in twins if not page.with_name(page.name.replace(".zh.md", ".md")).is_file()] == []


def test_every_decision_record_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = set(re.findall(r"\((\d{4}-[a-z-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {file.name for file in folder.glob("0*.md")}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs(example: Path) -> None:
    ran = subprocess.run([sys.executable, "-W", "error", str(example)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_loads_and_names_nothing_outside_the_tree(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S+", text) == []
    assert re.findall(r"(?:^|[\s`(])/(?:home|root|Users|work)/\S*", text) == []
