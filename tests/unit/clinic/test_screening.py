from __future__ import annotations

import math

import msgspec
import pytest

from yilian.clinic.screening import (
    CONSTANTS_VERSION,
    Inputs,
    Missing,
    Model,
    OutOfRange,
    Risk,
    RiskClass,
    Screening,
    china_par,
    classify,
    framingham,
    pooled_cohort,
    screen,
)

WOMAN = Inputs(
    age=60,
    sex="female",
    race="white",
    systolic_mm_hg=130,
    hypertension_treated=False,
    total_cholesterol_mg_dl=210,
    hdl_cholesterol_mg_dl=55,
    waist_cm=80,
    smoker=False,
    diabetes=True,
    north=True,
)
MAN = msgspec.structs.replace(WOMAN, sex="male", urban=True, family_history=False)


@pytest.mark.parametrize(
    ("model", "percent", "expected"),
    [
        (Model.CHINA_PAR, 0.0, RiskClass.LOW),
        (Model.CHINA_PAR, math.nextafter(5, 0), RiskClass.LOW),
        (Model.CHINA_PAR, 5.0, RiskClass.MEDIUM),
        (Model.CHINA_PAR, math.nextafter(10, 0), RiskClass.MEDIUM),
        (Model.CHINA_PAR, 10.0, RiskClass.HIGH),
        (Model.FRAMINGHAM, math.nextafter(10, 0), RiskClass.LOW),
        (Model.FRAMINGHAM, 10.0, RiskClass.MEDIUM),
        (Model.FRAMINGHAM, math.nextafter(20, 0), RiskClass.MEDIUM),
        (Model.FRAMINGHAM, 20.0, RiskClass.HIGH),
        (Model.POOLED_COHORT, math.nextafter(7.5, 0), RiskClass.LOW),
        (Model.POOLED_COHORT, 7.5, RiskClass.MEDIUM),
        (Model.POOLED_COHORT, math.nextafter(20, 0), RiskClass.MEDIUM),
        (Model.POOLED_COHORT, 20.0, RiskClass.HIGH),
    ],
)
def test_a_boundary_belongs_to_the_higher_class_and_nothing_is_rounded(
    model: Model, percent: float, expected: RiskClass
) -> None:
    assert classify(model, percent) is expected


def test_china_par_decides_where_it_can_answer_and_records_what_it_used() -> None:
    screening = screen(WOMAN)
    decided = screening.decided
    assert decided is not None
    assert (screening.version, decided.model, decided.risk_class) == (
        CONSTANTS_VERSION,
        Model.CHINA_PAR,
        RiskClass.HIGH,
    )
    assert decided.percent == pytest.approx(10.13, abs=0.01)
    assert decided.used == {
        "age": 60,
        "sex": "female",
        "systolic_mm_hg": 130,
        "hypertension_treated": False,
        "total_cholesterol_mg_dl": 210,
        "hdl_cholesterol_mg_dl": 55,
        "smoker": False,
        "diabetes": True,
        "waist_cm": 80,
        "north": True,
    }


def test_without_waist_china_par_says_so_and_framingham_decides() -> None:
    screening = screen(msgspec.structs.replace(WOMAN, waist_cm=None))
    assert screening.answers[0] == Missing(model=Model.CHINA_PAR, inputs=("waist_cm",))
    assert screening.missing == ("waist_cm",)
    assert screening.decided == framingham(WOMAN)


def test_nobody_decides_where_everything_is_missing() -> None:
    screening = screen(Inputs())
    assert screening.decided is None
    assert all(isinstance(answer, Missing) for answer in screening.answers)


def test_the_pooled_cohort_equations_decide_at_ages_beyond_the_others() -> None:
    screening = screen(msgspec.structs.replace(MAN, age=76))
    assert screening.answers[0] == OutOfRange(model=Model.CHINA_PAR, inputs=("age",))
    assert screening.missing == ()
    assert screening.decided is not None
    assert screening.decided.model is Model.POOLED_COHORT


@pytest.mark.parametrize(
    "missing",
    [
        "age",
        "sex",
        "systolic_mm_hg",
        "hypertension_treated",
        "total_cholesterol_mg_dl",
        "hdl_cholesterol_mg_dl",
        "smoker",
        "diabetes",
        "waist_cm",
        "north",
        "urban",
        "family_history",
    ],
)
def test_a_missing_input_of_a_man_is_named_by_china_par(missing: str) -> None:
    assert china_par(msgspec.structs.replace(MAN, **{missing: None})) == Missing(
        model=Model.CHINA_PAR, inputs=(missing,)
    )


def test_the_womens_equation_needs_neither_urban_nor_family_history() -> None:
    assert isinstance(china_par(WOMAN), Risk)


@pytest.mark.parametrize(
    ("name", "below", "lowest", "highest", "above"),
    [
        ("age", 34, 35, 74, 75),
        ("systolic_mm_hg", 69.9, 70, 270, 270.1),
        ("total_cholesterol_mg_dl", 49.9, 50, 600, 600.1),
        ("hdl_cholesterol_mg_dl", 9.9, 10, 200, 200.1),
        ("waist_cm", 39.9, 40, 200, 200.1),
    ],
)
def test_china_par_answers_within_its_range_only(
    name: str, below: float, lowest: float, highest: float, above: float
) -> None:
    kinds = [type(china_par(msgspec.structs.replace(MAN, **{name: value}))) for value in (lowest, highest)]
    outside = [china_par(msgspec.structs.replace(MAN, **{name: value})) for value in (below, above, math.nan)]
    assert kinds == [Risk, Risk]
    assert outside == [OutOfRange(model=Model.CHINA_PAR, inputs=(name,))] * 3


@pytest.mark.parametrize(
    ("model", "ages"), [(framingham, (29, 30, 74, 75)), (pooled_cohort, (39, 40, 79, 80))], ids=["framingham", "pooled"]
)
def test_the_other_models_answer_within_their_ages_only(model: object, ages: tuple[int, ...]) -> None:
    assert callable(model)
    kinds = [type(model(msgspec.structs.replace(MAN, age=age))) for age in ages]
    assert kinds == [OutOfRange, Risk, Risk, OutOfRange]


def test_another_sex_or_race_than_the_models_know_is_out_of_range() -> None:
    assert framingham(msgspec.structs.replace(MAN, sex="other")) == OutOfRange(model=Model.FRAMINGHAM, inputs=("sex",))
    strange = pooled_cohort(msgspec.structs.replace(MAN, race="unknown"))
    assert strange == OutOfRange(model=Model.POOLED_COHORT, inputs=("race",))


def test_another_race_takes_the_equation_for_white_people_and_black_people_have_their_own() -> None:
    other, white, black = (
        pooled_cohort(msgspec.structs.replace(MAN, race=each)) for each in ("other", "white", "black")
    )
    assert isinstance(other, Risk)
    assert isinstance(white, Risk)
    assert isinstance(black, Risk)
    assert other.percent == white.percent != black.percent


def test_treatment_raises_the_risk_in_every_model() -> None:
    treated = msgspec.structs.replace(MAN, hypertension_treated=True)
    risks = [(model(MAN), model(treated)) for model in (china_par, framingham, pooled_cohort)]
    assert all(isinstance(a, Risk) and isinstance(b, Risk) and a.percent < b.percent for a, b in risks)


def test_a_screening_survives_encoding() -> None:
    screening = screen(msgspec.structs.replace(MAN, waist_cm=None))
    assert msgspec.json.decode(msgspec.json.encode(screening), type=Screening) == screening
