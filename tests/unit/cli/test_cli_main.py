"""The command line's frame: nouns, languages, common options, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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
    ("arguments", "said"),
    [
        (["record", "fetch"], "缺少参数 grant：请看 `yilian record fetch --help`"),
        (["referral", "reject", "abcdef"], "缺少选项 --reason：请看 `yilian referral reject --help`"),
        (["nothing"], "没有命令 nothing：请看 `yilian --help`"),
        (["node", "status", "--unknown"], "没有选项 --unknown：请看 `yilian node status --help`"),
        (["node", "status", "more"], "多余的参数 more：请看 `yilian node status --help`"),
    ],
)
def test_a_usage_error_is_said_in_the_language_of_the_user(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["--lang", "zh", *arguments]) == 2
    assert capsys.readouterr().err == f"设置或参数有误：{said}\n"


@pytest.mark.parametrize("words", [["workflow", "list"], ["workflow", "show", "audit"]])
@pytest.mark.parametrize("before", [True, False])
def test_the_workflows_are_told_as_json_too(capsys: pytest.CaptureFixture[str], words: list[str], before: bool) -> None:
    assert main(["--json", *words] if before else [*words, "--json"]) == 0
    assert "audit" in json.dumps(json.loads(capsys.readouterr().out))


def test_a_usage_error_is_json_where_results_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "en", "--json", "record", "fetch"]) == 2
    assert (
        json.loads(capsys.readouterr().err)["message"] == "Missing argument 'grant': see `yilian record fetch --help`"
    )


def test_a_noun_without_a_verb_prints_its_help_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet"]) == 2
    assert "register" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["record"], ["record", "fetch"]])
def test_a_help_page_in_chinese_keeps_every_line_whole(words: list[str]) -> None:
    page = subprocess.run(
        [sys.executable, "-m", "yilian.cli.main", *words, "--help"],
        env={
            "YILIAN_LANG": "zh",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "COLUMNS": "80",
            "PYTHONIOENCODING": "utf-8",
        },
        capture_output=True,
        check=True,
    ).stdout.decode()

    assert "显示帮助后退出。" in page
    assert "…" not in page
    assert "Show this message" not in page


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


def test_a_refusal_that_a_node_has_named_is_not_named_again(capsys: pytest.CaptureFixture[str]) -> None:
    output.set_up("en", is_json=False)
    output.show_error(Refused(6, "No [kernel 6 ILLEGAL_TRANSITION]: found a: do b", workflow="kernel"))
    assert capsys.readouterr().err == "Refused: No [kernel 6 ILLEGAL_TRANSITION]: found a: do b\n"


def test_text_rounds_numbers_shortens_lists_of_ids_and_names_fields(capsys: pytest.CaptureFixture[str]) -> None:
    output.set_up("zh", is_json=False)
    output.show({"case_id": "a" * 64, "records": ["b" * 64, "c" * 64], "seconds": 9.098003213969585, "reason": ""})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["案件", "a" * 64],
        ["病历", f"{'b' * 12},", "c" * 12],
        ["用时（秒）", "9.098"],
        ["理由", "-"],
    ]


def test_a_result_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.set_up("en", is_json=False)
    output.show({"chain": "ab", "ok": True, "files": ["a", "b"], "none": None})
    text = capsys.readouterr().out
    output.set_up("en", is_json=True)
    output.show({"ok": True})
    output.table([{"a": 1}], [("a", "A")])
    assert text.split() == ["chain", "ab", "ok", "yes", "files", "a,", "b", "none", "-"]
    assert capsys.readouterr().out == '{"ok":true}\n[{"a":1}]\n'
