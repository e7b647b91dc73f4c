"""Coefficients of the risk equations, as published; each table names its source.

Every equation has the form: risk = 1 − survival ^ exp(sum − mean).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Term(StrEnum):
    """What a coefficient is multiplied with; logarithms are natural, flags 0 or 1."""

    LN_AGE = "ln age"
    LN_AGE_SQUARED = "ln² age"
    LN_SBP_TREATED = "ln treated systolic pressure"
    LN_SBP_UNTREATED = "ln untreated systolic pressure"
    LN_TC = "ln total cholesterol"
    LN_HDL = "ln HDL cholesterol"
    LN_WAIST = "ln waist"
    SMOKER = "smoker"
    DIABETES = "diabetes"
    NORTH = "north"
    URBAN = "urban"
    FAMILY_HISTORY = "family history"


class Equation(msgspec.Struct, frozen=True, kw_only=True):
    """One equation; `times_ln_age` are the interactions with ln age."""

    terms: dict[Term, float]
    times_ln_age: dict[Term, float]
    mean: float
    survival: float


# Yang X et al., Circulation 2016;134:1430-1440, data supplement, supplemental table 1 and its worked examples.
# As printed (two decimals), men come out 5 to 8 % too high, and women with survival 0.99 a third too low.
# Men: coefficients recomputed from the printed column "coefficient × value", survival 0.9707.
# Women: coefficients as printed, survival 0.9851 solved from the printed worked example.
CHINA_PAR = {
    "male": Equation(
        terms={
            Term.LN_AGE: 31.966044,
            Term.LN_SBP_TREATED: 27.39,
            Term.LN_SBP_UNTREATED: 26.148762,
            Term.LN_TC: 0.620896,
            Term.LN_HDL: -0.693728,
            Term.LN_WAIST: -0.711999,
            Term.SMOKER: 3.96,
            Term.DIABETES: 0.36,
            Term.NORTH: 0.48,
            Term.URBAN: -0.16,
            Term.FAMILY_HISTORY: 6.22,
        },
        times_ln_age={
            Term.LN_SBP_TREATED: -6.02,
            Term.LN_SBP_UNTREATED: -5.73074,
            Term.SMOKER: -0.94,
            Term.FAMILY_HISTORY: -1.53,
        },
        mean=140.68,
        survival=0.9707,
    ),
    "female": Equation(
        terms={
            Term.LN_AGE: 24.87,
            Term.LN_SBP_TREATED: 20.71,
            Term.LN_SBP_UNTREATED: 19.98,
            Term.LN_TC: 0.06,
            Term.LN_HDL: -0.22,
            Term.LN_WAIST: 1.48,
            Term.SMOKER: 0.49,
            Term.DIABETES: 0.57,
            Term.NORTH: 0.54,
        },
        times_ln_age={Term.LN_SBP_TREATED: -4.53, Term.LN_SBP_UNTREATED: -4.36},
        mean=117.26,
        survival=0.9851,
    ),
}

# D'Agostino RB et al., Circulation 2008;117:743-753, table 2.
FRAMINGHAM = {
    "male": Equation(
        terms={
            Term.LN_AGE: 3.06117,
            Term.LN_TC: 1.12370,
            Term.LN_HDL: -0.93263,
            Term.LN_SBP_UNTREATED: 1.93303,
            Term.LN_SBP_TREATED: 1.99881,
            Term.SMOKER: 0.65451,
            Term.DIABETES: 0.57367,
        },
        times_ln_age={},
        mean=23.9802,
        survival=0.88936,
    ),
    "female": Equation(
        terms={
            Term.LN_AGE: 2.32888,
            Term.LN_TC: 1.20904,
            Term.LN_HDL: -0.70833,
            Term.LN_SBP_UNTREATED: 2.76157,
            Term.LN_SBP_TREATED: 2.82263,
            Term.SMOKER: 0.52873,
            Term.DIABETES: 0.69154,
        },
        times_ln_age={},
        mean=26.1931,
        survival=0.95012,
    ),
}

# Goff DC et al., Circulation 2014;129(25 Suppl 2):S49-73, appendix 7 table A.
POOLED_COHORT = {
    "white female": Equation(
        terms={
            Term.LN_AGE: -29.799,
            Term.LN_AGE_SQUARED: 4.884,
            Term.LN_TC: 13.540,
            Term.LN_HDL: -13.578,
            Term.LN_SBP_TREATED: 2.019,
            Term.LN_SBP_UNTREATED: 1.957,
            Term.SMOKER: 7.574,
            Term.DIABETES: 0.661,
        },
        times_ln_age={Term.LN_TC: -3.114, Term.LN_HDL: 3.149, Term.SMOKER: -1.665},
        mean=-29.18,
        survival=0.9665,
    ),
    "black female": Equation(
        terms={
            Term.LN_AGE: 17.114,
            Term.LN_TC: 0.940,
            Term.LN_HDL: -18.920,
            Term.LN_SBP_TREATED: 29.291,
            Term.LN_SBP_UNTREATED: 27.820,
            Term.SMOKER: 0.691,
            Term.DIABETES: 0.874,
        },
        times_ln_age={Term.LN_HDL: 4.475, Term.LN_SBP_TREATED: -6.432, Term.LN_SBP_UNTREATED: -6.087},
        mean=86.61,
        survival=0.9533,
    ),
    "white male": Equation(
        terms={
            Term.LN_AGE: 12.344,
            Term.LN_TC: 11.853,
            Term.LN_HDL: -7.990,
            Term.LN_SBP_TREATED: 1.797,
            Term.LN_SBP_UNTREATED: 1.764,
            Term.SMOKER: 7.837,
            Term.DIABETES: 0.658,
        },
        times_ln_age={Term.LN_TC: -2.664, Term.LN_HDL: 1.769, Term.SMOKER: -1.795},
        mean=61.18,
        survival=0.9144,
    ),
    "black male": Equation(
        terms={
            Term.LN_AGE: 2.469,
            Term.LN_TC: 0.302,
            Term.LN_HDL: -0.307,
            Term.LN_SBP_TREATED: 1.916,
            Term.LN_SBP_UNTREATED: 1.809,
            Term.SMOKER: 0.549,
            Term.DIABETES: 0.645,
        },
        times_ln_age={},
        mean=19.54,
        survival=0.8954,
    ),
}
