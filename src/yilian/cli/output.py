"""What the command line prints: results to stdout (text or JSON), everything else to stderr, in 中文 or English."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import typer

from yilian.cli.fields import code, field
from yilian.errors import (
    ConflictError,
    NoGrantError,
    NotFoundError,
    Refused,
    SettingsError,
    UnavailableError,
    VerificationError,
    YilianError,
)
from yilian.web.kit.text import Language, words

WIDE = 240
SHORT, ID_DIGITS = 12, 64
"""Hex digits of an id as tables and hints show it, and of a whole one."""
_BRANCHES: tuple[tuple[type[YilianError], str, str], ...] = (
    (Refused, "规则不允许", "Refused"),
    (SettingsError, "设置或参数有误", "Settings or arguments do not make sense"),
    (NotFoundError, "不存在", "Not found"),
    (NoGrantError, "没有授权", "No grant"),
    (VerificationError, "校验不通过", "Verification failed"),
    (ConflictError, "冲突", "Conflict"),
    (UnavailableError, "暂时不可用", "Unavailable"),
)


class _State:
    language: Language = "en"
    is_json: bool = False


_STATE = _State()


def set_up(language: str | None, *, is_json: bool) -> None:
    """Choose language (`zh`, `en`, None = by locale) and form of what follows; SettingsError for another language."""
    if language is not None and language not in {"zh", "en"}:
        raise SettingsError(f"--lang is {language}, expected zh or en: choose one")
    _STATE.language = by_locale(os.environ) if language is None else ("zh" if language == "zh" else "en")
    _STATE.is_json = is_json


def by_locale(environment: Mapping[str, str]) -> Language:
    """Choose the language: YILIAN_LANG, else the first of LC_ALL, LC_MESSAGES, LANG that is set."""
    names = ("YILIAN_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((environment[name] for name in names if environment.get(name)), "")
    return "zh" if chosen.lower().startswith("zh") else "en"


def language() -> Language:
    """Give the language of this call."""
    return _STATE.language


def is_json() -> bool:
    """Say whether results are printed as JSON."""
    return _STATE.is_json


def say(zh: str, en: str) -> str:
    """Choose between the two wordings of one text."""
    return zh if _STATE.language == "zh" else en


def show(data: Mapping[str, Any], text: str | None = None, *, named: Mapping[str, str] | None = None) -> None:
    """Print one result: its JSON, or `text`, or where there is none a line each field; `named` calls some otherwise."""
    if _STATE.is_json:
        typer.echo(_json(data))
    elif text is not None:
        typer.echo(text)
    else:
        titles = named or {}
        lines = [(titles.get(name) or field(name, _STATE.language), value) for name, value in data.items()]
        width = max((_width(name) for name, _ in lines), default=0)
        for name, value in lines:
            typer.echo(f"{name}{' ' * (width - _width(name))}  {_cell(value)}".rstrip())


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> None:
    """Print a list of results: its JSON, or a table with the (field, title) columns."""
    if _STATE.is_json:
        typer.echo(_json(list(rows)))
        return
    from rich.console import Console
    from rich.table import Table

    printed = Table(box=None, pad_edge=False, header_style="bold")
    for _, title in columns:
        printed.add_column(title, overflow="fold")
    for row in rows:
        printed.add_row(*(_cell(row.get(field)) for field, _ in columns))
    # what is piped on is not folded
    width = None if sys.stdout.isatty() else WIDE
    Console(file=sys.stdout, highlight=False, markup=False, width=width).print(printed)


def coded(value: str) -> str:
    """Give a code of the network, such as a role or a state, in the user's language."""
    return code(value, _STATE.language)


def note(text: str) -> None:
    """Say something beside the result, such as what to do next; on stderr."""
    typer.echo(text, err=True)


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr, nothing elsewhere; call what it gives with how much is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def show_error(error: YilianError) -> None:
    """Print an error to stderr: what kind it is in the user's language, then found, expected and what to do."""
    if _STATE.is_json:
        typer.echo(_json(error_fields(error)), err=True)
        return
    title = next((say(zh, en) for kind, zh, en in _BRANCHES if isinstance(error, kind)), say("错误", "Error"))
    # a node's answer names its refusal already
    is_named = isinstance(error, Refused) and f"[{error.workflow} {error.number} " in str(error)
    named = refusal_title(error) if isinstance(error, Refused) and not is_named else ""
    typer.echo(f"{title}{say('：', ': ')}{named}{error}", err=True)


def error_fields(error: YilianError) -> dict[str, Any]:
    """Give an error as JSON fields."""
    fields: dict[str, Any] = {
        "error": next((kind.__name__ for kind, _, _ in _BRANCHES if isinstance(error, kind)), "YilianError"),
        "message": str(error),
        "exit_code": error.exit_code,
    }
    if isinstance(error, Refused):
        fields |= {"workflow": error.workflow, "number": error.number, "inner": [list(one) for one in error.inner]}
    return fields


def refusal_title(error: Refused) -> str:
    """Give a refusal's wording in the user's language and its code, such as `没有授权 [consent 1 NO_GRANT] `."""
    from yilian.workflows.registry import WORKFLOWS

    workflow = next((item for item in WORKFLOWS if item.name == error.workflow), None)
    if workflow is None:
        return f"[{error.workflow or 'kernel'} {error.number}] "
    name = next((code.name for code in workflow.refusals if code == error.number), "")
    package = f"yilian.workflows.{workflow.name}"
    return f"{words(package, _STATE.language, 'refusals', name)} [{workflow.name} {error.number} {name}] "


def _abridged(text: str) -> str:
    """Shorten an id that stands among others; as JSON all are whole."""
    is_id = len(text) == ID_DIGITS and not text.strip("0123456789abcdef")
    return text[:SHORT] if is_id else text


def _width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _json(data: object) -> str:
    return msgspec.json.encode(data).decode()


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return say("是", "yes") if value else say("否", "no")
        case float():
            return f"{round(value, 3):g}"
        case str() | int():
            return str(value) or "-"
        case list() | tuple() if all(isinstance(item, str | int) for item in value):
            return ", ".join(_abridged(str(item)) for item in value) or "-"
        case _:
            return _json(value)
