"""The lines that tell to which institution the organisations of an import belong."""

from __future__ import annotations

import pytest

from yilian.web.kit.text import Language, mapping_line


@pytest.mark.parametrize(
    ("language", "line", "said"),
    [
        ("en", "A  Centre → lake  [by kind, 1 encounters]", "A  Centre → lake  [by kind, 1 encounter]"),
        ("en", "A  Centre → lake  [explicit, 21 encounters]", "A  Centre → lake  [explicit, 21 encounters]"),
        ("zh", "A  中心 → lake  [by kind, 1 encounters]", "A  中心 → lake  [按机构类别，1 次就诊]"),
        ("zh", "A  中心 → (none: its encounters are skipped)  [none, 3 encounters]",
         "A  中心 →（不属于任何机构，就诊略过）  [无归属，3 次就诊]"),
    ],
)  # fmt: skip
def test_a_mapping_is_told_in_the_language_of_the_reader(language: Language, line: str, said: str) -> None:
    assert mapping_line(line, language) == said
