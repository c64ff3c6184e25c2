"""Preprocessing: what stands in front of scaler and model when the data is a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import cloudpickle
import numpy as np

from mlflow_automl_remote.automl.dataset import ColumnSchema, Dataset
from mlflow_automl_remote.automl.featurization import (
    blocks,
    categories,
    coded,
    pairs,
    preprocessor,
    values,
)
from mlflow_automl_remote.automl.featurization.preprocessor import (
    MAX_ONE_HOT,
    Kind,
    Mode,
    TablePreprocessor,
)
from mlflow_automl_remote.config import Task

LARGE_CELLS: Final = 5_000_000
"""Above so many values, single precision halves the memory of every iteration."""
MAX_CLASSES_FOR_MEANS: Final = 10
"""Mean targets are one column for each class; of more classes categories are coded or one-hot."""
N_TEXT: Final = 30
"""The most numbers that a column of free text becomes."""
FEWEST_TEXT: Final = 3
ROWS_OF_TEXT: Final = 100
"""For each of those numbers; with more of them, trees learn noise by heart."""
N_TEXT_OF_LARGE: Final = 6
"""The same above so many values."""
_TYPE_NAMES: Final[dict[str, str]] = {
    "number": "Numeric",
    "boolean": "Boolean",
    "category": "Categorical",
    "many": "Categorical",
    "date": "DateTime",
    "text": "Text",
    "dropped": "Ignored",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSummary:
    """What became of one column, in the words of the article's featurization summary."""

    RawFeatureName: str
    TypeDetected: str
    Dropped: bool
    EngineeredFeatureCount: int
    Transformations: tuple[str, ...]


def build_preprocessor(
    dataset: Dataset, *, mode: Mode, task: Task, seed: int
) -> TablePreprocessor | None:
    """Make the unfitted first step of a pipeline, to be fitted inside each fold.

    Args:
        dataset: The data.
        mode: `dense` for models that want no gaps; `native` for models that have categories and
            missing values of their own; `coded` for those that take any number of categories.
        task: The kind of problem.
        seed: Of everything random in it.

    Returns:
        None when the model can have X as it is: numbers without gaps (or with, for `native`), or a
        sparse matrix.
    """
    X = dataset.X
    if dataset.is_sparse or (isinstance(X, np.ndarray) and (mode != "dense" or not _gaps(X))):
        return None
    if mode == "coded" and all(column.kind != "category" for column in dataset.x_columns):
        mode = "native"  # the same, and made for other models anyway
    large = dataset.n_rows * dataset.n_features > LARGE_CELLS
    means = task == "regression" or len(dataset.classes) <= MAX_CLASSES_FOR_MEANS
    return TablePreprocessor(
        tuple((column.name, _kind(column, means=means)) for column in dataset.x_columns),
        mode=mode,
        task=task,
        dtype="float32" if large else "float64",
        pairs=not large,
        fill_gaps=large,  # of numbers with gaps XGBoost makes an index of 4 bytes each, not of 1
        n_text_components=N_TEXT_OF_LARGE if large else _n_text(dataset.n_rows),
        random_state=seed,
    )


def _n_text(n_rows: int) -> int:
    return min(N_TEXT, max(FEWEST_TEXT, n_rows // ROWS_OF_TEXT))


def summary(
    fitted: TablePreprocessor, columns: Sequence[ColumnSchema] = ()
) -> list[FeatureSummary]:
    """Say what became of each column.

    Args:
        fitted: A fitted preprocessor.
        columns: All columns that came in (`Dataset.columns`), so that dropped ones are told too.
    """
    kinds = dict(fitted.columns)
    dropped = {each.name: each for each in columns if each.name not in kinds}
    names = [each.name for each in columns] or list(kinds)
    n_made = Counter(
        name for block in fitted.blocks_ for name in (*block.sources, *block.partners)
    )
    steps: dict[str, tuple[str, ...]] = {}
    for block in fitted.blocks_:
        for name in {*block.sources, *block.partners}:
            steps[name] = steps.get(name, ()) + block.steps
    return [
        FeatureSummary(
            RawFeatureName=name,
            TypeDetected=_TYPE_NAMES[dropped[name].kind if name in dropped else kinds[name]],
            Dropped=name in dropped or kinds[name] == "dropped",
            EngineeredFeatureCount=n_made[name],
            Transformations=steps.get(name, ()),
        )
        for name in names
    ]


def raw_column_of(fitted: TablePreprocessor) -> list[int]:
    """Give, for each number that comes out, the position of the column of X that it comes from.

    The first one where there are two.
    """
    position = {name: at for at, (name, _) in enumerate(fitted.columns)}
    return [position[source] for block in fitted.blocks_ for source in block.sources]


@contextmanager
def by_value() -> Iterator[None]:
    """Let cloudpickle write our steps with their code, so that loading them needs no code of ours.

    For as long as the context lasts.
    """
    modules = (preprocessor, blocks, categories, coded, pairs, values)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _gaps(X: np.ndarray) -> bool:
    """Whether a value is missing; the sum of finite numbers is no NaN, and takes no memory."""
    return bool(np.isnan(X.sum())) and bool(np.isnan(X).any())


def _kind(column: ColumnSchema, *, means: bool) -> Kind:
    if column.dropped_reason is not None:
        return "dropped"
    if column.kind == "category" and column.n_unique > MAX_ONE_HOT and means:
        return "many"
    return column.kind
