"""The mapping of the input's organisations to the institutions of this home: kept in a file, so that none moves.

`<home>/organisations.toml` holds `[organisations]` of `"identifier.value" = "institution"`; an operator may edit it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from yilian.errors import UnavailableError
from yilian.ledger.members import InstitutionKind
from yilian.node.host import Host
from yilian.standards.fhir.organisations import (
    EncounterCounts,
    Institution,
    OrganisationMapping,
    ProviderKind,
    map_organisations,
    parse_mapping,
)

FILE_NAME = "organisations.toml"
_PROVIDERS = {
    InstitutionKind.HOSPITAL: ProviderKind.HOSPITAL,
    InstitutionKind.COMMUNITY_CENTRE: ProviderKind.COMMUNITY,
}


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What one file brought: encounters by organisation and class, and how many bundles there are."""

    counts: EncounterCounts
    bundles: int


class OrganisationTable:
    """Which institution takes whose encounters; one for a home, shared by the imports of its institutions.

    Args:
        file: where the mapping is kept.
        hosts: the institutions of this home, by slug; those that come later count from then on.
    """

    def __init__(self, file: Path, hosts: Mapping[str, Host]) -> None:
        self._file = file
        self._hosts = hosts
        self.lock = threading.RLock()
        """Held while an input is counted, so that imports side by side count it once."""
        self._counted: dict[bytes, Counted] = {}

    @property
    def communities(self) -> frozenset[str]:
        """Slugs of the institutions that may be a patient's home before any hospital."""
        return frozenset(
            item.slug for item in institutions_of(self._hosts.values()) if item.kind is ProviderKind.COMMUNITY
        )

    def kept(self) -> dict[str, str]:
        """Give the mapping of the imports so far, empty at first; SettingsError where the file was spoilt."""
        with self.lock:
            try:
                text = self._file.read_text(encoding="utf-8")
            except FileNotFoundError:
                return {}
            return parse_mapping(text)

    def find(self, digest: bytes) -> Counted | None:
        """Give what a file brought where it was counted in this process, else None."""
        return self._counted.get(digest)

    def remember(self, digest: bytes, counted: Counted) -> None:
        """Keep in memory what a file brought."""
        self._counted[digest] = counted

    def map(
        self, digests: Iterable[bytes], explicit: Mapping[str, str] | None = None, *, explicit_only: bool = False
    ) -> OrganisationMapping:
        """Map all organisations of these files and keep the mapping: what was mapped stays, `explicit` comes first.

        Raises:
            SettingsError: `explicit` names an institution that is not here.
            UnavailableError: the file cannot be written.
        """
        with self.lock:
            together = EncounterCounts()
            for digest in dict.fromkeys(digests):
                counted = self._counted[digest].counts
                together.organisations |= {**counted.organisations, **together.organisations}
                for provider, classes in counted.classes.items():
                    together.classes[provider] = together.classes.get(provider, type(classes)()) + classes
            known = self.kept() | dict(explicit or {})
            mapping = map_organisations(
                together, institutions_of(self._hosts.values()), known, explicit_only=explicit_only
            )
            self.keep(known | mapping.institutions())
            return mapping

    def keep(self, institutions: Mapping[str, str]) -> None:
        """Put a mapping in the place of the one that was kept; UnavailableError where it cannot be written."""
        lines = [f"{json.dumps(name)} = {json.dumps(slug)}\n" for name, slug in sorted(institutions.items())]
        text = "[organisations]\n" + "".join(lines)
        temporary = self._file.with_suffix(".new")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self._file)  # noqa: PTH105 - atomic, on the same file system
        except OSError as error:
            raise UnavailableError(
                f"{self._file}: {error.strerror}, expected to keep the mapping there: free the disk"
            ) from error


def institutions_of(hosts: Iterable[Host]) -> tuple[Institution, ...]:
    """Give the institutions that may take encounters: hospitals and community centres."""
    return tuple(Institution(slug=host.slug, kind=_PROVIDERS[host.kind]) for host in hosts if host.kind in _PROVIDERS)
