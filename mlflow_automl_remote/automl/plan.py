"""What a sweep will do, decided before it begins: models, places, threads, ensembles.

Every model that is left out has its reason, so that a user who misses one can find out why.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from mlflow_automl_remote.automl import pipelines
from mlflow_automl_remote.automl.components import MODELS
from mlflow_automl_remote.automl.components.base import (
    ALL_SCALERS,
    SPARSE_SCALERS,
    BuildContext,
    Component,
    Device,
)
from mlflow_automl_remote.automl.components.svm import CALIBRATION_FOLDS
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.ensemble.blends import MAX_CLASSES_TO_STACK, by_forest
from mlflow_automl_remote.automl.executor import Capacity
from mlflow_automl_remote.automl.meta_features import meta_features
from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.proposals import PastIteration, Proposals
from mlflow_automl_remote.automl.racing.portfolio import racers
from mlflow_automl_remote.automl.sampler import Sampler
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.automl.warm_start import NOTHING, Admission, Chosen, choose
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.warm_start import WarmStart

LAG: Final = 16
"""Iterations whose end a proposal does not wait for; up to so many at a time change no score."""
DEFAULT_LIMIT_S: Final = 300.0
"""Predicted seconds of an iteration above which a model is left out, without time limits."""
SHARE_OF_EXPERIMENT: Final = 0.25
"""Of the time of the whole sweep, what one iteration may be predicted to take."""
SHARE_OF_RACE: Final = 0.15
"""The same of the fit of one fold in a race, where each has a slice of the time."""
LONG_S: Final = 50.0
"""Of a sweep, from which on a second for a stack of numbers brings more than the search."""
LARGE_CELLS: Final = 200_000.0
"""Of a table from which on a fold is worth a process, and a way to another machine."""
BYTES_PER_CELL: Final = 16.0
"""Memory of an iteration for each number of the data: 0.8 GB over 1 million mixed rows by 50."""
BYTES_OF_ITERATION: Final = 60e6
_LOG = logging.getLogger(__name__)
_GPUS: Final = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a sweep will do.

    Attributes:
        models: Names of the models to draw from.
        left_out: Why each of the others is not among them, by name.
        scalers: Names of the scalers to draw from.
        ensembles: Kinds of the last iterations, in order.
        n_places: Iterations at a time.
        n_threads: Threads of each of them.
        device: Where boosters that can are fitted.
        validation: How pipelines are scored, for a person: `5-fold cross-validation`.
        n_folds: How often each is fitted for that.
        n_test_rows: Rows of `test_size`.
        n_learn_rows: Rows that final models are fitted on.
        is_large: Whether a fold takes so long that it is worth a process of its own.
        is_positive: Whether models may learn the logarithm of the targets.
        notes: Where it is not what the settings ask for, for a person.
        warm_start: What it begins with, of what earlier sweeps found.
    """

    models: tuple[str, ...]
    left_out: Mapping[str, str]
    scalers: tuple[str, ...]
    ensembles: tuple[str, ...]
    n_places: int
    n_threads: int
    device: Device
    validation: str
    n_folds: int
    n_test_rows: int
    n_learn_rows: int
    is_large: bool = False
    is_positive: bool = False
    notes: tuple[str, ...] = ()
    warm_start: Chosen = NOTHING

    def log(self) -> None:
        """Say what is not as a user may expect it."""
        for name, reason in self.left_out.items():
            _LOG.info("%s is left out: %s.", name, reason)
        for note in self.notes:
            _LOG.warning("%s", note)
        if self.warm_start.summary:
            _LOG.info("%s", self.warm_start.summary)


def make_plan(
    config: AutoMLConfig,
    dataset: Dataset,
    splits: Splits,
    capacity: Capacity,
) -> SearchPlan:
    """Decide what a sweep will do with this data and so many cores.

    Args:
        config: The settings.
        dataset: The data.
        splits: Its folds.
        capacity: What there is to run iterations on.
    """
    n_cores = capacity.n_cores
    n_places = min(config.max_concurrent_iterations or n_cores, n_cores, config.iterations)
    n_places, notes = _fit_into_memory(n_places, dataset, splits, capacity.memory_bytes)
    if splits.is_sample and splits.train is not None:
        notes += (
            f"Models learn from a sample of {len(splits.train):,} of {dataset.n_rows:,} rows "
            "(enable_subsampling), also those that are saved; for all rows, fit the best pipeline "
            "once more.",
        )
    n_threads = max(1, n_cores // n_places)
    if config.max_cores_per_iteration is not None:
        asked = config.max_cores_per_iteration
        n_threads = n_cores if asked < 0 else min(asked, n_cores)
    n_threads = min(n_threads, capacity.n_cores_of_one)
    if capacity.is_reserved:
        n_places = max(1, min(n_places, n_cores // n_threads))
    models, left_out = usable_models(config, dataset, splits, n_threads=n_threads)
    ensembles, why_not_all = _ensembles(config, dataset)
    left_out |= why_not_all
    return SearchPlan(
        models=models,
        left_out=left_out,
        scalers=SPARSE_SCALERS if dataset.is_sparse else ALL_SCALERS,
        ensembles=ensembles,
        n_places=n_places,
        n_threads=n_threads,
        # Of a cluster it is not known which of its machines an iteration comes to.
        device="cpu" if capacity.is_reserved else choose_device(config.device),
        validation=splits.description,
        n_folds=splits.n_folds,
        n_test_rows=len(splits.test),
        n_learn_rows=dataset.n_rows if splits.train is None else len(splits.train),
        is_large=pipelines.stored_cells(dataset) >= LARGE_CELLS,
        is_positive=pipelines.positive_mean(dataset) > 0,
        notes=notes,
    )


def _ensembles(config: AutoMLConfig, dataset: Dataset) -> tuple[tuple[str, ...], dict[str, str]]:
    """Give the ensembles of the last iterations, and why one that is wanted is not among them."""
    without = tuple(kind for kind in config.ensembles if kind != "StackEnsemble")
    n_classes = len(dataset.classes) if dataset.task == "classification" else 0
    by_default = config.enable_stack_ensemble is None
    has_forest = by_forest(dataset.n_rows, config.n_candidates, n_classes)
    is_long = n_classes > 0 or (config.experiment_timeout_s or 0.0) >= LONG_S
    if config.races and by_default and not (has_forest and is_long):
        # It has better use for its last seconds: its votes are of many models already.
        return without, {}
    if n_classes > MAX_CLASSES_TO_STACK and without != config.ensembles:
        return without, {"StackEnsemble": f"it is for at most {MAX_CLASSES_TO_STACK} classes"}
    return config.ensembles, {}


def places_now(config: AutoMLConfig, plan: SearchPlan, then: Capacity, now: Capacity) -> int:
    """Give the iterations at a time once machines have come or gone since the plan was made."""
    if now == then or not now.is_reserved:
        return plan.n_places
    most = config.max_concurrent_iterations or config.iterations
    places = now.n_cores // plan.n_threads
    if plan.n_places < min(most, then.n_cores // plan.n_threads):  # memory holds no more
        places = plan.n_places * now.n_cores // then.n_cores
    return max(1, min(most, places))


def _fit_into_memory(
    n_places: int, dataset: Dataset, splits: Splits, memory_bytes: int | None
) -> tuple[int, tuple[str, ...]]:
    """Give how many iterations at a time memory is predicted to hold, at least one; and why."""
    share = 1.0 if splits.train is None else len(splits.train) / dataset.n_rows
    cells = pipelines.stored_cells(dataset) * share
    needed = BYTES_OF_ITERATION + BYTES_PER_CELL * cells
    if memory_bytes is None or n_places * needed <= memory_bytes:
        return n_places, ()
    fewer = max(1, int(memory_bytes / needed))
    note = (
        f"{fewer} iterations at a time instead of {n_places}: each is predicted to need "
        f"{needed / 1e6:,.0f} MB, and {memory_bytes / 1e6:,.0f} MB are free."
    )
    return fewer, (note,)


def with_warm_start(
    plan: SearchPlan,
    given: WarmStart | None,
    config: AutoMLConfig,
    dataset: Dataset,
    splits: Splits,
) -> SearchPlan:
    """Let a sweep begin with what earlier sweeps found, if given, as far as it fits."""
    if given is None:
        return plan
    chosen = choose(
        given,
        meta_features(dataset),
        Admission(
            task=dataset.task,
            models=plan.models,
            scalers=plan.scalers,
            n_fits=_n_fits(config, splits),
            limit_s=_limit_s(config) if _leaves_out_slow(config) else math.inf,
            is_race=config.races,
        ),
        n_iterations=config.iterations - len(plan.ensembles),
    )
    return replace(plan, warm_start=chosen, notes=(*plan.notes, *chosen.notes))


def propose(config: AutoMLConfig, plan: SearchPlan, history: Sequence[PastIteration]) -> Proposals:
    """Make the source of a sweep's pipelines; ensembles come after them."""
    sampler = Sampler(
        config.task,
        plan.models,
        greater_is_better=config.greater_is_better,
        seed=config.seed,
        scalers=plan.scalers,
    )
    may_be = (config.task, plan.models, plan.scalers)
    if config.races:
        first = racers(*may_be, plan.n_learn_rows, is_positive=plan.is_positive)
    else:
        first = portfolio(*may_be, is_positive=plan.is_positive)
    # Against the clock no two sweeps are alike anyway, and every score is worth having at once.
    lag = None if config.experiment_timeout_s is not None else max(LAG, plan.n_places)
    return Proposals(
        config.task,
        first,
        n_iterations=config.iterations - len(plan.ensembles),
        sampler=sampler,
        history=[past for past in history if not past.proposal.is_ensemble],
        lag=lag,
        warm=plan.warm_start.pipelines,
        seed=config.seed,
        skip=[past.proposal.number for past in history if past.proposal.is_ensemble],
    )


def usable_models(
    config: AutoMLConfig, dataset: Dataset, splits: Splits, *, n_threads: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Leave out models that cannot, or should not, be fitted on this data.

    Returns:
        The names that are left, and the reason for each that is not. If none were left, those that
        are only too slow are; and if there are none of them, all.
    """
    context = pipelines.context_for(dataset, splits=splits, seed=0, n_jobs=n_threads)
    components = {name: MODELS[dataset.task][name] for name in config.searched_models}
    unfit = {
        name: reason
        for name, component in components.items()
        if (reason := _cannot_fit(component, dataset, context))
    }
    slow: dict[str, str] = {}
    if _leaves_out_slow(config):
        slow = _too_slow(config, dataset, splits, context)
    for reasons in (unfit | slow, unfit, cast("dict[str, str]", {})):
        left = tuple(name for name in config.searched_models if name not in reasons)
        if left:
            return left, dict(reasons)
    raise AssertionError  # the settings leave at least one model


def choose_device(wanted: str, *, gpus: Path = _GPUS) -> Device:
    """Give where boosters are fitted: the GPU if there is one and the settings do not mind."""
    has_gpu = gpus.is_dir() and any(gpus.iterdir())
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


def _cannot_fit(component: Component, dataset: Dataset, context: BuildContext) -> str:
    """Say why a model cannot be fitted on this data; empty if it can."""
    if dataset.is_sparse:
        if not component.takes_sparse:
            return "it does not take a sparse matrix"
        if not set(component.scalers) & set(SPARSE_SCALERS):
            return "none of its scalers takes a sparse matrix"
    if dataset.sample_weight is not None and not component.takes_weights:
        return "it does not take sample weights"
    calibrated = component.name in ("LinearSVM", "SVM")
    if calibrated and context.n_rarest < CALIBRATION_FOLDS:
        return (
            f"its probabilities need {CALIBRATION_FOLDS} rows of each class in every fold, "
            f"and the rarest class has {dataset.smallest_class} rows"
        )
    return ""


def _leaves_out_slow(config: AutoMLConfig) -> bool:
    return config.auto_blacklist and config.allowed_models is None


def _limit_s(config: AutoMLConfig) -> float:
    """Give the predicted seconds from which on a pipeline takes too long to get a score."""
    limits_s = [DEFAULT_LIMIT_S]
    if config.iteration_timeout_s is not None:
        limits_s = [config.iteration_timeout_s]
    if config.experiment_timeout_s is not None:
        share = SHARE_OF_RACE if config.races else SHARE_OF_EXPERIMENT
        limits_s.append(config.experiment_timeout_s * share)
    return min(limits_s)


def _n_fits(config: AutoMLConfig, splits: Splits) -> int:
    """Give how often a pipeline is fitted until it has a score; without a race, and a model."""
    return 1 if config.races else splits.n_folds + 1


def _too_slow(
    config: AutoMLConfig, dataset: Dataset, splits: Splits, context: BuildContext
) -> dict[str, str]:
    """Say of each model that is predicted to take too long how long that is."""
    limit_s, n_fits = _limit_s(config), _n_fits(config, splits)
    reasons = {}
    for name in config.searched_models:
        component = MODELS[dataset.task][name]
        seconds = component.seconds(context) * n_fits
        if config.races and component.fit_until is not None:
            continue  # it takes no longer than it may
        if seconds > limit_s:
            reasons[name] = (
                f"predicted to need {seconds:.0f} s for {n_fits} fits of "
                f"{context.n_rows} rows, more than {limit_s:.0f} s; set auto_blacklist to false "
                "or name it in allowed_models"
            )
    return reasons
