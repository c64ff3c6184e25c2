"""A fitted pipeline taken apart: steps that keep columns apart, what is behind them, the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.tables import Encoded, Ints, encode, is_frame

ELEMENT_WISE: Final = frozenset(("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"))
"""Steps that map every column to itself; one that calls a function does if that is `clip`."""
NAMES_WARNING: Final = "X (does not have|has) .*feature names"
"""How scikit-learn's warnings begin when names are given to what was fitted without, or not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """A fitted pipeline without its nesting.

    Attributes:
        steps: Fitted transformers.
        model: The last step, any fitted estimator.
    """

    steps: tuple[Any, ...]
    model: Any

    @property
    def is_classifier(self) -> bool:
        """Whether the model has classes."""
        return is_classifier(self.model)

    @property
    def n_outputs(self) -> int:
        """Classes, or 1 for regression."""
        return len(self.model.classes_) if self.is_classifier else 1

    def ask(self, method: str, table: Any) -> Any:
        """Call a method of the model on rows as the first step gets them."""
        for step in self.steps:
            table = ask(step, "transform", table)
        return ask(self.model, method, table)

    def has(self, method: str) -> bool:
        """Whether the model has a method."""
        return hasattr(self.model, method)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Front:
    """Rows behind those steps that keep columns apart.

    Attributes:
        rows: The rows as numbers.
        player: The raw column that each of these numbers comes from, (p,).
        names: What the columns are called at this place; empty where they have no names.
        rest: What is behind.
    """

    rows: Encoded
    player: Ints
    names: tuple[str, ...]
    rest: Chain


def is_classifier(model: Any) -> bool:
    """Whether a fitted model has classes; CatBoost's regressors have none, but the attribute."""
    return len(getattr(model, "classes_", ())) > 0


def chain_of(estimator: Any) -> Chain:
    """Take a fitted estimator apart; a vote of one model is that model."""
    steps: list[Any] = []
    while True:
        if hasattr(estimator, "steps"):
            steps += [step for _, step in estimator.steps[:-1] if not _is_nothing(step)]
            estimator = estimator.steps[-1][1]
        elif type(estimator).__name__ in ("VotingClassifier", "VotingRegressor") and (
            len(estimator.estimators_) == 1 and getattr(estimator, "voting", "soft") == "soft"
        ):
            estimator = estimator.estimators_[0]
        else:
            return Chain(steps=tuple(steps), model=estimator)


def _is_nothing(step: object) -> bool:
    return step is None or isinstance(step, str)


def front_of(chain: Chain, X: Any, background: Any) -> Front:
    """Take rows through all steps that keep columns apart."""
    player: Ints = np.arange(X.shape[1])
    names: Sequence[str] = list(map(str, X.columns)) if is_frame(X) else ()
    steps = list(chain.steps)
    rows: Any = X
    while steps:
        found = _origins(steps[0], rows)
        if found is None:
            break
        origins, new_names = found
        rows, background = (ask(steps[0], "transform", each) for each in (rows, background))
        steps.pop(0)
        player = player[origins]
        names = new_names or names
    encoded = encode(rows, background)
    return Front(
        rows=encoded,
        player=player[encoded.columns],
        names=tuple(names[at] for at in encoded.columns) if names else (),
        rest=Chain(steps=tuple(steps), model=chain.model),
    )


def _origins(step: Any, rows: Any) -> tuple[Ints, Sequence[str]] | None:
    """Say which column each column that comes out of a step comes from; None if from several.

    The step before all models of tables tells it in `columns` and `blocks_`. It is known by these:
    its class comes with the model, not from this package.
    """
    if type(step).__name__ in ELEMENT_WISE or getattr(step, "func", None) is np.clip:
        return np.arange(rows.shape[1]), ()
    if not (hasattr(step, "blocks_") and hasattr(step, "columns")):
        return None
    if any(getattr(block, "partners", ()) for block in step.blocks_):
        return None
    known = list(rows.columns) if is_frame(rows) else [name for name, _ in step.columns]
    by_name = all(name in known for block in step.blocks_ for name in block.sources)
    names = known if by_name else [name for name, _ in step.columns]
    position = {name: at for at, name in enumerate(names)}
    sources = [position[source] for block in step.blocks_ for source in block.sources]
    return np.array(sources, dtype=np.intp), list(map(str, step.get_feature_names_out()))


def ask(estimator: Any, method: str, table: Any, **options: object) -> Any:
    """Call a method of a fitted estimator on rows; an array is named as it was fitted.

    The rows stay as they are, also where the estimator was told to work in place.
    """
    if getattr(estimator, "copy", True) is False:
        table = table.copy()
    names = getattr(estimator, "feature_names_in_", None)
    if isinstance(table, np.ndarray) and names is not None and len(names) == table.shape[1]:
        import pandas as pd

        table = pd.DataFrame(table, columns=list(names))
    with warnings.catch_warnings():
        # The columns are in the fitted order; only some steps were given their names.
        warnings.filterwarnings("ignore", message=NAMES_WARNING)
        return getattr(estimator, method)(table, **options)


def per_class(answer: ArrayLike) -> Floats:
    """Give an answer as (n, outputs); one margin of two classes becomes both."""
    table: Any = np.asarray(answer, dtype=np.float64)
    if table.size == len(table):
        column = table.reshape(-1, 1)
        return np.hstack([-column, column])
    found: Floats = table
    return found


def describe(estimator: Any) -> str:
    """Name the steps, as in `StandardScaler > SVC`."""
    if hasattr(estimator, "steps"):
        steps = [step for _, step in estimator.steps if not _is_nothing(step)]
        return " > ".join(describe(step) for step in steps)
    name = type(estimator).__name__
    if name == "FunctionTransformer":
        return str(estimator.func.__name__)
    if name == "CalibratedClassifierCV":
        return f"{name}({describe(estimator.estimator)})"
    members: Any = getattr(estimator, "estimators_", ())
    if name.startswith(("Voting", "Stacking")):
        return describe(members[0]) if len(members) == 1 else f"{name} of {len(members)} models"
    return name
