"""Gets the data from the user's `get_data()` or file, and says where it went wrong if it does."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np

from mlflow_automl_remote.automl import data, guardrails, metrics
from mlflow_automl_remote.automl.data import Checked
from mlflow_automl_remote.automl.dataset import ColumnSchema, Dataset
from mlflow_automl_remote.automl.guardrails import Finding
from mlflow_automl_remote.automl.meta_features import meta_features
from mlflow_automl_remote.automl.tables import load_training_data
from mlflow_automl_remote.automl.targets import position_of
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError

_FUNCTION: Final = "get_data"
FEWEST_ROWS: Final = 2  # of a class, where the number of folds is chosen by the data


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOrder:
    """What `prepare_data` is asked for.

    Attributes:
        config: Says where the data is and how it is read.
        project: The project folder.
        folder: Where the dataset goes, for `data.open_dataset`.
    """

    config: AutoMLConfig
    project: Path
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """What a dataset is like, without its rows.

    Attributes:
        n_rows: Rows of X.
        n_features: Columns of X.
        n_classes: Different labels; None for regression.
        feature_names: One name per column, or None.
        digest: Of everything in it.
        columns: All columns that came in.
        findings: What a person should know about the data.
        class_counts: Rows of each label, the most frequent first; empty for regression.
        meta_features: What it is like, in a few numbers.
    """

    n_rows: int
    n_features: int
    n_classes: int | None
    feature_names: tuple[str, ...] | None
    digest: str
    columns: tuple[ColumnSchema, ...] = ()
    findings: tuple[Finding, ...] = ()
    class_counts: tuple[tuple[str, int], ...] = ()
    meta_features: Mapping[str, float] = field(default_factory=dict)


def prepare_data(order: DataOrder) -> DataSummary:
    """Load, check and save the data; made to be run by an `Executor`, with a limit and a log.

    Raises:
        DataError: The data cannot be loaded or cannot be trained on.
    """
    checked = load_data(order.config, order.project)
    data.save(checked.dataset, order.folder)
    return summarize(checked)


def load_data(config: AutoMLConfig, project: Path) -> Checked:
    """Load the data from the script or the file that the settings name, and check it.

    Raises:
        DataError: The data cannot be loaded or cannot be trained on.
    """
    if config.training_data is not None:
        raw: Mapping[str, object] = load_training_data(config, project)
    else:
        raw = load_data_script(project / config.data_script)
    return check_data(raw, config)


def check_data(raw: Mapping[str, object], config: AutoMLConfig) -> Checked:
    """Check what `get_data()` or a user returned, as the settings want it read.

    Raises:
        DataError: It cannot be trained on.
    """
    splits_at_random = config.validation_size is not None or config.cv_splits_indices is not None
    checked = data.check_all(
        raw,
        config.task,
        n_folds=FEWEST_ROWS if splits_at_random else config.n_cross_validations or FEWEST_ROWS,
        featurization=config.featurization,
        exclude_nan_labels=config.exclude_nan_labels,
    )
    dataset = checked.dataset
    classes = dataset.classes if config.task == "classification" else None
    positive = None
    if config.positive_label is not None and classes is not None:
        positive = position_of(config.positive_label, classes)
    if config.scorer is not None:
        metrics.refuse_unfit(config.scorer, dataset.y, classes, positive)
    return checked


def summarize(checked: Checked) -> DataSummary:
    """Describe data that has passed the checks, with what the guardrails find."""
    dataset = checked.dataset
    return DataSummary(
        n_rows=dataset.n_rows,
        n_features=dataset.n_features,
        n_classes=len(dataset.classes) if dataset.task == "classification" else None,
        feature_names=dataset.feature_names,
        digest=dataset.digest,
        columns=dataset.columns,
        findings=guardrails.inspect(checked),
        class_counts=_class_counts(dataset),
        meta_features=meta_features(dataset),
    )


def _class_counts(dataset: Dataset) -> tuple[tuple[str, int], ...]:
    if dataset.task == "regression":
        return ()
    labels, counts = np.unique(dataset.y, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple((str(labels[at]), int(counts[at])) for at in order)


def load_data_script(path: Path) -> Mapping[str, object]:
    """Import a Python file, with its folder on `sys.path`, and call its `get_data()`.

    The module and its folder stay importable, because what it returned may need them.

    Raises:
        DataError: The file is missing, cannot be imported, has no `get_data`, or that raised or
            returned no dict.
    """
    path = path.resolve()
    if not path.is_file():
        raise DataError(f"The data script '{path}' does not exist; 'data_script' must name it.")
    sys.path.insert(0, str(path.parent))
    module = _import(path)
    function = getattr(module, _FUNCTION, None)
    if not callable(function):
        raise DataError(
            f"'{path.name}' has no function {_FUNCTION}(); define one that returns a dict with "
            "'X' and 'y'."
        )
    raw = _guarded(function, f"{_FUNCTION}()", path)
    if not isinstance(raw, Mapping):
        raise DataError(
            f"{_FUNCTION}() must return a dict with 'X' and 'y'. "
            f"Got a {type(raw).__name__} instead."
        )
    return raw


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DataError(f"'{path.name}' is not a Python file; 'data_script' must name one.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), f"importing {path.name}", path)
    return module


def _guarded(call: Callable[[], object], what: str, path: Path) -> object:
    """Call the user's code; whatever it raises becomes one line with file and line number."""
    try:
        return call()
    except MemoryError:
        raise  # the executor tells it apart from an error of the script
    except (Exception, SystemExit) as error:  # it is the user's code: anything can come
        name = type(error).__name__
        text = " ".join(str(error).split())
        raise DataError(f"{what} raised {name} at {_place(error, path)}: {text}") from error


def _place(error: BaseException, path: Path) -> str:
    """Say where it was raised: the last line of the user's script, if any, else the last."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename) == path]
    frame = (ours or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"
