"""The consortium that the demonstration founds: seven institutions of an invented city, one of which joins later."""

from __future__ import annotations

from typing import Literal

import msgspec

from yilian.demo.residents import DemoOrganisation
from yilian.ledger.members import InstitutionKind, Role
from yilian.node.home import InstitutionSpec, PersonSpec
from yilian.node.network import NetworkSpec
from yilian.standards.fhir import ProviderKind

Language = Literal["zh", "en"]
DISTRICT = "990001"
"""In region 99, which GB/T 2260 assigns to no place."""


TREE_DEPTH = 16
"""65,536 buckets for some ten thousand rows: three nodes on one machine hold little memory."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One institution of the story. `organisations`: identifiers of the generated input that belong to it."""

    slug: str
    kind: InstitutionKind
    grade: str
    zh: str
    en: str
    organisations: tuple[str, ...] = ()
    north: bool | None = None
    urban: bool | None = None

    def name(self, language: Language) -> str:
        """Give its public name."""
        return self.zh if language == "zh" else self.en


LAKESIDE = Place(
    slug="lakeside",
    kind=InstitutionKind.COMMUNITY_CENTRE,
    grade="primary",
    zh="望湖街社区卫生服务中心",
    en="Lakeside Community Health Centre",
    organisations=("ORG-LAKESIDE",),
    north=True,
    urban=True,
)
GINKGO = Place(
    slug="ginkgo",
    kind=InstitutionKind.COMMUNITY_CENTRE,
    grade="primary",
    zh="银杏社区卫生服务中心",
    en="Ginkgo Community Health Centre",
    organisations=("ORG-GINKGO",),
    north=True,
    urban=True,
)
STONEBRIDGE = Place(
    slug="stonebridge",
    kind=InstitutionKind.COMMUNITY_CENTRE,
    grade="primary",
    zh="长桥镇卫生院",
    en="Stonebridge Township Health Centre",
    organisations=("ORG-STONEBRIDGE",),
    north=True,
    urban=False,
)
CENTRAL = Place(
    slug="central",
    kind=InstitutionKind.HOSPITAL,
    grade="tertiary",
    zh="松风市中心医院",
    en="Central Hospital",
    organisations=("ORG-CENTRAL",),
)
SECOND = Place(
    slug="second",
    kind=InstitutionKind.HOSPITAL,
    grade="secondary",
    zh="松风市第二医院",
    en="Second Hospital",
    organisations=("ORG-SECOND",),
)
LABORATORY = Place(
    slug="laboratory",
    kind=InstitutionKind.LABORATORY,
    grade="none",
    zh="松风医学检验中心",
    en="Songfeng Medical Laboratory",
)
REGULATOR = Place(
    slug="regulator",
    kind=InstitutionKind.REGULATOR,
    grade="none",
    zh="松风市卫生健康监督所",
    en="Songfeng Health Supervision",
)

FOUNDERS = (LAKESIDE, GINKGO, CENTRAL, SECOND, LABORATORY, REGULATOR)
"""The first runs the sequencer."""
NEWCOMER = STONEBRIDGE
FOLLOWERS = (LABORATORY, REGULATOR)
"""These run nodes of their own, follow the sequencer and witness its checkpoints."""
PLACES = (*FOUNDERS, NEWCOMER)
COMMUNITIES = (LAKESIDE, GINKGO, STONEBRIDGE)
HOSPITALS = (CENTRAL, SECOND)
CUSTODIANS = (*COMMUNITIES, *HOSPITALS)
"""Who imports records."""

_OFFICER = PersonSpec(label="officer", role=Role.OFFICER)
_DATA_OFFICER = PersonSpec(label="data-officer", role=Role.DATA_OFFICER)
_PHYSICIAN = PersonSpec(label="physician", role=Role.PHYSICIAN)
_PEOPLE: dict[InstitutionKind, tuple[PersonSpec, ...]] = {
    InstitutionKind.LABORATORY: (
        _OFFICER,
        _DATA_OFFICER,
        _PHYSICIAN,
        PersonSpec(label="technician", role=Role.TECHNICIAN),
    ),
    InstitutionKind.REGULATOR: (
        _OFFICER,
        PersonSpec(label="inspector", role=Role.INSPECTOR),
        PersonSpec(label="second-officer", role=Role.SECOND_OFFICER),
        PersonSpec(label="auditor", role=Role.AUDITOR),
    ),
}


def people_of(place: Place) -> tuple[PersonSpec, ...]:
    """Give the people of an institution; all keys lie on the node, which only the demonstration may do."""
    return _PEOPLE.get(place.kind, (_OFFICER, _DATA_OFFICER, _PHYSICIAN))


def institution_spec(place: Place, language: Language) -> InstitutionSpec:
    """Describe an institution as `network found` and `node init` take it."""
    return InstitutionSpec(
        slug=place.slug,
        name=place.name(language),
        kind=place.kind,
        grade=place.grade,
        district=DISTRICT,
        people=people_of(place),
    )


def network_spec(language: Language) -> NetworkSpec:
    """Describe the network: admissions take effect without delay, so that the story need not wait three days."""
    return NetworkSpec(
        name="songfeng-demo",
        institutions=tuple(institution_spec(place, language) for place in FOUNDERS),
        parameters={"governance.witnesses": len(FOLLOWERS)},
        admit_delay_ms=0,
        tree_depth=TREE_DEPTH,
    )


def organisations(language: Language) -> tuple[DemoOrganisation, ...]:
    """Name the organisations in whose encounters the generated residents appear."""
    return tuple(
        DemoOrganisation(
            identifier=identifier,
            name=place.name(language),
            kind=ProviderKind.HOSPITAL if place.kind == InstitutionKind.HOSPITAL else ProviderKind.COMMUNITY,
        )
        for place in CUSTODIANS
        for identifier in place.organisations
    )


def mapping() -> dict[str, str]:
    """Say which institution takes which organisation's encounters, for the generated input."""
    return {identifier: place.slug for place in CUSTODIANS for identifier in place.organisations}
