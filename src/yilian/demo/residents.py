"""Make up plausible Chinese residents as FHIR R4 transaction bundles, in the shape in which Synthea writes.

Nobody in them exists: citizen ids lie in region 99, which GB/T 2260 assigns to no place, with a correct check digit;
phone numbers begin with 100, which no mobile network uses; the city is invented. The same seed gives the same bytes.

Whether a community lies in the north or in a city is a setting of the institution, not part of a record.
Code numbers are facts (LOINC: copyright Regenstrief Institute, loinc.org); the words beside them are our own.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from yilian.demo.names import FEMALE_NAMES, MALE_NAMES, STREETS, SURNAMES
from yilian.errors import SettingsError
from yilian.standards.fhir import ProviderKind
from yilian.standards.fhir.findings import EXAMINATION_SYSTEM, FAMILY_HISTORY, LOINC
from yilian.values import Day, civil_from_day, day_from_civil

LAST_DAY = day_from_civil(2026, 6, 30)
CITIZEN_ID = "urn:oid:2.16.156.10011.1.3"
HEALTH_FILE = "urn:oid:2.16.156.10011.1.2"
ORGANISATION_ID = "urn:oid:2.16.156.10011.1.5"

_UCUM = "http://unitsofmeasure.org"
_ICD10, _ATC = "http://hl7.org/fhir/sid/icd-10", "http://www.whocc.no/atc"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_ORG_TYPE = "http://terminology.hl7.org/CodeSystem/organization-type"
_NAMESPACE = uuid.UUID("6f0d5a52-0d6e-5c8e-9a51-2f6c0b6a7e11")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
_ANTIHYPERTENSIVES = (("C08CA01", "氨氯地平片 5 mg"), ("C09CA01", "氯沙坦钾片 50 mg"), ("C09AA02", "依那普利片 10 mg"))
_HOSPITAL_REASONS = (
    ("I20.9", "心绞痛"),
    ("E78.5", "高脂血症"),
    ("K29.5", "慢性胃炎"),
    ("M17.9", "膝关节病"),
    ("J18.9", "肺炎"),
    ("F32.0", "轻度抑郁发作"),
)

Resource = dict[str, Any]


class DemoOrganisation(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation whose encounters are made up; map its `identifier` to an institution explicitly."""

    identifier: str
    name: str
    kind: ProviderKind


class _Person(msgspec.Struct, kw_only=True):
    male: bool
    born: date
    age: int
    hypertensive: bool
    treated: bool
    diabetic: bool
    smoker: bool
    family_history: bool
    systolic: float
    total_mmol: float
    hdl_mmol: float
    waist: float
    height: float
    weight: float


def generate(
    count: int, seed: int, organisations: Sequence[DemoOrganisation], *, until: Day = LAST_DAY
) -> Iterator[tuple[str, bytes]]:
    """Give `count` residents as (file name, bundle bytes); three to six encounters each, none after `until`.

    Ages 35 to 74; every resident is examined at one community organisation, most were at a hospital too.
    By China-PAR about a quarter of them are at high risk.

    Raises:
        SettingsError: not at least one community organisation and one hospital.
    """
    community = [o for o in organisations if o.kind is ProviderKind.COMMUNITY]
    hospitals = [o for o in organisations if o.kind is ProviderKind.HOSPITAL]
    if not community or not hospitals:
        raise SettingsError(
            f"{len(community)} community organisations and {len(hospitals)} hospitals: name at least one of each"
        )
    rng = random.Random(seed)
    for number in range(count):
        maker = _Maker(rng, number, date(*civil_from_day(until)))
        yield f"resident-{number:05}.json", maker.bundle(community[number % len(community)], rng.choice(hospitals))


def citizen_id(region: str, born: date, serial: int) -> str:
    """Build an 18-digit citizen id from a six-digit region, a birth date and a serial (odd for men).

    Source: GB 11643-1999; check digit ISO 7064 MOD 11-2.
    """
    digits = f"{region}{born:%Y%m%d}{serial:03}"
    return digits + check_digit(digits)


def check_digit(digits: str) -> str:
    """Give the MOD 11-2 check digit of 17 digits, `X` for ten. Source: GB 11643-1999."""
    return _CHECKS[sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True)) % 11]


def _person(rng: random.Random, until: date) -> _Person:
    male, age = rng.random() < 0.5, min(74, max(35, round(rng.gauss(56, 10))))
    hypertensive = rng.random() < 0.12 + 0.009 * (age - 35)
    height = rng.gauss(168 if male else 157, 6)
    bmi = min(36.0, max(17.5, rng.gauss(24.6, 3.1)))
    born = until.replace(year=until.year - age, day=min(until.day, 28)) - timedelta(days=rng.randrange(1, 364))
    return _Person(
        male=male,
        born=born,
        age=age,
        hypertensive=hypertensive,
        treated=hypertensive and rng.random() < 0.6,
        diabetic=rng.random() < 0.04 + 0.004 * (age - 35),
        smoker=rng.random() < (0.47 if male else 0.03),
        family_history=rng.random() < 0.12,
        systolic=min(205.0, max(95.0, rng.gauss(117 + 0.25 * (age - 35) + (21 if hypertensive else 0), 11))),
        total_mmol=min(8.5, max(3.0, rng.gauss(4.9, 0.95))),
        hdl_mmol=min(2.4, max(0.7, rng.gauss(1.25 if male else 1.42, 0.26))),
        waist=round(min(125.0, max(62.0, (27 if male else 23) + 2.35 * bmi + rng.gauss(0, 4))), 1),
        height=round(height, 1),
        weight=round(bmi * (height / 100) ** 2, 1),
    )


class _Maker:
    """One resident's bundle, entry by entry."""

    def __init__(self, rng: random.Random, number: int, until: date) -> None:
        self.rng, self.number, self.until = rng, number, until
        self.person = _person(rng, until)
        self.entries: list[Resource] = []
        self.subject = ""
        self.known: dict[str, str] = {}
        self.mg_dl = rng.random() < 0.3

    def bundle(self, centre: DemoOrganisation, hospital: DemoOrganisation) -> bytes:
        rng, person = self.rng, self.person
        self.subject = self._add(self._patient())
        providers = {o.identifier: self._organisation(o) for o in (centre, hospital)}
        examinations = rng.choice((2, 2, 3))
        for year in reversed(range(examinations)):
            day = self.until - timedelta(days=365 * year + rng.randrange(1, 300))
            self._examination(providers[centre.identifier], day, first=year == examinations - 1)
        if person.hypertensive or person.diabetic or examinations == 2:
            self._visit(providers[centre.identifier], "AMB", self.until - timedelta(days=rng.randrange(1, 300)))
        if rng.random() < 0.7:
            self._hospital(providers[hospital.identifier], rng.choice(("AMB", "AMB", "EMER")))
        if rng.random() < 0.2:
            self._hospital(providers[hospital.identifier], "IMP")
        if rng.random() < 0.25:
            self._add(self._allergy())
        return msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": self.entries})

    def _add(self, resource: Resource, full_url: str | None = None) -> str:
        identity = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        full_url = full_url or f"urn:uuid:{identity}"
        kind = resource.pop("resourceType")
        body = {"resourceType": kind, "id": full_url.removeprefix("urn:uuid:"), **resource}
        self.entries.append({"fullUrl": full_url, "resource": body, "request": {"method": "POST", "url": kind}})
        return full_url

    def _patient(self) -> Resource:
        rng, person = self.rng, self.person
        region = f"99{rng.randrange(1, 100):02}{rng.randrange(1, 100):02}"
        serial = rng.randrange(0, 500) * 2 + person.male
        family, given = rng.choice(SURNAMES), rng.choice(MALE_NAMES if person.male else FEMALE_NAMES)
        house, block, flat = rng.randrange(1, 300), rng.randrange(1, 19), rng.randrange(101, 1802)
        street = f"{rng.choice(STREETS)} {house} 号 {block} 幢 {flat} 室"
        return {
            "resourceType": "Patient",
            "identifier": [
                {"system": CITIZEN_ID, "value": citizen_id(region, person.born, serial)},
                {"system": HEALTH_FILE, "value": f"{region}{rng.randrange(10**6):06}{self.number:05}"},
            ],
            "name": [{"use": "official", "text": family + given, "family": family, "given": [given]}],
            "telecom": [{"system": "phone", "value": f"100{rng.randrange(10**8):08}", "use": "mobile"}],
            "gender": "male" if person.male else "female",
            "birthDate": person.born.isoformat(),
            "address": [{"text": f"虚州市云溪区{street}", "city": "虚州市", "district": "云溪区", "line": [street]}],
        }

    def _organisation(self, organisation: DemoOrganisation) -> str:
        return self._add(
            {
                "resourceType": "Organization",
                "identifier": [{"system": ORGANISATION_ID, "value": organisation.identifier}],
                "active": True,
                "type": [_concept(_ORG_TYPE, "prov", "医疗机构")],
                "name": organisation.name,
            },
            f"urn:uuid:{uuid.uuid5(_NAMESPACE, organisation.identifier)}",
        )

    def _allergy(self) -> Resource:
        drug = self.rng.choice((("J01CA01", "氨苄西林"), ("J01EC01", "磺胺甲噁唑"), ("B01AC06", "阿司匹林")))
        return {
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": _concept(_ALLERGY, "active", ""),
            "category": ["medication"],
            "code": _concept(_ATC, *drug),
            "patient": {"reference": self.subject},
        }

    def _visit(self, provider: str, code: str, day: date) -> tuple[str, str]:
        """Add an encounter of a minute, or for a stay of some days; give its reference and its start."""
        time = f"{self.rng.randrange(8, 17):02}:{self.rng.randrange(60):02}"
        start, end = f"{day}T{time}:00+08:00", f"{day}T{time}:59+08:00"
        if code == "IMP":
            day = min(self.until, day + timedelta(days=self.rng.randrange(3, 12)))
            end = f"{day}T18:00:00+08:00"
        encounter = self._add(
            {
                "resourceType": "Encounter",
                "status": "finished",
                "class": {"system": _ACT, "code": code},
                "subject": {"reference": self.subject},
                "period": {"start": start, "end": end},
                "serviceProvider": {"reference": provider},
            }
        )
        return encounter, start

    def _hospital(self, provider: str, code: str) -> None:
        encounter, start = self._visit(provider, code, self.until - timedelta(days=self.rng.randrange(20, 1000)))
        icd, words = self.rng.choices(_HOSPITAL_REASONS, weights=(6, 8, 6, 5, 5, 1))[0]
        self._condition(encounter, start, icd, words)
        self._measure(encounter, start, "8867-4", "心率", self.rng.randrange(58, 104), "/min")
        report = {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": {"text": "心电图" if code == "AMB" else "胸部影像检查"},
            **self._of(encounter, start),
            "conclusion": self.rng.choice(("未见明显异常", "轻度改变，建议复查", "与前次比较无变化")),
        }
        self._add(report)

    def _examination(self, provider: str, day: date, *, first: bool) -> None:
        person, rng = self.person, self.rng
        encounter, start = self._visit(provider, "AMB", day)
        systolic = round(person.systolic + rng.gauss(0, 4))
        self._add(_pressure(systolic, round(systolic * 0.5 + rng.gauss(19, 5))) | self._of(encounter, start))
        self._measure(encounter, start, "8280-0", "腰围", round(person.waist + rng.gauss(0, 1), 1), "cm")
        self._measure(encounter, start, "8302-2", "身高", person.height, "cm")
        self._measure(encounter, start, "29463-7", "体重", person.weight, "kg")
        bmi = round(person.weight / (person.height / 100) ** 2, 1)
        self._measure(encounter, start, "39156-5", "体质指数", bmi, "kg/m2")
        self._lipids(encounter, start)
        glucose = rng.gauss(8.6, 1.5) if person.diabetic else rng.gauss(5.2, 0.5)
        self._measure(encounter, start, "1558-6", "空腹血糖", round(max(3.5, glucose), 1), "mmol/L")
        if person.diabetic:
            self._measure(encounter, start, "4548-4", "糖化血红蛋白", round(max(5.8, rng.gauss(7.4, 0.9)), 1), "%")
        smoking = ("LA18976-3", "每日吸烟") if person.smoker else ("LA18978-9", "从不吸烟")
        answer = _concept(LOINC, *smoking)
        self._observe(encounter, start, _concept(LOINC, "72166-2", "吸烟情况"), "valueCodeableConcept", answer)
        history = _concept(EXAMINATION_SYSTEM, FAMILY_HISTORY, "动脉粥样硬化性心血管病家族史")
        self._observe(encounter, start, history, "valueBoolean", person.family_history)
        if first:
            self._diagnose(encounter, start)

    def _diagnose(self, encounter: str, start: str) -> None:
        if self.person.hypertensive:
            reason = self._condition(encounter, start, "I10", "原发性高血压")
            if self.person.treated:
                self._prescribe(encounter, start, self.rng.choice(_ANTIHYPERTENSIVES), reason)
        if self.person.diabetic:
            reason = self._condition(encounter, start, "E11.9", "2 型糖尿病")
            self._prescribe(encounter, start, ("A10BA02", "二甲双胍片 500 mg"), reason)

    def _lipids(self, encounter: str, start: str) -> None:
        person, unit = self.person, "mg/dL" if self.mg_dl else "mmol/L"
        results = []
        total, hdl = ("2093-3", "总胆固醇", person.total_mmol), ("2085-9", "高密度脂蛋白胆固醇", person.hdl_mmol)
        for code, words, mmol in (total, hdl):
            value = mmol + self.rng.gauss(0, 0.08)
            shown = round(value / 0.0259) if self.mg_dl else round(value, 2)
            results.append(self._measure(encounter, start, code, words, shown, unit))
        panel = {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": _concept(LOINC, "24331-1", "血脂检查"),
            "result": [{"reference": reference} for reference in results],
        }
        self._add(panel | self._of(encounter, start))

    def _measure(self, encounter: str, start: str, code: str, words: str, value: float, unit: str) -> str:  # noqa: PLR0917
        quantity = {"value": value, "unit": unit, "system": _UCUM, "code": unit}
        return self._observe(encounter, start, _concept(LOINC, code, words), "valueQuantity", quantity)

    def _observe(self, encounter: str, start: str, code: Resource, name: str, value: Any) -> str:  # noqa: ANN401, PLR0917
        resource = {"resourceType": "Observation", "status": "final", "code": code, name: value}
        return self._add(resource | self._of(encounter, start))

    def _condition(self, encounter: str, start: str, icd: str, words: str) -> str:
        return self._add(
            {
                "resourceType": "Condition",
                "clinicalStatus": _concept(_CLINICAL, "active", ""),
                "verificationStatus": _concept(_VERIFIED, "confirmed", ""),
                "code": _concept(_ICD10, icd, words),
                "subject": {"reference": self.subject},
                "encounter": {"reference": encounter},
                "onsetDateTime": start,
            }
        )

    def _prescribe(self, encounter: str, start: str, drug: tuple[str, str], reason: str) -> None:
        self._add(
            {
                "resourceType": "MedicationRequest",
                "status": "active",
                "intent": "order",
                "medicationCodeableConcept": _concept(_ATC, *drug),
                "subject": {"reference": self.subject},
                "encounter": {"reference": encounter},
                "authoredOn": start,
                "reasonReference": [{"reference": reason}],
            }
        )

    def _of(self, encounter: str, start: str) -> Resource:
        return {
            "subject": {"reference": self.subject},
            "encounter": {"reference": encounter},
            "effectiveDateTime": start,
        }


def _pressure(systolic: int, diastolic: int) -> Resource:
    parts = (("8480-6", "收缩压", systolic), ("8462-4", "舒张压", diastolic))
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": _concept(LOINC, "85354-9", "血压"),
        "component": [
            {
                "code": _concept(LOINC, code, words),
                "valueQuantity": {"value": value, "unit": "mmHg", "system": _UCUM, "code": "mm[Hg]"},
            }
            for code, words, value in parts
        ],
    }


def _concept(system: str, code: str, words: str) -> Resource:
    coding = {"system": system, "code": code}
    return {"coding": [coding | {"display": words}], "text": words} if words else {"coding": [coding]}
