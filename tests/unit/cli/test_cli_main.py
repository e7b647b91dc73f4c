"""The command line's frame: nouns, languages, common options, exit codes."""

from __future__ import annotations

import json

import pytest

from yilian.cli import output
from yilian.cli.main import main
from yilian.errors import (
    ConflictError,
    NoGrantError,
    NotFoundError,
    Refused,
    SettingsError,
    UnavailableError,
    VerificationError,
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"LANG": "zh_CN.UTF-8"}, "zh", id="lang"),
        pytest.param({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en", id="lc-all-wins"),
        pytest.param({"YILIAN_LANG": "zh", "LC_ALL": "en_GB"}, "zh", id="own-variable-wins"),
        pytest.param({}, "en", id="nothing-set"),
    ],
)
def test_the_language_follows_the_locale(environment: dict[str, str], expected: str) -> None:
    assert output.by_locale(environment) == expected


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--lang", "en", "--json", "--version"])
    assert (code, list(json.loads(capsys.readouterr().out))) == (0, ["version"])


def test_every_verb_takes_json_and_lang(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["node", "status", "--lang", "en", "--help"])
    printed = capsys.readouterr().out
    assert (code, "--json" in printed, "--lang" in printed) == (0, True, True)


@pytest.mark.parametrize("arguments", [["--lang", "fr"], ["nothing"], ["node", "status", "--unknown"]])
def test_a_command_line_that_makes_no_sense_ends_with_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (SettingsError("x: do y"), "设置或参数有误：x: do y"),
        (NotFoundError("x: do y"), "不存在：x: do y"),
        (NoGrantError("x: do y"), "没有授权：x: do y"),
        (VerificationError("x: do y"), "校验不通过：x: do y"),
        (ConflictError("x: do y"), "冲突：x: do y"),
        (UnavailableError("x: do y"), "暂时不可用：x: do y"),
    ],
)
def test_an_error_says_its_kind_in_the_language_of_the_user(
    capsys: pytest.CaptureFixture[str], error: Exception, title: str
) -> None:
    output.set_up("zh", is_json=False)
    output.show_error(error)  # type: ignore[arg-type]  # every one of them is ours
    assert capsys.readouterr().err == f"{title}\n"


def test_a_refusal_is_named_by_workflow_number_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    output.set_up("en", is_json=False)
    output.show_error(Refused(11, "found a: do b", workflow="governance"))
    assert "[governance 11 NOT_AS_VOTED] found a: do b" in capsys.readouterr().err


def test_a_result_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.set_up("en", is_json=False)
    output.show({"chain": "ab", "ok": True, "files": ["a", "b"], "none": None})
    text = capsys.readouterr().out
    output.set_up("en", is_json=True)
    output.show({"ok": True})
    output.table([{"a": 1}], [("a", "A")])
    assert text.split() == ["chain", "ab", "ok", "yes", "files", "a,", "b", "none", "-"]
    assert capsys.readouterr().out == '{"ok":true}\n[{"a":1}]\n'
