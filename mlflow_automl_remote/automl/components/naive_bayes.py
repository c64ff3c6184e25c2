"""Naive Bayes: nearly free, and a check that the others are worth their time."""

from __future__ import annotations

from typing import Final

from sklearn.naive_bayes import BernoulliNB, MultinomialNB

from mlflow_automl_remote.automl.components.base import Component, Params, Trial


def _suggest_multinomial(trial: Trial) -> Params:
    return {
        "alpha": trial.suggest_float("alpha", 1e-3, 1e1, log=True),
        "fit_prior": trial.suggest_categorical("fit_prior", [True, False]),
    }


def _suggest_bernoulli(trial: Trial) -> Params:
    return {
        **_suggest_multinomial(trial),
        "binarize": trial.suggest_float("binarize", 0.0, 1.0),
    }


CLASSIFIERS: Final = (
    Component(
        name="BernoulliNaiveBayes",
        suggest=_suggest_bernoulli,
        build=lambda p, c: BernoulliNB(**p),
        defaults={"alpha": 1.0, "fit_prior": True, "binarize": 0.0},
        scalers=("MinMaxScaler", "RobustScaler", "StandardScaler"),
        takes_sparse=True,
    ),
    Component(
        name="MultinomialNaiveBayes",
        suggest=_suggest_multinomial,
        build=lambda p, c: MultinomialNB(**p),
        defaults={"alpha": 1.0, "fit_prior": True},
        scalers=("MinMaxScaler",),  # it takes no negative values
        takes_sparse=True,
    ),
)
