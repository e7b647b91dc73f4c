"""Nothing of the input stands readable: not in a file under the home, not in what passes between institutions."""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.demo.conftest import RESIDENTS, SEED, Played
from tests.e2e.demo.plaintext import LEAST, Searcher
from yilian.demo.consortium import organisations
from yilian.demo.residents import generate

TELLING = {"text", "display", "value", "line", "family", "given", "id", "birthDate", "conclusion"}
"""Elements whose text says who a patient is, or what the patient has."""
CONTROL = "对照：此句必须被找到 control 20260601"


@pytest.fixture(scope="module")
def words() -> tuple[str, ...]:
    """Names, identifiers, addresses, phones, displays and resource ids of the input, eight bytes or more."""
    found: dict[str, None] = {}
    names = {organisation.name for organisation in organisations("zh")}
    for _, content in generate(RESIDENTS, SEED, organisations("zh")):
        for entry in json.loads(content)["entry"]:
            resource = entry["resource"]
            if resource["resourceType"] == "Organization":
                # a member's public name stands on the ledger
                continue
            found.update(dict.fromkeys(_texts(resource)))
    return tuple(word for word in found if word not in names)


@pytest.fixture(scope="module")
def searcher(words: tuple[str, ...]) -> Searcher:
    return Searcher((*words, CONTROL))


def test_enough_is_looked_for(words: tuple[str, ...]) -> None:
    assert len(words) >= 200
    assert sum(len(word) >= LEAST for word in words) >= 200


def test_no_file_under_the_home_tells_anything(played: Played, searcher: Searcher) -> None:
    files = [file for file in played.home.path.rglob("*") if file.is_file()]
    assert len(files) > RESIDENTS
    assert {str(file): sorted(found) for file in files if (found := searcher.find(file.read_bytes()))} == {}


def test_nothing_that_passes_between_institutions_tells_anything(played: Played, searcher: Searcher) -> None:
    assert any(b"/peer/releases" in part for part in played.passed)
    assert sum(map(len, played.passed)) > 100_000
    assert searcher.find(b"\n".join(played.passed)) == set()


def test_the_log_was_written_and_tells_nothing(played: Played, searcher: Searcher) -> None:
    content = played.home.log_file.read_bytes()
    assert content.count(b"\n") > 1
    assert searcher.find(content) == set()


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(str.encode, id="as it is"),
        pytest.param(lambda word: base64.b64encode(b"a" + word.encode()), id="base64, one byte later"),
        pytest.param(lambda word: base64.b64encode(b"ab" + word.encode()), id="base64, two bytes later"),
        pytest.param(lambda word: json.dumps(word).encode(), id="escaped"),
        pytest.param(lambda word: gzip.compress(word.encode()), id="gzip"),
    ],
)
def test_a_planted_word_is_found(searcher: Searcher, form: Callable[[str], bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "planted"
        file.write_bytes(b"before" * 7 + form(CONTROL) + b"behind" * 7)
        assert searcher.find(file.read_bytes()) == {CONTROL}


def _texts(value: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _texts(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)
    elif isinstance(value, str) and name in TELLING and len(value.encode()) >= LEAST:
        yield value
