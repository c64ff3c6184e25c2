"""Says of a pipeline from elsewhere whether it lies in today's search space.

A portfolio may go beyond what the sampler draws, and neighbours of it too, so the space is what
both of them reach.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import Component, Params, Scalar
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.racing.portfolio import MOST_ROWS_OF_SMALL, racers
from mlflow_automl_remote.config import Task

_BRANCHES: Final = 4
"""The most choices of a search space that other parameters depend on."""
_ROUNDING: Final = 1e-9
"""The ends of a range with a logarithmic scale are not hit exactly."""


class SearchSpace:
    """The pipelines that a sweep could come upon.

    Args:
        task: The kind of problem.
        models: Names of the models that may be used.
        scalers: Names of the scalers that may be used.
    """

    def __init__(self, task: Task, models: Collection[str], scalers: Collection[str]) -> None:
        self._models = {name: MODELS[task][name] for name in models}
        self._scalers = scalers
        self._reaches: dict[str, _Reach] = {}
        self._portfolio = (
            *portfolio(task, models, is_positive=True),
            *racers(task, models, SCALERS, MOST_ROWS_OF_SMALL, is_positive=True),
            *racers(task, models, SCALERS, MOST_ROWS_OF_SMALL + 1, is_positive=True),
        )

    def why_not(self, spec: PipelineSpec) -> str:
        """Say why a pipeline is not in it, for a person; empty if it is."""
        model = self._models.get(spec.model)
        if model is None:
            return f"this sweep does not use the model '{spec.model}'"
        if spec.scaler not in model.scalers or spec.scaler not in self._scalers:
            return f"this sweep does not use the scaler '{spec.scaler}' with {spec.model}"
        for step, component in (("scaler", SCALERS[spec.scaler]), ("model", model)):
            reach = self._reaches.get(component.name) or self._reach(step, component)
            self._reaches[component.name] = reach
            params = spec.of_step(step)
            lacking = [name for name in self._needed(component, step) if name not in params]
            wrong = [name for name in params if not reach.holds(name, params[name])]
            if lacking or wrong:
                name = (wrong or lacking)[0]
                shown = repr(params[name]) if wrong else "missing"
                return f"'{name}' of {component.name} is {shown}, outside of the search space"
        return ""

    def _reach(self, step: str, component: Component) -> _Reach:
        """Give what the parameters of a component may be."""
        reach = _Reach()
        for branch in range(_BRANCHES):
            reach.branch = branch
            component.suggest(reach)
        for params in self._known(step, component):
            for name, value in params.items():
                reach.widen(name, value)
        return reach

    def _needed(self, component: Component, step: str) -> set[str]:
        """Give the parameters without which a component cannot be built: those all points have."""
        points = [set(params) for params in (component.defaults, *self._known(step, component))]
        return set.intersection(*points)

    def _known(self, step: str, component: Component) -> list[Params]:
        return [
            spec.of_step(step) for spec in self._portfolio if getattr(spec, step) == component.name
        ]


@dataclass(slots=True)
class _Reach:
    """A trial that draws nothing but notes what could be drawn."""

    branch: int = 0
    ranges: dict[str, tuple[float, float, bool]] = field(default_factory=dict)
    choices: dict[str, list[Any]] = field(default_factory=dict)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        del log
        self.ranges[name] = (low, high, False)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        del log
        self.ranges[name] = (low, high, True)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.choices[name] = [*choices, *self.choices.get(name, [])]
        return choices[self.branch % len(choices)]

    def widen(self, name: str, value: Scalar) -> None:
        """Take in a value of the portfolio."""
        if name in self.ranges and _is_number(value):
            low, high, is_whole = self.ranges[name]
            self.ranges[name] = (min(low, value), max(high, value), is_whole)
        else:
            self.choices.setdefault(name, []).append(value)

    def holds(self, name: str, value: Scalar) -> bool:
        """Whether a parameter may have a value."""
        if name in self.ranges and _is_number(value):
            low, high, is_whole = self.ranges[name]
            within = low * (1 - _ROUNDING) <= value <= high * (1 + _ROUNDING)
            return within and not (is_whole and not isinstance(value, int))
        return any(
            type(value) is type(choice) and value == choice
            for choice in self.choices.get(name, [])
        )


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
