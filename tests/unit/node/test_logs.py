"""The log: JSON lines of allowed fields, no words of exceptions, nothing of other libraries but their patterns."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from yilian.node import logs

NAME = "王小明 identifier 110101199003078515"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "node.log"
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    logs.configure(file, "info")
    yield file
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_only_allowed_fields(log: Path) -> None:
    structlog.get_logger("yilian.test").info("ready", height=3, patient=NAME, institution="centre", count=[NAME])
    (line,) = _lines(log)
    assert {**line, "time": ""} == {
        "event": "ready", "height": 3, "institution": "centre", "level": "info", "logger": "yilian.test", "time": "",
    }  # fmt: skip


def test_an_exception_leaves_its_type_and_place_and_none_of_its_words(log: Path) -> None:
    try:
        raise ValueError(NAME)
    except ValueError:
        structlog.get_logger("yilian.test").exception("job broke", kind="import")
    (line,) = _lines(log)
    assert line["error"] == "ValueError"
    assert str(line["trace"]).startswith("test_logs.py:")
    assert NAME not in log.read_text(encoding="utf-8")


def test_other_libraries_leave_the_pattern_of_their_message_and_none_of_its_values(log: Path) -> None:
    logging.getLogger("uvicorn.error").warning("refused %s", NAME)
    logging.getLogger("httpx").info("GET %s", NAME)
    assert [line["event"] for line in _lines(log)] == ["refused %s"]
    assert NAME not in log.read_text(encoding="utf-8")


def test_what_is_below_the_level_is_not_written(log: Path) -> None:
    structlog.get_logger("yilian.test").debug("detail")
    assert _lines(log) == []


def test_the_log_is_for_its_owner_alone(log: Path) -> None:
    assert log.stat().st_mode & 0o077 == 0
