"""The settings that say where the data is, which column is what, and how columns are read."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlflow_automl_remote.errors import ConfigurationError

DEFAULT_SCRIPT: Final = "get_data.py"
FILE_ENDINGS: Final = (".csv", ".csv.gz", ".parquet")
_WITH_TRAINING_DATA: Final = (
    "label_column_name",
    "validation_data",
    "weight_column_name",
    "cv_split_column_names",
)
_SWITCH: Final = {"true": "auto", "false": "off", "1": "auto", "0": "off"}

ColumnPurpose = Literal["number", "boolean", "category", "date", "text", "drop"]
PURPOSES: Final[tuple[ColumnPurpose, ...]] = get_args(ColumnPurpose)


class DataFields(BaseModel):
    """Settings about the data; part of `AutoMLConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data_script: str = Field(
        default=DEFAULT_SCRIPT,
        description=(
            "Python file in the project folder with get_data(); run on the target, once. "
            "Not together with training_data."
        ),
    )
    training_data: str | None = Field(
        default=None,
        description=(
            "Instead of a script: a .csv, .csv.gz or .parquet file, in the project folder or "
            "anywhere on the target. Default: none."
        ),
    )
    label_column_name: str | None = Field(
        default=None,
        description="The column of training_data to predict; required with training_data.",
    )
    validation_data: str | None = Field(
        default=None,
        description="A file like training_data to score on instead of folds. Default: none.",
    )
    weight_column_name: str | None = Field(
        default=None, description="The column of training_data with row weights. Default: none."
    )
    cv_split_column_names: tuple[str, ...] | None = Field(
        default=None,
        description=(
            "Columns of training_data, one per fold, with 1 for rows to fit on and 0 for rows to "
            "score. Default: none."
        ),
    )
    featurization: Literal["auto", "off"] | dict[str, ColumnPurpose] = Field(
        default="auto",
        description=(
            "auto makes numbers of categories, dates, text and gaps; off takes only numbers "
            "without gaps; {column: number, boolean, category, date, text or drop} is auto, with "
            "these columns read so. The earlier name preprocess is true for auto, false for off."
        ),
    )
    exclude_nan_labels: bool = Field(
        default=True, description="Leave out rows without a label; else they are an error."
    )

    @field_validator("data_script")
    @classmethod
    def _stays_in_project(cls, value: str) -> str:
        path = PurePosixPath(value)
        if value and (path.is_absolute() or ".." in path.parts or path.suffix != ".py"):
            raise ValueError("a .py file inside the project folder, such as 'get_data.py'")
        return str(path) if value else value

    @field_validator("training_data", "validation_data")
    @classmethod
    def _is_a_table(cls, value: str | None) -> str | None:
        if value is not None and not value.lower().endswith(FILE_ENDINGS):
            raise ValueError(f"a file that ends in one of {', '.join(FILE_ENDINGS)}")
        return value

    @field_validator("cv_split_column_names", mode="before")
    @classmethod
    def _split_columns(cls, value: object) -> object:
        """Accept `A,B`, as a command line gives it, for `[A, B]`."""
        return tuple(value.split(",")) if isinstance(value, str) else value

    @field_validator("featurization", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        """Accept true and false, and what YAML makes of a bare `off`; a mapping also as JSON."""
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise ValueError(f"auto, off or a JSON object ({error})") from error
        if isinstance(value, dict):
            wrong = [f"{name}: {kind}" for name, kind in value.items() if kind not in PURPOSES]
            if wrong:
                raise ValueError(
                    f"{{column: kind}} with the kinds {', '.join(PURPOSES)}, not {wrong[0]}"
                )
            return {str(name): kind for name, kind in value.items()}
        return _SWITCH.get(str(value).lower(), value)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.training_data is None:
            for name in _WITH_TRAINING_DATA:
                if getattr(self, name) is not None:
                    raise ConfigurationError(
                        f"'{name}' needs 'training_data': with a data script, get_data() says it. "
                        "Set training_data or remove it."
                    )
            return self
        if "data_script" in self.model_fields_set and self.data_script:
            raise ConfigurationError(
                "'data_script' and 'training_data' cannot both be set: the data comes from one of "
                "them. Remove one."
            )
        object.__setattr__(self, "data_script", "")
        return self._columns_are_named()

    def _columns_are_named(self) -> Self:
        if not self.label_column_name:
            raise ConfigurationError(
                "'training_data' needs 'label_column_name', the column to predict. Set it."
            )
        if self.validation_data and self.cv_split_column_names:
            raise ConfigurationError(
                "'validation_data' and 'cv_split_column_names' cannot both be set: rows are "
                "scored in one way. Remove one of them."
            )
        return self
