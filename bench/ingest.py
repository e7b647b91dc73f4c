"""FHIR ingest at one institution, as an import does it: read, sealed, catalogued on the ledger, all of it durable.

Made-up residents always; the third-party bundles too where they are there. HAPI FHIR 8.8 stored 1,100 to 1,600
resources a second with PostgreSQL on such a machine, unsealed.
"""

from __future__ import annotations

import io
import os
import resource
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.report import Measurement, judged, measured
from yilian.demo.residents import DemoOrganisation, generate
from yilian.ledger.members import InstitutionKind
from yilian.node.compose import now, open_node
from yilian.node.home import Home, InstitutionSpec
from yilian.node.imports import ImportReport, run_import
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.organisations import FILE_NAME, OrganisationTable
from yilian.node.settings import Settings
from yilian.standards.fhir import ProviderKind

TARGET = 5_000.0
RESIDENTS, SEED = 600, 3
MEGABYTE_KB = 1_024
ORGANISATIONS = (
    DemoOrganisation(identifier="bench-centre", name="Centre", kind=ProviderKind.COMMUNITY),
    DemoOrganisation(identifier="bench-hospital", name="Hospital", kind=ProviderKind.HOSPITAL),
)
ONE = NetworkSpec(
    name="bench",
    institutions=(InstitutionSpec(slug="centre", name="Centre", kind=InstitutionKind.COMMUNITY_CENTRE),),
)


def measure() -> Iterator[Measurement]:
    """Give resources a second and the memory that an import adds."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        residents = _archive(place / "residents.tar.gz")
        yield from _judge("FHIR ingest, made-up residents", ingest(residents, place / "one"))
        shared = Path(os.environ.get("YILIAN_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
        archive = shared / "01-fhir-synthea" / "synthea_r4_400.tar.xz"
        if archive.is_file():
            before = _peak_mb()
            report = ingest(archive, place / "two")
            yield from _judge("FHIR ingest, Synthea archive", report)
            yield measured("memory that it adds", _peak_mb() - before, "MB")


def ingest(source: Path, folder: Path) -> ImportReport:
    """Import a source at the one institution of a fresh network."""
    folder.mkdir()
    home = Home(folder / "home")
    found_demo(home, Settings(), ONE, now())
    node = open_node(home, Settings())
    try:
        return run_import(node.host("centre"), source, OrganisationTable(home.path / FILE_NAME, node.hosts))
    finally:
        node.close()


def _archive(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in generate(RESIDENTS, SEED, ORGANISATIONS):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _judge(name: str, report: ImportReport) -> Iterator[Measurement]:
    if report.broken or report.refused or report.published != report.records:
        raise AssertionError("every record was published")
    rate = report.resources / report.seconds
    yield judged(name, rate, "resources/s", ratio=rate / TARGET, kind=">=", bound=1.0)
    yield measured("records of it", report.records / report.seconds, "records/s")
    yield measured("plaintext of it", report.bytes_sealed / report.seconds / 1e6, "MB/s")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE_KB
