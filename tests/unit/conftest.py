"""A network of two institutions with everything real, and made-up residents in one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from yilian.demo.residents import DemoOrganisation, generate
from yilian.ledger.members import InstitutionKind
from yilian.node.compose import Node, now, open_node
from yilian.node.home import Home, InstitutionSpec
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.organisations import FILE_NAME, OrganisationTable
from yilian.node.settings import Settings
from yilian.standards.fhir import ProviderKind

TWO = NetworkSpec(
    name="records",
    institutions=(
        InstitutionSpec(slug="centre", name="Lake Centre", kind=InstitutionKind.COMMUNITY_CENTRE, grade="primary"),
        InstitutionSpec(slug="hospital", name="City Hospital", kind=InstitutionKind.HOSPITAL, grade="tertiary"),
    ),
    tree_depth=8,
)
ORGANISATIONS = (
    DemoOrganisation(identifier="org-centre", name="Lake Centre", kind=ProviderKind.COMMUNITY),
    DemoOrganisation(identifier="org-hospital", name="City Hospital", kind=ProviderKind.HOSPITAL),
)
EXPLICIT = {"org-centre": "centre", "org-hospital": "hospital"}


@contextmanager
def _opened(path: Path) -> Iterator[Node]:
    settings = Settings(engine=msgspec.structs.replace(Settings().engine, second_core=False))
    home = Home(path)
    found_demo(home, settings, TWO, now())
    node = open_node(home, settings)
    try:
        yield node
    finally:
        node.close()


@pytest.fixture
def records_node(tmp_path: Path) -> Iterator[Node]:
    """Give an open node with a centre and a hospital."""
    with _opened(tmp_path / "home") as node:
        yield node


@pytest.fixture(scope="module")
def lasting_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Give one such node to all tests of a module that do not disturb each other."""
    with _opened(tmp_path_factory.mktemp("lasting") / "home") as node:
        yield node


@pytest.fixture
def organisation_table(records_node: Node) -> OrganisationTable:
    """Give the mapping of the node, with the made-up organisations in it."""
    table = OrganisationTable(records_node.home.path / FILE_NAME, records_node.hosts)
    table.keep(EXPLICIT)
    return table


@pytest.fixture
def resident_files(tmp_path: Path) -> Path:
    """Give a folder with the bundles of twelve residents."""
    folder = tmp_path / "residents"
    folder.mkdir()
    for name, content in generate(12, 7, ORGANISATIONS):
        (folder / name).write_bytes(content)
    return folder
