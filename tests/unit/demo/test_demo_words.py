"""The words of the demonstration, and whom it founds."""

from __future__ import annotations

import io
import re
import string
import tomllib
from pathlib import Path

import pytest

import yilian.demo
from yilian.demo.consortium import (
    CUSTODIANS,
    FOUNDERS,
    NEWCOMER,
    PLACES,
    mapping,
    network_spec,
    organisations,
    people_of,
)
from yilian.demo.telling import Teller, short
from yilian.ledger.members import Role, may_hold

FOLDER = Path(yilian.demo.__file__).parent
TEXTS: dict[str, dict[str, dict[str, str]]] = tomllib.loads((FOLDER / "text.toml").read_text(encoding="utf-8"))
ALL = [pytest.param(text, id=f"{part}.{key}") for part, keys in TEXTS.items() for key, text in keys.items()]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("text", ALL)
def test_every_text_says_the_same_in_both_languages(text: dict[str, str]) -> None:
    assert set(text) == {"zh", "en"}
    assert fields(text["zh"]) == fields(text["en"])


def test_every_text_that_the_story_uses_is_there_and_every_other_is_gone() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in FOLDER.glob("*.py"))
    source += (FOLDER.parent / "cli" / "demo.py").read_text(encoding="utf-8")
    quoted = set(re.findall(r'["\x27]([a-z_]+)["\x27]', source))
    assert {key for keys in TEXTS.values() for key in keys} - quoted == set()
    assert set(re.findall(r'\.(?:say|detail|work)\(\s*"(\w+)"', source)) <= set(TEXTS["story"])
    assert set(re.findall(r'\.chapter\(\s*"(\w+)"', source)) <= set(TEXTS["chapters"])


def test_the_story_is_told_in_the_readers_language_with_the_time() -> None:
    out = io.StringIO()
    teller = Teller("zh", out)
    teller.chapter("founding")
    teller.say("started")
    teller.refused("wider", "WIDER_THAN_PARENT", name="甲")
    lines = out.getvalue().splitlines()
    assert lines[1] == "1. 建立联盟"
    assert re.match(r" +0\.\d s  节点已启动", lines[2])
    assert lines[3].endswith("[WIDER_THAN_PARENT]")


def test_a_consortium_of_seven_has_people_whom_its_kinds_may_have() -> None:
    assert len(PLACES) == 7
    assert NEWCOMER not in FOUNDERS
    for place in PLACES:
        roles = [person.role for person in people_of(place)]
        assert roles[0] == Role.OFFICER
        assert all(may_hold(place.kind, role) for role in roles)
    assert [item.slug for item in network_spec("en").institutions] == [place.slug for place in FOUNDERS]


def test_the_mapping_leaves_no_organisation_of_the_generated_input_out() -> None:
    assert {item.identifier for item in organisations("zh")} == set(mapping())
    assert set(mapping().values()) == {place.slug for place in CUSTODIANS}


def test_an_id_is_shown_by_its_first_digits() -> None:
    assert short("0123456789abcdef") == "0123456789ab"
