"""`yilian <noun> <verb>`: finds the noun's module, and turns errors into messages and exit codes, never tracebacks.

Exit codes: 0 done, 1 refused, 2 usage or settings, 3 not found, 4 no grant, 5 verification failed, 6 conflict,
7 unreachable, 70 a fault of the program, 130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from yilian.cli import output
from yilian.cli.framing import frame_help, translate, usage_error
from yilian.errors import SettingsError, UnavailableError, YilianError

NOUNS = (
    "demo",
    "node",
    "network",
    "record",
    "screen",
    "consent",
    "grant",
    "referral",
    "audit",
    "proof",
    "log",
    "wallet",
    "backup",
    "restore",
    "workflow",
)
"""Each is a module beside this one with an `app`; loaded when it is called for."""
INTERRUPTED, FAULT = 130, 70
_ROOT_HELP = {
    "version": "显示版本后退出。",
    "as_json": "以 JSON 输出结果。",
    "lang": "zh 或 en，默认按系统语言。",
    "help": "显示帮助后退出。",
}
_HELP = {"-h", "--help"}
_BARE = 2
"""A noun without a verb, or a language beside it: what prints a help page too."""


class Nouns(TyperGroup):
    """The nouns, loaded one by one; each of these and each verb takes `--json` and `--lang`, whether it knows of it."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer keeps its context type to itself
        """Give the nouns in the order of the help page."""
        return [noun for noun in NOUNS if importlib.util.find_spec(f"yilian.cli.{noun}") is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - as above
        """Load a noun, or give None where there is none of this name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = typer.main.get_command(importlib.import_module(f"yilian.cli.{cmd_name}").app)
        command.name = cmd_name
        command.params = [one for one in command.params if one.name not in {"install_completion", "show_completion"}]
        for one in _with_inner(command):
            _add_common(one)
        translate(command)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """Write the first help page in the language of the call, which is known only now."""
        self.help = _purpose()
        params: list[Any] = list(self.get_params(ctx)) if output.language() == "zh" else []
        for one in params:
            one.help = _ROOT_HELP.get(one.name, one.help)
        super().format_help(ctx, formatter)


app = typer.Typer(
    cls=Nouns,
    name="yilian",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        number = importlib.metadata.version("yilian")
        output.show({"version": number}, f"yilian {number}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
    lang: Annotated[str, typer.Option("--lang", help="zh or en; by locale where not given.")] = "",
) -> None:
    """医链 yilian: circulate medical data between institutions, on a ledger that none of them owns.

    Example: yilian demo
    """


def _purpose() -> str:
    said = output.say(
        "医链 yilian：病历在机构之间流转，凭一本不归任何一家所有的账。",
        "医链 yilian: circulate medical data between institutions, on a ledger that none of them owns.",
    )
    return f"{said}\n\nExample: yilian demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # before any module with texts is loaded, since help texts are chosen when they are read
        output.set_up(_language_of(given), is_json="--json" in given)
        if not _HELP.isdisjoint(given) or len([one for one in given if not one.startswith("-")]) <= _BARE:
            frame_help()
        return _run(given)
    except YilianError as error:
        output.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (MemoryError, OSError) as error:
        output.show_error(UnavailableError(f"{type(error).__name__}: {error}: free what is missing, then try again"))
        return UnavailableError.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame: a user gets a sentence, never a traceback
        return _broken(error)


def _broken(error: Exception) -> int:
    if os.environ.get("YILIAN_TRACEBACK"):
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    output.note(
        output.say("程序错误：", "A fault of the program: ")
        + f"{type(error).__name__}, {place}"
        + output.say("。设 YILIAN_TRACEBACK=1 再运行并报告。", ": run again with YILIAN_TRACEBACK=1 and report it.")
    )
    return FAULT


def _run(given: list[str]) -> int:
    try:
        result = app(given, prog_name="yilian", standalone_mode=False)
    except typer.Abort:
        if sys.stdin.isatty():
            return INTERRUPTED
        raise SettingsError("stdin ended, expected the answer to a question: pipe it, or use a terminal") from None
    except TyperException as error:
        if message := error.format_message():
            context = getattr(error, "ctx", None)
            raise usage_error(message, context.command_path if context is not None else "yilian") from None
        # nothing was asked, and the help page is printed
        return SettingsError.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return result if isinstance(result, int) else 0


def _language_of(given: Sequence[str]) -> str | None:
    for at, argument in enumerate(given):
        if argument.startswith("--lang="):
            return argument.removeprefix("--lang=")
        if argument == "--lang" and at + 1 < len(given):
            return given[at + 1]
    return None


def _with_inner(command: Any) -> list[Any]:  # noqa: ANN401 - typer keeps its command type to itself
    inner = getattr(command, "commands", {})
    return [command, *(found for one in inner.values() for found in _with_inner(one))]


def _add_common(command: Any) -> None:  # noqa: ANN401 - as above
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [one for one in _common_options() if not taken.intersection(one.opts)]


def _common_options() -> list[Any]:
    def options(
        *,
        as_json: Annotated[
            bool, typer.Option("--json", help=output.say("以 JSON 输出结果。", "Print results as JSON."))
        ] = False,
        lang: Annotated[
            str,
            typer.Option("--lang", help=output.say("zh 或 en，默认按系统语言。", "zh or en; by locale if not given.")),
        ] = "",
    ) -> None:
        """Only lends its options; their values were read before (`output.set_up`)."""

    lender = typer.Typer(add_completion=False)
    lender.command()(options)
    params = [one for one in typer.main.get_command(lender).params if one.name in {"as_json", "lang"}]
    for one in params:
        one.expose_value = False
    return params


if __name__ == "__main__":
    sys.exit(main())
