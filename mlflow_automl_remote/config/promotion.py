"""The settings of a promotion: which name and alias, and what a challenger has to earn it by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlflow_automl_remote.errors import ConfigurationError

_FORBIDDEN: Final = "/:'\"\\`"


class Gates(BaseModel):
    """What a challenger must fulfil against the incumbent; all of it is measured and reported."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    min_gain: float = Field(
        default=0.0,
        ge=0,
        description="Gain in the primary metric that is needed; above 0 in any case.",
    )
    confidence: float | None = Field(
        default=0.95,
        ge=0.5,
        lt=1,
        description=(
            "One-sided confidence that the gain is no chance, by a paired bootstrap over the "
            "rows. None: not asked for."
        ),
    )
    max_drops: Mapping[str, float] = Field(
        default={}, description="{metric: how far it may fall}; metrics that are named are gates."
    )
    group_by: str | None = Field(
        default=None, description="Column by whose values the worst group may not fall."
    )
    max_group_drop: float = Field(
        default=0.0, ge=0, description="How far the worst group may fall all the same."
    )
    max_latency_ms: float | None = Field(
        default=None, gt=0, description="Limit of the prediction of one row, on the target."
    )
    max_size_mb: float | None = Field(
        default=None, gt=0, description="Limit of the model's files together, in 1,000,000 bytes."
    )
    signature: bool = Field(
        default=True, description="Whether callers of the incumbent must be served unchanged."
    )
    max_data_age_days: float | None = Field(
        default=None, gt=0, description="How long ago the data may have been loaded."
    )

    @field_validator("max_drops")
    @classmethod
    def _are_not_negative(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if any(drop < 0 for drop in value.values()):
            raise ValueError("{metric: number of at least 0}")
        return value


class Promotion(BaseModel):
    """Who is to become what.

    Raises:
        ConfigurationError: From `parse`: a key is unknown or has a value that is not allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="The registered model; made if it is not there.")
    alias: str = Field(default="champion", description="The alias that moves.")
    challenger_alias: str | None = Field(
        default=None, description="Alias that the challenger gets before the decision."
    )
    copy_to: str | None = Field(
        default=None, description="Registered model that a promoted version is copied to."
    )
    gates: Gates = Gates()

    @field_validator("name", "copy_to")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or set(value) & set(_FORBIDDEN)):
            raise ValueError("a name without / : ' \" ` and \\")
        return value

    @field_validator("alias", "challenger_alias")
    @classmethod
    def _is_an_alias(cls, value: str | None) -> str | None:
        if value is not None and not value.replace("_", "").replace("-", "").isalnum():
            raise ValueError("letters, digits, - and _")
        return value

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Promotion:
        """Validate what a person wrote."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise ConfigurationError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """Turn pydantic's first complaint into a sentence."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"'promote' needs '{where}'."
    if first["type"] == "extra_forbidden":
        return f"'promote' has an unknown key '{where}'. See docs/promotion.md."
    wanted = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"The '{where}' of 'promote' must be {wanted}. Got {first['input']!r} instead."
