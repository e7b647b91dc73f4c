"""Write the pages of `docs/` that list what the code has: glossary, settings, refusals of the kernel, commands, routes.

Words in the second language stand in `docs/text.toml` and `docs/glossary.toml`. A test compares the pages with the code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from yilian.ledger.envelope import TransactionCode
from yilian.ledger.workflow import KernelRefusal
from yilian.node import settings

DOCS = Path(__file__).parent.parent / "docs"
Pages = dict[str, str]
COMMON = frozenset({"as_json", "lang", "help"})
"""Options that every verb has; the page says so once."""


def glossary() -> Pages:
    """Give the glossary in both languages, each in the order of its own words."""
    terms = _toml("glossary.toml")["term"]
    english = sorted(terms, key=lambda term: term["en"].lower())
    rows = {
        "en": [[term["en"], term["zh"], f"`{term['code']}`", term["said_en"]] for term in english],
        "zh": [[term["zh"], term["en"], f"`{term['code']}`", term["said_zh"]] for term in terms],
    }
    return {
        "glossary.md": _page(
            "Glossary",
            "One word for one thing, in code, wire, page and talk.",
            _table(("term", "中文", "in the code", "meaning"), rows["en"]),
        ),
        "glossary.zh.md": _page(
            "术语表",
            "同一件事，在代码、报文、页面和交谈里都用同一个词。",
            _table(("术语", "English", "代码里", "含义"), rows["zh"]),
        ),
    }


def operate_settings() -> Pages:
    """Give the list of all settings."""
    chinese = _toml("text.toml")["settings"]
    fields = settings.fields()
    columns = {
        "en": ("setting", "environment", "default", "unit", "meaning"),
        "zh": ("设置", "环境变量", "默认值", "单位", "含义"),
    }
    rows = {
        language: [
            [
                f"`{field.name}`",
                f"`{settings.PASSPHRASE_VARIABLE if field.name == 'passphrase_file' else field.variable}`",
                f"`{field.default}`" if field.default != "" else "–",
                field.unit,
                field.doc if language == "en" else chinese[field.name],
            ]
            for field in fields
        ]
        for language in ("en", "zh")
    }
    return {
        "operate/settings.md": _page(
            "Settings",
            "A node reads them once at start: environment over `node.toml` in its home over these defaults.\n"
            "A name that is none of these stops the start, with the nearest name.",
            _table(columns["en"], rows["en"]),
        ),
        "operate/settings.zh.md": _page(
            "设置",
            "节点启动时读取一次：环境变量优先于节点目录里的 `node.toml`，再优先于下列默认值。\n"
            "写了不存在的名字会拒绝启动，并提示最接近的名字。",
            _table(columns["zh"], rows["zh"]),
        ),
    }


def refusals() -> Pages:
    """Give the numbers of the kernel and the transaction codes; those of a workflow stand on its own page."""
    text = _toml("text.toml")
    pages = {}
    said = {
        "en": (
            "Refusals and codes",
            "A refusal is the pair (workflow, number).\n"
            "Numbers are frozen; they are never changed and never used again.\n"
            "Those of a workflow stand on [its own page](../use/workflows).",
            ("number", "name", "meaning"),
            "## Refusals of the kernel\n\nRecorded in the log; nothing else changes.\n",
            "## Transaction codes\n\nA transaction with such a code never enters a block; only its sender hears of it.\n",
        ),
        "zh": (
            "拒绝编号与交易代码",
            "一个拒绝就是（工作流，编号）这一对。\n"
            "编号固定，不更改，也不再用。\n"
            "各工作流自己的编号见[各自的页面](../use/workflows)。",
            ("编号", "名称", "含义"),
            "## 内核的拒绝\n\n记入日志，除此之外什么也不改变。\n",
            "## 交易代码\n\n带这种代码的交易不会进入区块，只有发送方知道。\n",
        ),
    }
    for language, (title, lead, columns, kernel, codes) in said.items():
        name = "audit/refusals.md" if language == "en" else "audit/refusals.zh.md"
        pages[name] = _page(
            title,
            lead,
            kernel,
            _table(columns, _numbered(KernelRefusal, text["kernel"], language)),
            codes,
            _table(columns, _numbered(TransactionCode, text["transaction"], language)),
        )
    return pages


def commands() -> Pages:
    """Give the command line, every noun and verb with its options; a process a language, since texts load in one."""
    said = {
        "en": (
            "use/commands.md",
            "Command line",
            "`yilian <noun> <verb>`.\n"
            "Verbs speak HTTP to the running node; only `demo` and `node` open a home.\n"
            "Results go to stdout, everything else to stderr; `--json` prints results as JSON, `--lang zh` speaks Chinese."
            "\n",
            "## Exit codes\n",
            ("code", "meaning"),
            ("option", "meaning", "default"),
        ),
        "zh": (
            "use/commands.zh.md",
            "命令行",
            "`yilian <名词> <动词>`。\n"
            "动词通过 HTTP 与运行中的节点通信；只有 `demo` 和 `node` 直接打开节点目录。\n"
            "结果写到标准输出，其余写到标准错误；`--json` 输出 JSON，`--lang zh` 用中文。\n",
            "## 退出码\n",
            ("代码", "含义"),
            ("选项", "含义", "默认值"),
        ),
    }
    pages = {}
    codes = _toml("text.toml")["exit"]
    for language, (name, title, lead, codes_title, code_columns, columns) in said.items():
        parts = [lead, codes_title, _table(code_columns, [[code, text[language]] for code, text in codes.items()])]
        for one in _commands_in(language):
            parts += [f"## {one['name']}\n", one["help"] + "\n"]
            if one["examples"]:
                parts.append("```sh\n" + "\n".join(one["examples"]) + "\n```\n")
            if one["options"]:
                parts.append(_table(columns, one["options"]))
        pages[name] = _page(title, *parts)
    return pages


def _commands_in(language: str) -> list[dict[str, Any]]:
    code = "from tools import write_docs; write_docs.print_commands()"
    environment = {**os.environ, "YILIAN_LANG": language, "PYTHONPATH": str(DOCS.parent)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def print_commands() -> None:
    """Print every command of this language as JSON: name, help, examples, options."""
    from yilian.cli import output  # noqa: PLC0415 - before the texts load

    output.set_up(None, is_json=False)
    from yilian.cli import main as cli  # noqa: PLC0415 - after the language is chosen

    root = typer.main.get_command(cli.app)
    nouns = cli.app.info.cls or type(root)
    found: list[dict[str, Any]] = []
    for noun in nouns.list_commands(root, None):  # type: ignore[arg-type]  # the context is not looked at
        _collect(f"yilian {noun}", root.get_command(None, noun), found)  # type: ignore[attr-defined]
    print(json.dumps(found, ensure_ascii=False))


def _collect(name: str, command: Any, found: list[dict[str, Any]]) -> None:  # noqa: ANN401 - typer hides its types
    inner = getattr(command, "commands", None)
    if inner is not None:
        for verb, one in inner.items():
            _collect(f"{name} {verb}", one, found)
        return
    text, *examples = (command.help or "").replace("\f", "").split("Example: ")
    options = [_option(one) for one in command.params if one.name not in COMMON and not getattr(one, "hidden", False)]
    found.append(
        {
            "name": name,
            "help": " ".join(text.split()),
            "examples": [line.strip() for line in examples],
            "options": options,
        }
    )


def _option(parameter: Any) -> list[str]:  # noqa: ANN401 - as above
    is_argument = not parameter.opts[0].startswith("-")
    name = parameter.name.upper() if is_argument else " ".join(parameter.opts)
    variable = f" (`{parameter.envvar}`)" if isinstance(parameter.envvar, str) else ""
    default = parameter.default
    shown = "" if default in {None, "", False} or parameter.required or callable(default) else str(default)
    return [f"`{name}`", " ".join((parameter.help or "").split()) + variable, f"`{shown}`" if shown else "–"]


def pages() -> Pages:
    """Give all pages: path below `docs/`, and content."""
    return {**glossary(), **operate_settings(), **refusals(), **commands()}


def _numbered(kind: Iterable[Any], words: dict[str, dict[str, str]], language: str) -> list[list[str]]:
    return [[str(int(item)), f"`{item.name}`", words[item.name][language]] for item in kind]


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((DOCS / name).read_text(encoding="utf-8"))


def _page(title: str, *parts: str) -> str:
    return f"# {title}\n\n" + "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def main() -> int:
    """Write every page."""
    for name, content in pages().items():
        (DOCS / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
