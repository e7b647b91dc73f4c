"""A network of two institutions with everything real, and made-up residents in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from yilian.demo.residents import LAST_DAY, DemoOrganisation, generate
from yilian.ledger.members import InstitutionKind, Role
from yilian.node.compose import Node, now, open_node
from yilian.node.home import Home, InstitutionSpec
from yilian.node.imports import run_import
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.organisations import FILE_NAME, OrganisationTable
from yilian.node.screening import run_screening
from yilian.node.settings import Settings
from yilian.standards.fhir import ProviderKind
from yilian.standards.fhir.findings import Region

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


SETTINGS = Settings(engine=msgspec.structs.replace(Settings().engine, second_core=False))


def copy_home(source: Path, target: Path) -> Path:
    """Copy a closed home with what lies beside it."""
    shutil.copytree(source, target)
    for beside in source.parent.glob(f"{source.name}.*"):
        place = target.with_name(target.name + beside.name.removeprefix(source.name))
        shutil.copytree(beside, place) if beside.is_dir() else shutil.copy2(beside, place)
    return target


@contextmanager
def opened(path: Path) -> Iterator[Node]:
    """Open the node of a home for a while."""
    node = open_node(Home(path), SETTINGS)
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def founded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Found the network once; tests work on copies."""
    path = tmp_path_factory.mktemp("founded") / "home"
    found_demo(Home(path), SETTINGS, TWO, now())
    return path


@pytest.fixture
def records_node(founded_home: Path, tmp_path: Path) -> Iterator[Node]:
    """Give an open node with a centre and a hospital."""
    with opened(copy_home(founded_home, tmp_path / "home")) as node:
        yield node


@pytest.fixture(scope="module")
def lasting_node(founded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Give one such node to all tests of a module that do not disturb each other."""
    with opened(copy_home(founded_home, tmp_path_factory.mktemp("lasting") / "home")) as node:
        yield node


@pytest.fixture(scope="session")
def screened_home(founded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import and screen twelve residents once; tests work on copies."""
    folder = tmp_path_factory.mktemp("screened")
    residents = _write_residents(folder / "residents")
    with opened(copy_home(founded_home, folder / "home")) as node:
        table = OrganisationTable(node.home.path / FILE_NAME, node.hosts)
        table.keep(EXPLICIT)
        for slug in ("centre", "hospital"):
            run_import(node.host(slug), residents, table)
        centre = node.host("centre")
        region = Region(north=True, urban=True)
        run_screening(centre, by=centre.person(Role.PHYSICIAN).key_id, on=LAST_DAY, region=region)
    return folder / "home"


@pytest.fixture
def screened_node(screened_home: Path, tmp_path: Path) -> Iterator[Node]:
    """Give an open node whose centre has twelve screened residents."""
    with opened(copy_home(screened_home, tmp_path / "home")) as node:
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
    return _write_residents(tmp_path / "residents")


def _write_residents(folder: Path) -> Path:
    folder.mkdir()
    for name, content in generate(12, 7, ORGANISATIONS):
        (folder / name).write_bytes(content)
    return folder
