"""Settings: what is accepted, and what a user is told about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_automl_remote.config import METRICS, MODELS, AutoMLConfig, names
from mlflow_automl_remote.errors import ConfigurationError


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    """A typo names its nearest neighbour and the whole list."""
    with pytest.raises(ConfigurationError) as caught:
        AutoMLConfig.parse({"task": "classification", "iteratons": 3})
    message = str(caught.value)
    assert message.startswith("Unknown setting 'iteratons'. Did you mean 'iterations'?")
    assert all(name in message for name in AutoMLConfig.model_fields)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "The 'task' setting is missing"),
        ({"task": "clustering"}, "'classification' or 'regression'. Got 'clustering' instead"),
        ({"task": "regression", "iterations": 0}, "greater than or equal to 1. Got 0 instead"),
        ({"task": "regression", "iterations": "ten"}, "valid integer"),
        ({"task": "regression", "iterations": 5000}, "less than or equal to 1000"),
        (
            {"task": "regression", "primary_metric": "AUC_weighted"},
            "The 'primary_metric' setting must be one of explained_variance",
        ),
        (
            {"task": "classification", "primary_metric": "neg_root_mean_squared_error"},
            "or a scorer of scikit-learn, one of average_precision",
        ),
        ({"task": "classification", "data_script": "../get_data.py"}, "inside the project folder"),
        ({"task": "classification", "data_script": "/get_data.py"}, "inside the project folder"),
        ({"task": "classification", "allowed_models": "LGBM"}, "names from BernoulliNaiveBayes"),
        (
            {"task": "classification", "allowed_models": "SVM", "blocked_models": ["SVM"]},
            "No model is left",
        ),
        ({"task": "classification", "iteration_timeout_minutes": "nan"}, "finite"),
        ({"task": "classification", "model_explainability": "perhaps"}, "valid boolean"),
    ],
)
def test_a_wrong_value_says_setting_value_and_what_is_allowed(
    settings: dict[str, object], expected: str
) -> None:
    """Every message is one line that a person can act on."""
    with pytest.raises(ConfigurationError) as caught:
        AutoMLConfig.parse(settings)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("setting must be") <= 1


def test_values_may_be_text_as_a_command_line_gives_them() -> None:
    """`-P key=value` brings strings."""
    config = AutoMLConfig.parse(
        {
            "task": "classification",
            "iterations": "7",
            "model_explainability": "false",
            "blocked_models": "SVM,KNN",
            "max_concurrent_iterations": "none",
            "iteration_timeout_minutes": "0.5",
        }
    )
    assert config.iterations == 7
    assert config.model_explainability is False
    assert "SVM" not in config.searched_models
    assert config.max_concurrent_iterations is None
    assert config.iteration_timeout_s == 30


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_settings_survive_json_and_start_with_defaults_that_fit_the_task(task: str) -> None:
    """What is sent to the target is what was checked here."""
    config = AutoMLConfig.parse({"task": task})
    assert config == AutoMLConfig.from_json(config.to_json())
    assert config.primary_metric in METRICS[config.task]
    assert MODELS[config.task] == config.searched_models
    assert set(AutoMLConfig.model_fields) == set(config.as_params())


def test_less_error_is_better() -> None:
    """The direction of a metric is known by its name."""
    assert AutoMLConfig.parse({"task": "regression"}).greater_is_better is False
    assert AutoMLConfig.parse({"task": "classification"}).greater_is_better is True
    losses = AutoMLConfig.parse({"task": "classification", "primary_metric": "log_loss"})
    assert losses.greater_is_better is False


def test_a_settings_file_is_overridden_key_by_key(tmp_path: Path) -> None:
    """The command line wins over the file."""
    file = tmp_path / "automl.yaml"
    file.write_text("task: classification\niterations: 5\nallowed_models: [SVM, KNN]\n")
    config = AutoMLConfig.from_file(file, {"iterations": "6"})
    assert (config.iterations, config.searched_models) == (6, ("KNN", "SVM"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot be read: No such file"),
        ("- task", "must hold 'name: value' lines. Got a list"),
        ("task: [", "is not YAML"),
        ("", "Got a NoneType"),
    ],
)
def test_a_settings_file_that_cannot_be_read_says_why(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    """Missing, empty, or not YAML: one line each."""
    file = tmp_path / "automl.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        AutoMLConfig.from_file(file)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"training_data": "a.csv"}, "'training_data' needs 'label_column_name'"),
        (
            {"training_data": "a.csv", "label_column_name": "y", "data_script": "get_data.py"},
            "'data_script' and 'training_data' cannot both be set",
        ),
        ({"training_data": "a.xls", "label_column_name": "y"}, ".csv, .csv.gz, .parquet"),
        ({"label_column_name": "y"}, "'label_column_name' needs 'training_data'"),
        ({"validation_data": "a.csv"}, "'validation_data' needs 'training_data'"),
        (
            {
                "training_data": "a.csv",
                "label_column_name": "y",
                "validation_data": "b.csv",
                "cv_split_column_names": "fold",
            },
            "'validation_data' and 'cv_split_column_names' cannot both be set",
        ),
        ({"featurization": {"a": "zip"}}, "kinds number, boolean, category, date, text, drop"),
        ({"featurization": "{a"}, "a JSON object"),
        ({"lag_length": 1}, "has no meaning here: forecasting is not offered"),
    ],
)
def test_settings_about_the_data_name_one_source(
    settings: dict[str, object], expected: str
) -> None:
    """A script or a file, and columns only of a file."""
    with pytest.raises(ConfigurationError) as caught:
        AutoMLConfig.parse({"task": "classification", **settings})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_data_takes_the_place_of_the_script() -> None:
    """The script's default steps back, and what is sent to the target says the same."""
    config = AutoMLConfig.parse(
        {"task": "regression", "training_data": "a.csv", "label_column_name": "y"}
    )
    assert config.data_script == ""
    assert config == AutoMLConfig.from_json(config.to_json())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, "auto"),
        ("false", "off"),
        ("off", "off"),
        ({"zip": "category"}, {"zip": "category"}),
        ('{"zip": "category"}', {"zip": "category"}),
    ],
)
def test_featurization_is_also_a_switch_under_its_earlier_name(
    given: object, expected: object
) -> None:
    """`preprocess: true` is what the article writes."""
    for name in ("preprocess", "featurization"):
        config = AutoMLConfig.parse({"task": "regression", name: given})
        assert expected == config.featurization


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"max_time_sec": 90}, "iteration_timeout_minutes", 1.5),
        ({"experiment_timeout_hours": "0.25"}, "experiment_timeout_minutes", 15),
        ({"max_trials": 7}, "iterations", 7),
        ({"blacklist_models": "SVM"}, "blocked_models", ("SVM",)),
        ({"whitelist_models": ["XGBoostClassifier"]}, "allowed_models", ("XGBoost",)),
        ({"enable_ensembling": False}, "enable_voting_ensemble", False),
    ],
)
def test_names_of_earlier_are_accepted_with_a_notice(
    given: dict[str, object],
    name: str,
    value: object,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The notice says the name of today, once; units are converted."""
    monkeypatch.setattr(names, "_noticed", set())
    for _ in range(2):
        config = AutoMLConfig.parse({"task": "classification"} | given)
        assert getattr(config, name) == value
    told = [record.getMessage() for record in caplog.records]
    assert sum(f"'{next(iter(given))}'" in text and f"'{name}'" in text for text in told) == 1


def test_an_override_wins_over_a_file_that_has_the_name_of_earlier(tmp_path: Path) -> None:
    """They are the same setting."""
    file = tmp_path / "automl.yaml"
    file.write_text("task: classification\nmax_trials: 5\n")
    assert AutoMLConfig.from_file(file, {"iterations": "6"}).iterations == 6


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"enable_tf": True}, "The 'enable_tf' setting has no meaning here: no TensorFlow"),
        ({"exit_score": 1, "experiment_exit_score": 2}, "is given twice, also as"),
        ({"max_time_sec": "soon"}, "'max_time_sec' setting must be a number. Got 'soon'"),
        ({"primary_metric": "AUC_binary"}, "needs 'positive_label', the class that it is about"),
        ({"task": "regression", "positive_label": 1}, "'positive_label' is for classification"),
        ({"y_min": 0}, "'y_min' and 'y_max' are for regression"),
        ({"task": "regression", "y_min": 3, "y_max": 2}, "'y_min' must be below 'y_max'"),
        ({"cv_splits_indices": [[[0], [1]]], "validation_size": 0.5}, "cannot both be set"),
        ({"debug_log": "../log"}, "a file name without folders"),
        ({"max_cores_per_iteration": 0}, "or -1 for all cores. Got 0"),
        ({"verbosity": "loud"}, "Got 'LOUD' instead"),
        ({"test_size": 1}, "less than 1"),
        ({"device": "tpu"}, "'auto', 'cpu' or 'cuda'"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    settings: dict[str, object], expected: str
) -> None:
    """One line that a person can act on."""
    with pytest.raises(ConfigurationError) as caught:
        AutoMLConfig.parse({"task": "classification"} | settings)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90s", 1.5),
        ("1h30m", 90),
        ("1.5h", 90),
        ("2 min", 2),
        ("45", 45),
        (0.5, 0.5),
        ("1d", 1440),
    ],
)
def test_durations_may_have_units(text: object, minutes: float) -> None:
    """A plain number is minutes."""
    config = AutoMLConfig.parse({"task": "regression", "experiment_timeout_minutes": text})
    assert config.experiment_timeout_s == pytest.approx(minutes * 60)


def test_a_duration_that_is_none_is_refused() -> None:
    """Not silently taken for something else."""
    for text in ("1x", "h", "1h 30"):
        with pytest.raises(ConfigurationError, match="iteration_timeout_minutes"):
            AutoMLConfig.parse({"task": "regression", "iteration_timeout_minutes": text})


def test_a_level_may_be_its_number() -> None:
    """As `logging.WARNING` gives it."""
    assert AutoMLConfig.parse({"task": "regression", "verbosity": 30}).verbosity == "WARNING"


@pytest.mark.parametrize("charts", ["all", "best", "none"])
def test_charts_can_be_asked_for_as_the_settings_page_says(charts: str) -> None:
    """`none` is a choice there, where elsewhere it means the default."""
    config = AutoMLConfig.parse({"task": "classification", "charts": charts})
    assert config.charts == charts
