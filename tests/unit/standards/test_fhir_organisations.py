from __future__ import annotations

import pytest

from yilian.errors import SettingsError
from yilian.standards.fhir import (
    EncounterCounts,
    Institution,
    Organisation,
    ProviderKind,
    home_of,
    map_organisations,
    parse_mapping,
)

HOSPITAL = Institution(slug="hospital", kind=ProviderKind.HOSPITAL)
NORTH = Institution(slug="north", kind=ProviderKind.COMMUNITY)
SOUTH = Institution(slug="south", kind=ProviderKind.COMMUNITY)
ALL = (HOSPITAL, NORTH, SOUTH)


def counted(classes: dict[str, list[str]]) -> EncounterCounts:
    counts = EncounterCounts()
    for identifier, codes in classes.items():
        counts.add([Organisation(identifier=identifier, name="N", type="prov")], [(identifier, code) for code in codes])
    return counts


def test_one_stay_or_emergency_in_ten_makes_a_hospital_and_less_a_community_centre() -> None:
    counts = counted({"at": ["EMER"] + ["AMB"] * 9, "below": ["IMP"] + ["AMB"] * 10, "none": [], "all": ["IMP"]})
    found = map_organisations(counts, (HOSPITAL, NORTH)).institutions()
    assert found == {"at": "hospital", "below": "north", "none": "north", "all": "hospital"}


def test_the_mapping_depends_on_neither_order_of_organisations_nor_of_institutions() -> None:
    classes = {f"o{number}": ["AMB"] for number in range(40)}
    forward = map_organisations(counted(classes), ALL)
    backward = map_organisations(counted(dict(reversed(classes.items()))), ALL[::-1])
    assert forward == backward
    assert set(forward.institutions().values()) == {"north", "south"}


def test_an_explicit_row_comes_first_and_an_earlier_mapping_stays() -> None:
    counts = counted({"a": ["AMB"], "b": ["AMB"]})
    first = map_organisations(counts, ALL, {"a": "hospital"})
    counts.add([], [("b", "EMER")] * 5)
    again = map_organisations(counts, ALL, first.institutions())
    assert first.institutions()["a"] == "hospital"
    assert again.institutions() == first.institutions()


def test_without_an_institution_of_the_kind_any_is_taken() -> None:
    assert map_organisations(counted({"a": ["IMP"]}), (NORTH,)).institutions() == {"a": "north"}


def test_with_an_explicit_table_alone_what_it_does_not_name_belongs_to_none_and_is_listed() -> None:
    mapping = map_organisations(counted({"a": ["AMB"], "b": ["AMB", "AMB"]}), ALL, {"a": "north"}, explicit_only=True)
    assert mapping.institutions() == {"a": "north"}
    assert [(row.identifier, row.encounters) for row in mapping.rows if row.institution is None] == [("b", 2)]
    assert mapping.lines() == (
        "a  N → north  [explicit, 1 encounters]",
        "b  N → (none: its encounters are skipped)  [none, 2 encounters]",
    )


def test_a_provider_that_is_named_but_not_described_is_mapped_too() -> None:
    counts = EncounterCounts()
    counts.add([], [("lone", "AMB"), (None, "AMB")])
    assert map_organisations(counts, (NORTH,)).institutions() == {"lone": "north"}


def test_a_table_that_names_no_member_is_refused() -> None:
    with pytest.raises(SettingsError, match="the mapping names elsewhere: expected one of hospital, north, south"):
        map_organisations(counted({}), ALL, {"a": "elsewhere"})


def test_a_consortium_without_providers_is_refused() -> None:
    with pytest.raises(SettingsError, match="name a hospital or a community centre"):
        map_organisations(counted({}), ())


def test_an_explicit_table_is_read_from_toml() -> None:
    assert parse_mapping('[organisations]\n"ORG-7" = "north"\n') == {"ORG-7": "north"}


@pytest.mark.parametrize("text", ["", "x = ", "[organisations]\na = 1"])
def test_a_text_without_such_a_table_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no readable table"):
        parse_mapping(text)


@pytest.mark.parametrize(
    ("counts", "home"),
    [
        pytest.param({"hospital": 9, "north": 1, "south": 2}, "south", id="community-before-hospital"),
        pytest.param({"hospital": 9, "other": 10}, "other", id="else-the-most"),
        pytest.param({"south": 2, "north": 2}, "north", id="tie-by-name"),
        pytest.param({"hospital": 1, "north": 0}, "hospital", id="nought-is-none"),
        pytest.param({}, None, id="no-encounter"),
    ],
)
def test_the_home_is_the_community_institution_with_the_most_encounters(
    counts: dict[str, int], home: str | None
) -> None:
    assert home_of(counts, {"north", "south"}) == home
