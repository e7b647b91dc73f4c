"""Ten-year cardiovascular risk: China-PAR, Framingham 2008 and the pooled cohort equations of 2013.

Pure functions over typed inputs. A model that lacks an input says which; one that is asked outside the ages and values
it was derived for says so; nothing is assumed and nothing is rounded before it is classed.

A screening asks China-PAR first, then Framingham, then the pooled cohort equations: the first that can answer decides.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec

from yilian.clinic.coefficients import CHINA_PAR, FRAMINGHAM, POOLED_COHORT, Equation, Term

CONSTANTS_VERSION = "2026.1"
"""Version of the coefficients, ranges and class boundaries; it goes into the sealed result of every screening."""

CHOLESTEROL_MG_DL_PER_MMOL_L = 1 / 0.0259


class Model(StrEnum):
    """The models, in the order in which a screening asks them."""

    CHINA_PAR = "china-par-2016"
    FRAMINGHAM = "framingham-2008"
    POOLED_COHORT = "acc-aha-pce-2013"


class RiskClass(StrEnum):
    """低危, 中危, 高危."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the models may ask for; None is missing. Age in whole years, units in the names.

    `hypertension_treated`: under antihypertensive treatment. `family_history`: of atherosclerotic disease in parents or
    siblings. `north`, `urban`: the region of residence in China (north of the Yangtze). `race`: white, black, other.
    """

    age: float | None = None
    sex: str | None = None
    race: str | None = None
    systolic_mm_hg: float | None = None
    hypertension_treated: bool | None = None
    total_cholesterol_mg_dl: float | None = None
    hdl_cholesterol_mg_dl: float | None = None
    waist_cm: float | None = None
    smoker: bool | None = None
    diabetes: bool | None = None
    north: bool | None = None
    urban: bool | None = None
    family_history: bool | None = None


class Risk(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An answer: the risk over ten years in percent, not rounded, its class, and the inputs that went in."""

    model: Model
    percent: float
    risk_class: RiskClass
    used: dict[str, float | bool | str]


class Missing(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """No answer: the model needs these inputs."""

    model: Model
    inputs: tuple[str, ...]


class OutOfRange(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """No answer: these inputs lie outside what the model was derived for."""

    model: Model
    inputs: tuple[str, ...]


Answer = Risk | Missing | OutOfRange


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of all models, and the one that decides; `decided` is None where none could answer."""

    version: str
    decided: Risk | None
    answers: tuple[Answer, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Inputs that the first model lacks, such as `waist_cm`; empty where it had all."""
        first = self.answers[0]
        return first.inputs if isinstance(first, Missing) else ()


# Highest percent of LOW and of MEDIUM, both exclusive.
# China-PAR: 中国心血管病风险评估和管理指南 2019: < 5 low, 5 to < 10 medium, ≥ 10 high.
# Framingham: Anderson et al. 2013 (Canadian Cardiovascular Society 2012): < 10 low, 10 to < 20 medium, ≥ 20 high.
# Pooled cohort: Grundy et al. 2019 (2018 ACC/AHA cholesterol guideline): 7.5 to < 20 intermediate, ≥ 20 high; its low
# (< 5) and borderline (5 to < 7.5) are one class here.
CLASS_BOUNDARIES: dict[Model, tuple[float, float]] = {
    Model.CHINA_PAR: (5.0, 10.0),
    Model.FRAMINGHAM: (10.0, 20.0),
    Model.POOLED_COHORT: (7.5, 20.0),
}

# Both ends inclusive. Ages: those of the derivation cohorts. Pooled cohort values: those of the ACC/AHA risk estimator.
# The others keep out slips of the pen and of units; the papers print no such limits.
_PLAUSIBLE = {
    "systolic_mm_hg": (70.0, 270.0),
    "total_cholesterol_mg_dl": (50.0, 600.0),
    "hdl_cholesterol_mg_dl": (10.0, 200.0),
    "waist_cm": (40.0, 200.0),
}
RANGES: dict[Model, dict[str, tuple[float, float]]] = {
    Model.CHINA_PAR: {"age": (35.0, 74.0)} | _PLAUSIBLE,
    Model.FRAMINGHAM: {"age": (30.0, 74.0)} | _PLAUSIBLE,
    Model.POOLED_COHORT: {
        "age": (40.0, 79.0),
        "systolic_mm_hg": (90.0, 200.0),
        "total_cholesterol_mg_dl": (130.0, 320.0),
        "hdl_cholesterol_mg_dl": (20.0, 100.0),
    },
}

_COMMON = (
    "age",
    "sex",
    "systolic_mm_hg",
    "hypertension_treated",
    "total_cholesterol_mg_dl",
    "hdl_cholesterol_mg_dl",
    "smoker",
    "diabetes",
)
_SEXES = frozenset({"male", "female"})
_RACES = frozenset({"white", "black", "other"})


def china_par(inputs: Inputs) -> Answer:
    """Give the ten-year risk of atherosclerotic cardiovascular disease in China.

    The women's equation uses neither `urban` nor `family_history`. Cholesterol in mg/dL (mmol/L ÷ 0.0259).

    Source: Yang X et al., Circulation 2016;134:1430-1440, doi:10.1161/CIRCULATIONAHA.116.022367, data supplement.
    """
    needed: tuple[str, ...] = (*_COMMON, "waist_cm", "north")
    if inputs.sex != "female":
        needed = (*needed, "urban", "family_history")
    return _answer(Model.CHINA_PAR, inputs, needed, CHINA_PAR.get(inputs.sex or ""))


def framingham(inputs: Inputs) -> Answer:
    """Give the ten-year risk of general cardiovascular disease by the Framingham equations with lipids.

    Source: D'Agostino RB et al., Circulation 2008;117:743-753, table 2.
    """
    return _answer(Model.FRAMINGHAM, inputs, _COMMON, FRAMINGHAM.get(inputs.sex or ""))


def pooled_cohort(inputs: Inputs) -> Answer:
    """Give the ten-year risk of a first hard atherosclerotic event; `race` other takes the equation for white people.

    Source: Goff DC et al., Circulation 2014;129(25 Suppl 2):S49-73, appendix 7 table A.
    """
    race = "black" if inputs.race == "black" else "white"
    equation = POOLED_COHORT.get(f"{race} {inputs.sex}")
    return _answer(Model.POOLED_COHORT, inputs, (*_COMMON, "race"), equation)


def screen(inputs: Inputs) -> Screening:
    """Ask all models and let the first that can answer decide, in the order China-PAR, Framingham, pooled cohort."""
    answers = (china_par(inputs), framingham(inputs), pooled_cohort(inputs))
    decided = next((answer for answer in answers if isinstance(answer, Risk)), None)
    return Screening(version=CONSTANTS_VERSION, decided=decided, answers=answers)


def classify(model: Model, percent: float) -> RiskClass:
    """Class a risk in percent by the model's own boundaries; a value on a boundary belongs to the higher class."""
    low, medium = CLASS_BOUNDARIES[model]
    if percent < low:
        return RiskClass.LOW
    return RiskClass.MEDIUM if percent < medium else RiskClass.HIGH


def _answer(model: Model, inputs: Inputs, needed: tuple[str, ...], equation: Equation | None) -> Answer:
    used = {name: value for name in needed if (value := getattr(inputs, name)) is not None}
    missing = tuple(name for name in needed if name not in used)
    if missing:
        return Missing(model=model, inputs=missing)
    outside = tuple(name for name in needed if not _is_inside(model, name, used[name]))
    if outside or equation is None:
        return OutOfRange(model=model, inputs=outside)
    percent = 100 * (1 - equation.survival ** math.exp(_sum(equation, used) - equation.mean))
    return Risk(model=model, percent=percent, risk_class=classify(model, percent), used=used)


def _is_inside(model: Model, name: str, value: float | bool | str) -> bool:  # noqa: FBT001 - an input of any kind
    if name == "sex":
        return value in _SEXES
    if name == "race":
        return value in _RACES
    limits = RANGES[model].get(name)
    return limits is None or limits[0] <= float(value) <= limits[1]


def _sum(equation: Equation, used: dict[str, float | bool | str]) -> float:
    """Add coefficient × value; every logarithm is natural."""
    ln_age = math.log(float(used["age"]))
    ln_sbp = math.log(float(used["systolic_mm_hg"]))
    ln_tc = math.log(float(used["total_cholesterol_mg_dl"]))
    ln_hdl = math.log(float(used["hdl_cholesterol_mg_dl"]))
    treated = float(used["hypertension_treated"])
    values = {
        Term.LN_AGE: ln_age,
        Term.LN_AGE_SQUARED: ln_age**2,
        Term.LN_SBP_TREATED: ln_sbp * treated,
        Term.LN_SBP_UNTREATED: ln_sbp * (1 - treated),
        Term.LN_TC: ln_tc,
        Term.LN_HDL: ln_hdl,
        Term.SMOKER: float(used["smoker"]),
        Term.DIABETES: float(used["diabetes"]),
    }
    values[Term.LN_WAIST] = math.log(float(used["waist_cm"])) if "waist_cm" in used else 0.0
    values[Term.NORTH] = float(used.get("north", False))
    values[Term.URBAN] = float(used.get("urban", False))
    values[Term.FAMILY_HISTORY] = float(used.get("family_history", False))
    total = 0.0
    for term, coefficient in equation.terms.items():
        total += coefficient * values[term]
    for term, coefficient in equation.times_ln_age.items():
        total += coefficient * values[term] * ln_age
    return total
