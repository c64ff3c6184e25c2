"""Training data from files, and `automl-remote check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from mlflow_automl_remote.automl.data_script import load_data
from mlflow_automl_remote.cli import main
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError

TABLE = pd.DataFrame(
    {
        "age": [22, 38, 26, 35] * 3,
        "town": ["Rome", "Oslo", "NA", None] * 3,
        "born": ["2001-02-03", "1999-12-31", "2000-01-01", ""] * 3,
        "fold": [1, 1, 0] * 4,
        "weight": [1.0, 2.0] * 6,
        "sold": ["yes", "no"] * 6,
    }
)


def _config(**settings: object) -> AutoMLConfig:
    given = {"training_data": "a.csv", "label_column_name": "sold", **settings}
    return AutoMLConfig.parse({"task": "classification", **given})


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_file_is_read_with_weights_folds_and_label(
    tmp_path: Path, name: str, separator: str
) -> None:
    """What is no feature is taken out of the features."""
    if name.endswith(".parquet"):
        TABLE.to_parquet(tmp_path / name)
    else:
        TABLE.to_csv(tmp_path / name, index=False, sep=separator)
    config = _config(training_data=name, weight_column_name="weight", cv_split_column_names="fold")
    dataset = load_data(config, tmp_path).dataset
    assert dataset.feature_names == ("age", "town", "born")
    assert [column.kind for column in dataset.columns] == ["number", "category", "date"]
    assert dataset.columns[2].n_missing == 3
    assert dataset.sample_weight is not None
    assert dataset.sample_weight.tolist() == [1.0, 2.0] * 6
    assert dataset.cv_splits is not None
    assert dataset.cv_splits[0][1].tolist() == [2, 5, 8, 11]
    assert dataset.y.tolist() == ["yes", "no"] * 6


def test_na_is_a_gap_among_numbers_and_a_category_among_words(tmp_path: Path) -> None:
    """So that `NA` in a column of basements stays what it means."""
    (tmp_path / "a.csv").write_text("n,town,sold\n1,NA,a\nNA,Oslo,b\n3,,a\n4,Oslo,b\n")
    dataset = load_data(_config(), tmp_path).dataset
    assert [column.n_missing for column in dataset.columns] == [1, 1]
    assert dataset.columns[1].n_unique == 2


def test_a_validation_file_is_scored_on(tmp_path: Path) -> None:
    """It has the same columns; its weights come along."""
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    TABLE[:4].to_csv(tmp_path / "b.csv", index=False)
    config = _config(validation_data="b.csv", weight_column_name="weight")
    dataset = load_data(config, tmp_path).dataset
    assert dataset.X_valid is not None
    assert dataset.X_valid.shape == (4, 4)
    assert dataset.sample_weight_valid is not None


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (None, {}, "does not exist; 'training_data' must name a file"),
        ("", {}, "is empty"),
        ("a,b,a,sold\n1,2,3,4\n", {}, "more than one column named 'a'"),
        ("a,solt\n1,2\n", {}, "'a.csv' has no column named 'sold'. Did you mean 'solt'?"),
        ("a,sold\n1,2,3,4\n1,2\n", {}, "cannot be read"),
        ("a,sold\n1,2\n", {"weight_column_name": "w"}, "has no column named 'w'"),
        ("a,f,sold\n1,2,0\n1,0,1\n", {"cv_split_column_names": "f"}, "1 (fit) and 0 (score). Got"),
        ("a,sold\n1,2\n", {"validation_data": "b.csv"}, "'validation_data' must name a file"),
        (b"a,sold\n\xff\xfe,2\n", {}, "is not UTF-8"),
        (b"PAR1 no", {"training_data": "a.parquet"}, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, text: str | bytes | None, settings: dict[str, object], message: str
) -> None:
    """One line says which file and what to do."""
    config = _config(**settings)
    if text is not None:
        raw = text.encode() if isinstance(text, str) else text
        (tmp_path / str(config.training_data)).write_bytes(raw)
    with pytest.raises(DataError) as caught:
        load_data(config, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_shows_columns_and_findings_without_a_sweep(tmp_path: Path) -> None:
    """The settings file and overrides are those of `sweep`."""
    TABLE.assign(same="x").to_csv(tmp_path / "a.csv", index=False)
    settings = tmp_path / "automl.yaml"
    settings.write_text("task: classification\ntraining_data: a.csv\n")
    asked = ["check", "--settings", str(settings), "--label-column-name", "sold"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "12 rows, 5 columns, 2 classes"
    assert any(line.split() == ["town", "category", "3", "3"] for line in lines)
    assert "info     column_dropped     same: No model sees this column" in done.output
    assert lines[-1] == "The data can be trained on."


def test_check_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    """For scripts too, with file and line."""
    (tmp_path / "automl.yaml").write_text("task: classification\n")
    (tmp_path / "get_data.py").write_text("def get_data():\n    return {'X': [[1], [2]]}\n")
    done = CliRunner().invoke(main, ["check", "--settings", str(tmp_path / "automl.yaml")])
    assert done.exit_code == 1
    assert "Error: get_data() returned 'X', which needs 'y': 'y' is missing." in done.output


def test_a_class_may_be_rare_where_own_folds_do_not_need_it(tmp_path: Path) -> None:
    """Folds at random need it twice."""
    y = ["a"] * 5 + ["b"] * 6 + ["c"]
    table = pd.DataFrame({"n": np.arange(12), "fold": [1, 0] * 6, "sold": y})
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match="Class c of y has 1 rows, fewer than the 2 folds"):
        load_data(_config(), tmp_path)
    checked = load_data(_config(cv_split_column_names="fold"), tmp_path)
    assert checked.dataset.classes.tolist() == ["a", "b", "c"]
