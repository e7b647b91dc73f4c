"""How the story is laid out on a terminal: folded between words, set in, nothing lost."""

from __future__ import annotations

import unicodedata

import pytest

from yilian.demo.telling import INDENT, fold


def _width(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in line)


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize(
    "text",
    [
        "    12.4 s  Stonebridge Township Health Centre asks to join: its request is signed by its CA and its officer.",
        "     5.0 s  长桥镇卫生院申请加入：请求文件由其 CA、网关密钥与管理员密钥共同签名，“请评估。”（韩守信）完。",
    ],
    ids=["en", "zh"],
)
def test_a_long_line_is_folded_within_the_width_and_loses_nothing(text: str, width: int) -> None:
    lines = fold(text + "\n", width, INDENT).splitlines()

    assert max(_width(line) for line in lines) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(line.startswith(" " * INDENT) and line[INDENT] not in "，。：！？、）”" for line in lines[1:])


def test_a_short_line_stays_as_it_is() -> None:
    assert fold("     0.1 s  done.\n", 80, INDENT) == "     0.1 s  done.\n"


def test_a_word_that_is_wider_than_the_terminal_stands_alone() -> None:
    assert fold(f"            see {'a' * 64} there\n", 30, INDENT).splitlines() == [
        "            see",
        " " * INDENT + "a" * 64,
        " " * INDENT + "there",
    ]
