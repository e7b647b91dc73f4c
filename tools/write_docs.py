"""Write the pages of `docs/` that list what the code has: glossary, settings, refusals, commands, routes.

Words that the code has in one language only stand in `docs/text.toml`, the glossary in `docs/glossary.toml`.
A test compares the pages with the code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

from yilian.ledger.envelope import TransactionCode
from yilian.ledger.registry import Registry
from yilian.ledger.workflow import KernelRefusal
from yilian.node import settings
from yilian.web.app import create_app
from yilian.workflows.registry import WORKFLOWS

DOCS = Path(__file__).parent.parent / "docs"
LANGUAGES = {"en": ".md", "zh": ".zh.md"}
COMMON = frozenset({"as_json", "lang", "help"})
"""Options that every verb has; the page says so once."""

Pages = dict[str, str]
Words = dict[str, Any]


def glossary(language: str) -> str:
    """Give the glossary in the order of a language's own words."""
    text, terms = _text("glossary"), _toml("glossary.toml")["term"]
    if language == "en":
        terms = sorted(terms, key=lambda term: term["en"].lower())
    other = "zh" if language == "en" else "en"
    rows = [[term[language], term[other], f"`{term['code']}`", term[f"said_{language}"]] for term in terms]
    return _page(text, language, _table(text["columns"][language], rows))


def operate_settings(language: str) -> str:
    """Give the list of all settings."""
    text, chinese = _text("settings"), _toml("text.toml")["settings"]
    rows = []
    for field in settings.fields():
        variable = settings.PASSPHRASE_VARIABLE if field.name == "passphrase_file" else field.variable
        default = "–" if field.default in {"", ()} else f"`{field.default}`"
        meaning = field.doc if language == "en" else _said(chinese, field.name, "settings")
        rows.append([f"`{field.name}`", f"`{variable}`", default, field.unit, meaning])
    return _page(text, language, _table(text["columns"][language], rows))


def refusals(language: str) -> str:
    """Give the numbers of the kernel and the transaction codes; those of a workflow stand on its own page."""
    text, words = _text("refusals"), _toml("text.toml")
    columns = text["columns"][language]
    return _page(
        text,
        language,
        text["kernel"][language],
        _table(columns, _numbered(KernelRefusal, words["kernel"], language)),
        text["codes"][language],
        _table(columns, _numbered(TransactionCode, words["transaction"], language)),
    )


def commands(language: str) -> str:
    """Give the command line: every noun and verb with its options."""
    text, codes = _text("commands"), _toml("text.toml")["exit"]
    parts = [_table(text["codes"][language], [[code, words[language]] for code, words in codes.items()])]
    for one in _commands_in(language):
        parts += [f"## {one['name']}\n", one["help"] + "\n"]
        if one["examples"]:
            parts.append("```sh\n" + "\n".join(one["examples"]) + "\n```\n")
        if one["options"]:
            parts.append(_table(text["columns"][language], one["options"]))
    return _page(text, language, *parts)


def routes(language: str) -> str:
    """Give the routes of the HTTP interface; those of a workflow's commands as one pattern, since tables make them."""
    text, said = _text("http"), _toml("text.toml")["routes"]
    rows = []
    for route, summary in _routes():
        words = _said(said, route, "routes")
        both = words if isinstance(words, dict) else {"zh": words, "en": summary}
        rows.append([f"`{route}`", both[language]])
    return _page(text, language, _table(text["columns"][language], rows))


WRITERS = {
    "glossary": glossary,
    "operate/settings": operate_settings,
    "audit/refusals": refusals,
    "use/commands": commands,
    "develop/http": routes,
}


def pages() -> Pages:
    """Give all pages: path below `docs/`, and content."""
    return {name + end: write(language) for name, write in WRITERS.items() for language, end in LANGUAGES.items()}


def print_commands() -> None:
    """Print every command as JSON, in the language of YILIAN_LANG: name, help, examples, options."""
    from yilian.cli import output  # noqa: PLC0415 - help texts are chosen when they load

    output.set_up(None, is_json=False)
    from yilian.cli import main as cli  # noqa: PLC0415 - as above

    root: Any = typer.main.get_command(cli.app)
    found: list[Words] = []
    for noun in root.list_commands(None):
        _collect(f"yilian {noun}", root.get_command(None, noun), found)
    print(json.dumps(found, ensure_ascii=False))


def _commands_in(language: str) -> list[Words]:
    """Ask a process of its own, since texts load in one language."""
    code = "from tools import write_docs; write_docs.print_commands()"
    environment = {**os.environ, "YILIAN_LANG": language, "PYTHONPATH": str(DOCS.parent)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found: list[Words] = json.loads(ran.stdout)
    return found


def _collect(name: str, command: Any, found: list[Words]) -> None:  # noqa: ANN401 - typer hides its types
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        found.append(_described(name, command))
    for verb, one in inner.items():
        _collect(f"{name} {verb}", one, found)


def _described(name: str, command: Any) -> Words:  # noqa: ANN401 - as above
    text, *examples = (command.help or "").replace("\f", "").split("Example: ")
    return {
        "name": name,
        "help": " ".join(text.split()),
        "examples": [" ".join(line.split()) for line in examples],
        "options": [_option(one) for one in command.params if one.name not in COMMON],
    }


def _option(parameter: Any) -> list[str]:  # noqa: ANN401 - as above
    is_option = parameter.opts[0].startswith("-")
    name = " ".join([*parameter.opts, *parameter.secondary_opts]) if is_option else parameter.name.upper()
    variable = f" (`{parameter.envvar}`)" if isinstance(parameter.envvar, str) else ""
    default = parameter.default
    shown = not (parameter.required or callable(default) or default is None or default is False or str(default) == "")
    return [f"`{name}`", " ".join((parameter.help or "").split()) + variable, f"`{default}`" if shown else "–"]


def _routes() -> list[tuple[str, str]]:
    # `create_app` only looks at the registry until a request comes
    node: Any = SimpleNamespace(registry=Registry(WORKFLOWS))
    # a raw route says no method
    found = {"POST /v1/transactions": ""}
    for route in create_app(node).routes:
        if route.path.startswith("/schema"):
            continue
        for handler in getattr(route, "route_handlers", ()):
            for method in handler.http_methods - {"OPTIONS"}:
                found[f"{method} {_path(route.path_format)}"] = handler.summary or ""
    return sorted(found.items(), key=lambda item: item[0].split()[::-1])


def _path(path: str) -> str:
    if not path.startswith("/v1/workflows/"):
        return path
    return "/v1/workflows/{workflow}/{command}" + ("/draft" if path.endswith("/draft") else "")


def _numbered(kind: Iterable[Any], words: Words, language: str) -> list[list[str]]:
    return [[str(int(item)), f"`{item.name}`", _said(words, item.name, kind)[language]] for item in kind]


def _said(words: Words, name: str, table: object) -> Any:  # noqa: ANN401 - text, or text by language
    if name not in words:
        raise SystemExit(f"docs/text.toml has no words for {name} ({table}): add a line, then run tools/write_docs.py")
    return words[name]


def _toml(name: str) -> Words:
    return tomllib.loads((DOCS / name).read_text(encoding="utf-8"))


def _text(page: str) -> Words:
    found: Words = _toml("text.toml")["page"][page]
    return found


def _page(text: Words, language: str, *parts: str) -> str:
    whole = (f"# {text['title'][language]}", text["lead"][language], *parts)
    return "\n\n".join(part.strip("\n") for part in whole) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main() -> int:
    """Write every page."""
    for name, content in pages().items():
        (DOCS / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
