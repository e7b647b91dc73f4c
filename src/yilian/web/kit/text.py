"""The words of a workflow, 中文 and English, from the `text.toml` of its package."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")


@cache
def load_text(package: str) -> Mapping[str, Any]:
    """Load the words of a package such as `yilian.workflows.referral`."""
    return tomllib.loads(files(package).joinpath("text.toml").read_text(encoding="utf-8"))


def words(package: str, language: Language, *path: str) -> str:
    """Give the words under a path such as ("refusals", "NO_GRANT"); the last part of the path where there are none."""
    found: Any = load_text(package)
    for part in path:
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    said = found.get(language) if isinstance(found, Mapping) else None
    return said if isinstance(said, str) else path[-1]


def mapping_line(line: str, language: Language) -> str:
    """Say a line of an import's mapping, organisation → institution, in a language."""
    if language == "zh":
        for rule, said in (("explicit", "按对照表"), ("by kind", "按机构类别"), ("none", "无归属")):
            line = re.sub(rf"\[{rule}, (\d+) encounters\]$", rf"[{said}，\1 次就诊]", line)
        return line.replace("→ (none: its encounters are skipped)", "→（不属于任何机构，就诊略过）")
    return re.sub(r", 1 encounters\]$", ", 1 encounter]", line)
