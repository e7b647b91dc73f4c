"""The JSON form of ledger types: hex both ways, objects by field names, bounds and unknown fields checked."""

from __future__ import annotations

import msgspec
import pytest

from yilian.errors import SettingsError
from yilian.ledger.cases import Command
from yilian.ledger.registry import Registry
from yilian.testing.samples import sample
from yilian.web.kit.jsonform import from_json, to_json, twin
from yilian.workflows.consent.model import GrantRevoke, Propose
from yilian.workflows.governance.model import ProposalOpen
from yilian.workflows.governance.records import Suspend
from yilian.workflows.registry import WORKFLOWS

COMMANDS = [pytest.param(bound.command, id=word) for (_, word), bound in Registry(WORKFLOWS).commands.items()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_comes_back_from_its_json_as_it_was(command: type[Command]) -> None:
    value = sample(command)

    text = msgspec.json.encode(to_json(value))

    assert from_json(msgspec.json.decode(text, type=twin(command)), command) == value


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_schema_with_the_names_of_its_fields(command: type[Command]) -> None:
    schema = msgspec.json.schema(twin(command))

    found = schema["$defs"][command.__name__]["properties"]
    assert list(found) == list(command.__struct_fields__)


def test_bytes_are_lower_case_hex() -> None:
    assert to_json(GrantRevoke(paper=bytes.fromhex("Ab" * 32))) == {"paper": "ab" * 32}  # type: ignore[arg-type]  # 32 bytes


def test_a_union_says_which_of_its_types_it_is() -> None:
    opened = ProposalOpen(action=Suspend(institution=bytes(32), reason="misuse"))  # type: ignore[arg-type]  # 32 bytes

    plain = to_json(opened)

    assert plain["action"]["type"] == "member.suspend"
    assert from_json(plain, ProposalOpen) == opened


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param({"paper": "zz" * 32}, "hex", id="no-hex"),
        pytest.param({"paper": "00" * 31}, "32", id="too-short"),
        pytest.param({"paper": None, "more": 1}, "no field more", id="unknown-field"),
        pytest.param([], "no object", id="no-object"),
    ],
)
def test_a_value_that_is_none_is_named(value: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        from_json(value, GrantRevoke)


def test_a_missing_field_is_named_with_its_path() -> None:
    plain = to_json(sample(Propose))
    del plain["policy"]["base"]["effect"]

    with pytest.raises(SettingsError, match=r"\$\.policy\.base\.effect is missing"):
        from_json(plain, Propose)


def test_what_may_be_absent_may_be_left_out() -> None:
    assert from_json({}, GrantRevoke) == GrantRevoke(paper=None)


def test_a_type_of_a_union_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="none of the choices"):
        from_json({"action": {"type": "member.bless"}}, ProposalOpen)


def test_what_has_no_json_form_is_told_at_once() -> None:
    class Wrong(msgspec.Struct):
        share: float

    with pytest.raises(TypeError, match="no JSON form"):
        twin(Wrong)
