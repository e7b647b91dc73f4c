"""Which records are of level 5: security labels that the sender set, and a short list of codes known as sensitive.

Level 4 is the default of a record of care. Level 5 and the reason for it are sealed with the data: on the ledger such a
record shows 4, and its custodian enforces 5 at delivery.

Sources: GB/T 39725-2020 (levels); HL7 v3 Confidentiality and ActCode (InformationSensitivityPolicy), the systems of
`meta.security` in FHIR R4; WHO ICD-10 categories.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from yilian.standards.fhir.model import Coding

DEFAULT_LEVEL, SENSITIVE_LEVEL = 4, 5


class SensitiveCodes(msgspec.Struct, frozen=True, kw_only=True):
    """The codes that make a record sensitive, each with the sensitivity that it stands for.

    `labels`: codes of `meta.security` → sensitivity. `icd10`: prefixes of ICD-10 codes (any edition, dots as written) →
    sensitivity. `exact`: (system, code) → sensitivity. An institution may give its own table instead.
    """

    labels: dict[str, str]
    icd10: dict[str, str]
    exact: dict[tuple[str, str], str]


DEFAULT_CODES = SensitiveCodes(
    labels={
        # v3 Confidentiality: restricted, very restricted
        "R": "R",
        "V": "V",
        # v3 ActCode, InformationSensitivityPolicy
        "HIV": "HIV",
        "STD": "STD",
        "PSY": "PSY",
        "PSYTHPN": "PSY",
        "MH": "PSY",
        "BH": "PSY",
        "ETH": "ETH",
        "ETHUD": "ETH",
        "SUD": "ETH",
        "OPIOIDUD": "ETH",
        "SDV": "SDV",
        "SEX": "SEX",
        "SPI": "SPI",
        "SICKLE": "GDIS",
        "GDIS": "GDIS",
        "TBOO": "TBOO",
        "VIO": "SDV",
    },
    icd10={
        # B20–B24 HIV disease, Z21 HIV infection without symptoms; A50–A64 sexually transmitted infections
        "B20": "HIV",
        "B21": "HIV",
        "B22": "HIV",
        "B23": "HIV",
        "B24": "HIV",
        "Z21": "HIV",
        "A5": "STD",
        "A60": "STD",
        "A61": "STD",
        "A62": "STD",
        "A63": "STD",
        "A64": "STD",
        # F10–F19 use of psychoactive substances; F20–F69 other mental and behavioural disorders
        "F1": "ETH",
        "F2": "PSY",
        "F3": "PSY",
        "F4": "PSY",
        "F5": "PSY",
        "F6": "PSY",
        # T74 maltreatment; X60–X84 self-harm; Y05–Y07 assault and maltreatment; O04 medical abortion
        "T74": "SDV",
        "X6": "PSY",
        "X7": "PSY",
        "X80": "PSY",
        "X81": "PSY",
        "X82": "PSY",
        "X83": "PSY",
        "X84": "PSY",
        "Y05": "SDV",
        "Y06": "SDV",
        "Y07": "SDV",
        "O04": "SEX",
    },
    exact={},
)


def sensitivities(labels: Iterable[Coding], codes: Iterable[Coding], table: SensitiveCodes) -> frozenset[str]:
    """Give the sensitivities that a resource's labels and codes stand for; empty for an ordinary one."""
    found = {table.labels[label.code] for label in labels if label.code in table.labels}
    for coding in codes:
        if coding.system is None or coding.code is None:
            continue
        exact = table.exact.get((coding.system, coding.code))
        if exact is not None:
            found.add(exact)
        if "icd-10" in coding.system.lower():
            code = coding.code.upper()
            hits = (table.icd10.get(code[:size]) for size in range(2, 6))
            found.update(hit for hit in hits if hit is not None)
    return frozenset(found)
