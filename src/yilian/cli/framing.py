"""What typer says by itself, in the language of the call: titles of help pages, and usage errors as errors of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from yilian.cli.output import language, say
from yilian.errors import SettingsError

_TITLES = {
    "ARGUMENTS_PANEL_TITLE": "参数",
    "OPTIONS_PANEL_TITLE": "选项",
    "COMMANDS_PANEL_TITLE": "命令",
    "DEFAULT_STRING": "[默认：{}]",
    "ENVVAR_STRING": "[环境变量： {}]",
    "REQUIRED_LONG_STRING": "[必填]",
}
_ERRORS = (
    (r"Missing command\.", "缺少命令"),
    (r"Missing argument '(.*?)'\.", "缺少参数 {}"),
    (r"Missing option '(.*?)'\.", "缺少选项 {}"),
    (r"No such command '(.*?)'\.", "没有命令 {}"),
    (r"No such option: (\S+).*", "没有选项 {}"),
    (r"Option '(.*?)' requires an argument\.", "选项 {} 后须有值"),
    (r"Got unexpected extra argument\(s\) \((.*)\)", "多余的参数 {}"),
    (r"Invalid value for '(.*?)'.*", "{} 的值不可用"),
)


def translate(command: Any) -> None:  # noqa: ANN401 - typer keeps its command type to itself
    """Put what typer adds to a command, and to those below it, into the language of the call."""
    made = command.get_help_option

    def help_option(context: Any) -> Any:  # noqa: ANN401 - as above
        option = made(context)
        if option is not None:
            option.help = say("显示帮助后退出。", "Show this message and exit.")
        return option

    command.get_help_option = help_option
    for inner in getattr(command, "commands", {}).values():
        translate(inner)


def frame_help() -> None:
    """Fold long words and lines without blanks on help pages, which say their titles in the language of the call."""
    from rich.table import Table
    from rich.text import Text
    from typer import rich_utils

    class Folding(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:  # noqa: ANN401 - as rich has it
            super().add_row(*cells, **options)
            for column in self.columns:
                column.overflow = "fold"

    def flowing(items: Iterable[Text]) -> Text:
        return Text(" ", overflow="fold").join(items)

    vars(rich_utils).update(_TITLES if language() == "zh" else {}, Table=Folding, Columns=flowing)


def usage_error(message: str, command: str) -> SettingsError:
    """Turn what typer says of a command line into an error like all others, which names the help page."""
    said = message.strip().removesuffix(".")
    if language() == "zh":
        found = ((re.fullmatch(form, message.strip()), text) for form, text in _ERRORS)
        said = next((text.format(match[1]) for match, text in found if match is not None), said)
    return SettingsError(f"{said}{say('：请看 ', ': see ')}`{command} --help`")
