"""Which rows are fitted on, which score, and which no iteration sees: the same for all iterations.

Everything here is a function of the data and the settings, so that each process can work it out
for itself and all come to the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from mlflow_automl_remote.automl.dataset import Dataset, Indices, Labels
from mlflow_automl_remote.config import AutoMLConfig, Task
from mlflow_automl_remote.errors import DataError

Fold = tuple[Indices, Indices]

FEW_ROWS: Final = 1_000
MANY_ROWS: Final = 20_000
FOLDS_OF_FEW_ROWS: Final = 10
FOLDS: Final = 3
HOLD_OUT_OF_MANY_ROWS: Final = 0.1
FEW_ROWS_TO_RACE: Final = 3_000
MOST_ROWS_TO_RACE: Final = 500_000
FOLDS_OF_FEW_TO_RACE: Final = 8
FOLDS_TO_RACE: Final = 5
"""Folds of a race cost only those that are worth it, and their models are kept."""
SUBSAMPLE_ROWS: Final = 50_000
_TEST, _SUBSAMPLE, _SPLIT = range(3)  # so that each draw has a stream of its own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """How a sweep validates.

    Attributes:
        folds: Rows to fit on and rows to score, once per fold. With a validation set one fold,
            and the rows to score are rows of that set.
        train: Rows that the final model is fitted on; None for all.
        test: Rows that nothing is fitted on or chosen by; empty without `test_size`.
        on_valid: Whether the rows to score are rows of the validation set.
        description: For a person: `5-fold cross-validation`.
        is_sample: Whether `train` is a random sample of `enable_subsampling`.
    """

    folds: tuple[Fold, ...]
    train: Indices | None
    test: Indices
    on_valid: bool
    description: str
    is_sample: bool = False

    @property
    def n_folds(self) -> int:
        """How often a pipeline is fitted in order to be scored."""
        return len(self.folds)

    @property
    def fewest_rows(self) -> int:
        """The fewest rows that any fold leaves to be fitted on."""
        return min(len(fit) for fit, _ in self.folds)

    @property
    def scores_once(self) -> bool:
        """Whether no row is scored in two folds."""
        scored = np.concatenate([score for _, score in self.folds])
        return len(np.unique(scored)) == len(scored)


def make_splits(dataset: Dataset, config: AutoMLConfig) -> Splits:
    """Split a dataset as the settings say, or by its size where they say nothing.

    Raises:
        DataError: Data and settings ask for two ways to validate, or for rows that do not exist.
    """
    pool = np.arange(dataset.n_rows)
    test: Indices = pool[:0]
    own = _own_folds(dataset, config)
    if config.test_size > 0:
        _refuse_if(own is not None, "cv_splits_indices", "test_size")
        pool, test = hold_out(
            dataset.y, pool, config.test_size, _rng(config.seed, _TEST), dataset.task
        )
        test = _subsample(dataset, config, test)
    whole = pool
    pool = _subsample(dataset, config, pool)
    is_sample = len(pool) < len(whole)
    folds, description = _folds(dataset, config, pool, own)
    if is_sample:
        description += f", of a sample of {len(pool):,} of {len(whole):,} rows"
    return Splits(
        folds=folds,
        train=None if len(pool) == dataset.n_rows else pool,
        test=test,
        on_valid=dataset.X_valid is not None,
        description=description,
        is_sample=is_sample,
    )


def hold_out(
    y: Labels, rows: Indices, share: float, rng: np.random.Generator, task: Task
) -> tuple[Indices, Indices]:
    """Draw a share of some rows, evenly over the classes; the last row of a class always stays.

    Args:
        y: Targets of all data.
        rows: The rows to divide.
        share: How much to draw, 0 to 1.
        rng: Draws.
        task: Classes are only looked at for classification.

    Returns:
        The rows that stay and those drawn, in order.
    """
    order = rng.permutation(len(rows))
    codes = np.zeros(len(rows), dtype=np.intp)
    if task == "classification":
        codes = np.unique(y[rows], return_inverse=True)[1].reshape(-1)
        order = order[np.argsort(codes[order], kind="stable")]
    steps = np.floor((np.arange(len(rows)) + 1) * share + rng.random() * (1 - share))
    drawn = np.zeros(len(rows), dtype=bool)
    drawn[order] = np.diff(steps, prepend=0.0) > 0
    for code in np.setdiff1d(codes, codes[~drawn]):
        drawn[np.flatnonzero(codes == code)[0]] = False
    if not drawn.any():
        drawn[order[0]] = np.bincount(codes)[codes[order[0]]] > 1
    return rows[~drawn], rows[drawn]


def _folds(
    dataset: Dataset, config: AutoMLConfig, pool: Indices, own: tuple[Fold, ...] | None
) -> tuple[tuple[Fold, ...], str]:
    """Give the folds of some rows, and what they are called."""
    if dataset.X_valid is not None:
        for setting in ("n_cross_validations", "validation_size"):
            _refuse_if(getattr(config, setting) is not None, "X_valid", setting)
        _refuse_if(own is not None, "X_valid", "cv_splits_indices")
        n_valid = int(dataset.X_valid.shape[0])
        return ((pool, np.arange(n_valid)),), f"validation set of {n_valid} rows"
    if own is not None:
        kept = tuple((np.intersect1d(fit, pool), score) for fit, score in own)
        return kept, f"{len(own)} own folds"
    n_folds, share = _by_size(dataset, config, pool)
    if share is None:
        return _k_folds(dataset, pool, n_folds, config.seed), f"{n_folds}-fold cross-validation"
    folds = tuple(
        hold_out(dataset.y, pool, share, _rng(config.seed, _SPLIT, number), dataset.task)
        for number in range(n_folds)
    )
    if n_folds == 1:
        return folds, f"hold-out of {share:.0%}"
    return folds, f"{n_folds} random splits with {share:.0%} held out"


def _by_size(dataset: Dataset, config: AutoMLConfig, pool: Indices) -> tuple[int, float | None]:
    """Give how many folds, and the share that each holds out; None for equal parts."""
    n_folds, share = config.n_cross_validations, config.validation_size
    if n_folds is not None or share is not None:
        return n_folds or 1, share
    if len(pool) > (MOST_ROWS_TO_RACE if config.races else MANY_ROWS):
        return 1, HOLD_OUT_OF_MANY_ROWS
    wanted = FOLDS_OF_FEW_ROWS if len(pool) < FEW_ROWS else FOLDS
    if config.races:
        wanted = FOLDS_OF_FEW_TO_RACE if len(pool) <= FEW_ROWS_TO_RACE else FOLDS_TO_RACE
    if dataset.task == "classification":
        rarest = int(np.unique(dataset.y[pool], return_counts=True)[1].min())
        wanted = max(2, min(wanted, rarest))
    return min(wanted, len(pool)), None


def _k_folds(dataset: Dataset, pool: Indices, n_folds: int, seed: int) -> tuple[Fold, ...]:
    kind = StratifiedKFold if dataset.task == "classification" else KFold
    splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed)
    y = dataset.y[pool]
    return tuple((pool[fit], pool[score]) for fit, score in splitter.split(y.reshape(-1, 1), y))


def _own_folds(dataset: Dataset, config: AutoMLConfig) -> tuple[Fold, ...] | None:
    """Give the user's own folds, from the settings or from the data."""
    if config.cv_splits_indices is None:
        given = dataset.cv_splits
        if given is not None:
            for setting in ("n_cross_validations", "validation_size"):
                _refuse_if(getattr(config, setting) is not None, "cv_splits_indices", setting)
        return given
    _refuse_if(dataset.cv_splits is not None, "cv_splits_indices", "the folds of the data")
    folds = tuple(
        (np.asarray(fit, dtype=np.intp), np.asarray(score, dtype=np.intp))
        for fit, score in config.cv_splits_indices
    )
    for number, fold in enumerate(folds):
        for rows in fold:
            if not len(rows) or rows.min() < 0 or rows.max() >= dataset.n_rows:
                raise DataError(
                    f"Fold {number} of 'cv_splits_indices' must hold rows from 0 to "
                    f"{dataset.n_rows - 1}, at least one to fit on and one to score."
                )
        both = np.intersect1d(*fold)
        if len(both):
            raise DataError(
                f"Fold {number} of 'cv_splits_indices' fits on row {both[0]} and scores it too; a "
                "row can do only one."
            )
    return folds


def _subsample(dataset: Dataset, config: AutoMLConfig, pool: Indices) -> Indices:
    """Draw `SUBSAMPLE_ROWS` of some rows if the settings say so and there are more."""
    if not config.enable_subsampling or len(pool) <= SUBSAMPLE_ROWS:
        return pool
    seed = config.seed if config.subsample_seed is None else config.subsample_seed
    share = 1 - SUBSAMPLE_ROWS / len(pool)
    return hold_out(dataset.y, pool, share, _rng(seed, _SUBSAMPLE), dataset.task)[0]


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, *stream])


def _refuse_if(both: bool, first: str, second: str) -> None:
    if both:
        raise DataError(
            f"There is '{first}' and also '{second}': there must be one way to split the rows. "
            "Remove one of them."
        )
