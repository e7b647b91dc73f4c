"""The node's log: JSON lines, and of each line only fields that can hold nothing about a patient."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from yilian.storage.disk import FILE_MODE, disk_errors

ALLOWED = frozenset(
    {
        "address", "case", "chain", "command", "count", "error", "event", "height", "institution", "job", "kind",
        "level", "logger", "method", "number", "operation", "port", "route", "seconds", "status", "time", "trace",
        "workflow",
    }
)  # fmt: skip
"""Names of fields that a line may have; every other one is dropped, with whatever it held."""
LONGEST_TEXT = 200
_LOUD = ("httpx", "httpcore", "uvicorn", "uvicorn.error", "uvicorn.access", "litestar", "asyncio", "sqlalchemy")


def configure(file: Path, level: str) -> None:
    """Write what is logged in this process to a file from now on, `level` and above."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    with disk_errors(f"log {file}"):
        file.touch(FILE_MODE)
        handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_only_the_pattern, structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                shorten_exception,
                keep_allowed,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers:
        old.close()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in _LOUD:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def keep_allowed(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not in `ALLOWED`, and what is neither a number nor a short text."""
    return {name: value for name, value in line.items() if name in ALLOWED and _is_plain(value)}


def shorten_exception(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep of an exception its type and the places it went through: its words may quote what they should not."""
    found = line.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        line["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        line["trace"] = " ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)[:LONGEST_TEXT]
    return line


def _only_the_pattern(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = line.get("_record")
    if isinstance(record, logging.LogRecord):
        line["event"] = str(record.msg)[:LONGEST_TEXT]
        if record.exc_info:
            line["exc_info"] = record.exc_info
    return line


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)
