"""Known answers of the risk models, from `05-cvd/risk_vectors.json` of the shared data (each with its own source)."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from yilian.clinic.screening import (
    CHOLESTEROL_MG_DL_PER_MMOL_L,
    Answer,
    Inputs,
    Risk,
    RiskClass,
    china_par,
    framingham,
    pooled_cohort,
)

FOLDER = Path(os.environ.get("YILIAN_SHARED_DATA", "../shared/data")) / "05-cvd"
CLASSES = {"低危": RiskClass.LOW, "中危": RiskClass.MEDIUM, "高危": RiskClass.HIGH}
MODELS = {
    "China-PAR 10y ASCVD": china_par,
    "Framingham general CVD 2008 (D'Agostino) 10y": framingham,
    "ACC/AHA 2013 Pooled Cohort Equations 10y ASCVD": pooled_cohort,
}
NOT_COVERED = {"SCORE2 10y CVD": 2, "AHA PREVENT 10y": 4, "AHA PREVENT 30y": 4}
SKIP = f"shared data not found at {FOLDER}: known-answer tests for cardiovascular risk not run"


def vectors() -> list[dict[str, Any]]:
    path = FOLDER / "risk_vectors.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else []


def covered() -> list[Any]:
    rows = [vector for vector in vectors() if vector["model"] in MODELS]
    if not rows:
        return [pytest.param(None, marks=pytest.mark.skip(reason=SKIP), id="shared-data-absent")]
    return [pytest.param(row, id=f"{number}-{row['model'].split()[0]}") for number, row in enumerate(rows)]


def ask(vector: dict[str, Any]) -> Answer:
    given = vector["input"]
    race, _, short = given.get("group", "_").partition("_")
    sex = given.get("sex") or {"f": "female", "m": "male"}[short]
    inputs = Inputs(
        age=given["age"],
        sex=sex,
        race={"aa": "black", "white": "white"}.get(race),
        systolic_mm_hg=given["sbp"],
        hypertension_treated=given["sbp_treated"],
        total_cholesterol_mg_dl=mg_dl(given, "tc"),
        hdl_cholesterol_mg_dl=mg_dl(given, "hdl"),
        waist_cm=given.get("waist_cm"),
        smoker=given["smoker"],
        diabetes=given["diabetes"],
        north=given.get("north"),
        urban=given.get("urban"),
        family_history=given.get("family_history"),
    )
    return MODELS[vector["model"]](inputs)


def mg_dl(given: dict[str, Any], name: str) -> float:
    direct = given.get(f"{name}_mg_dl")
    return float(direct or given[f"{name}_mmol_l"] * CHOLESTEROL_MG_DL_PER_MMOL_L)


@pytest.mark.parametrize("vector", covered())
def test_the_model_gives_the_published_risk_within_its_tolerance(vector: dict[str, Any]) -> None:
    answer = ask(vector)
    assert isinstance(answer, Risk)
    assert answer.percent == pytest.approx(vector["expected_percent"], abs=vector["tolerance_pp"])
    assert answer.risk_class == CLASSES.get(vector.get("expected_category", ""), answer.risk_class)


@pytest.mark.skipif(not vectors(), reason=SKIP)
def test_eleven_vectors_are_covered_and_the_others_are_listed() -> None:
    counts = Counter(vector["model"] for vector in vectors())
    assert sum(counts[model] for model in MODELS) == 11
    assert {model: number for model, number in counts.items() if model not in MODELS} == NOT_COVERED
