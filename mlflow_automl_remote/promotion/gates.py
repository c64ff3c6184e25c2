"""The gates: each looks at one thing, and says with its numbers whether a challenger passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Final

from mlflow_automl_remote.config.catalogue import lower_is_better
from mlflow_automl_remote.config.promotion import Gates
from mlflow_automl_remote.promotion.evidence import Evidence, Group
from mlflow_automl_remote.promotion.signature import Description, differences

DAY_MS: Final = 86_400_000
MEGABYTE: Final = 1_000_000
N_DIFFERENCES: Final = 5


class Verdict(StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a gate found.

    Attributes:
        gate: Its name.
        challenger: Its number, written for a person.
        incumbent: The same of the other, empty where only one is looked at.
        needed: What it takes to pass.
        why: One line, where the numbers do not speak for themselves.
    """

    gate: str
    verdict: Verdict
    challenger: str = ""
    incumbent: str = ""
    needed: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that the gates look at.

    Attributes:
        metric: The primary metric.
        evidence: What was measured; None where nothing had to be.
        challenger: What its MLmodel file says.
        incumbent: The same of the incumbent; None without one.
        incumbent_error: Why nothing of the incumbent can be known; empty otherwise.
        data_age_ms: Since its data was loaded.
    """

    metric: str
    gates: Gates
    evidence: Evidence | None
    challenger: Description
    incumbent: Description | None
    has_incumbent: bool
    incumbent_error: str = ""
    data_age_ms: int = 0

    @property
    def trouble(self) -> str:
        """Why the two cannot be compared; empty if they can."""
        if self.incumbent_error:
            return self.incumbent_error
        if self.evidence is None or self.evidence.incumbent is None:
            return "it was not measured"
        return self.evidence.challenger.error or self.evidence.incumbent.error


def judge(case: Case) -> tuple[Result, ...]:
    """Ask every gate, whatever the others say."""
    asked = [gate(case) for gate in _ALONE]
    if case.has_incumbent:
        asked = [*(gate(case) for gate in _AGAINST), *_drops(case), *asked]
    return tuple(result for result in asked if result is not None)


def _gain(case: Case) -> Result:
    """Better by at least so much, on the same rows."""
    needed = f">= {case.gates.min_gain:g}" if case.gates.min_gain else "> 0"
    if case.trouble or case.evidence is None or case.evidence.gain is None:
        return _unknown("gain", needed, case.trouble or f"{case.metric} is not defined there")
    value = case.evidence.gain.value
    ok = value > 0 and value >= case.gates.min_gain
    now, before = _pair(case.evidence, case.metric)
    return Result(
        gate="gain",
        verdict=_verdict(ok),
        challenger=_number(now),
        incumbent=_number(before),
        needed=needed,
        why=f"{case.metric} is {'better' if value > 0 else 'worse'} by {abs(value):.5g}",
    )


def _noise(case: Case) -> Result | None:
    """Too large a gain to be chance."""
    confidence = case.gates.confidence
    if confidence is None:
        return None
    z = NormalDist().inv_cdf(confidence)
    needed = f"> {z:.3g} standard errors"
    if case.trouble or case.evidence is None or case.evidence.gain is None:
        return _unknown("noise", needed, case.trouble or f"{case.metric} is not defined there")
    gain = case.evidence.gain
    low, high = (gain.value + side * z * gain.standard_error for side in (-1, 1))
    return Result(
        gate="noise",
        verdict=_verdict(low > 0),
        challenger=f"{gain.value:+.5g}",
        needed=needed,
        why=(
            f"standard error {gain.standard_error:.3g}, interval {low:+.5g} to {high:+.5g}; "
            f"{gain.n_resamples} paired resamples, seed {gain.seed}"
        ),
    )


def _drops(case: Case) -> list[Result]:
    """No other metric that was named falls by more than its tolerance."""
    return [_drop(case, metric, most) for metric, most in sorted(case.gates.max_drops.items())]


def _drop(case: Case, metric: str, most: float) -> Result:
    gate, needed = f"drop of {metric}", f"<= {most:g}"
    if case.trouble or case.evidence is None:
        return _unknown(gate, needed, case.trouble)
    now, before = _pair(case.evidence, metric)
    if now is None or before is None:
        return _unknown(gate, needed, f"{metric} is not recorded, or not defined, for these rows")
    fall = (now - before) if lower_is_better(metric) else (before - now)
    return Result(
        gate=gate,
        verdict=_verdict(fall <= most),
        challenger=_number(now),
        incumbent=_number(before),
        needed=needed,
        why=f"worse by {fall:.5g}" if fall > 0 else f"better by {-fall:.5g}",
    )


def _groups(case: Case) -> Result | None:
    """The worst group does not fall."""
    column, most = case.gates.group_by, case.gates.max_group_drop
    if column is None:
        return None
    gate, needed = f"worst group of {column}", f"falls <= {most:g}"
    if case.trouble or case.evidence is None:
        return _unknown(gate, needed, case.trouble)
    pairs = [
        (one, one.challenger, one.incumbent)
        for one in case.evidence.groups
        if one.challenger is not None and one.incumbent is not None
    ]
    if case.evidence.group_error or not pairs:
        why = case.evidence.group_error or f"{case.metric} is not defined in any group"
        return _unknown(gate, needed, why)
    worst = max if lower_is_better(case.metric) else min
    now: tuple[float, Group] = worst(((a, one) for one, a, _ in pairs), key=lambda pair: pair[0])
    before: tuple[float, Group] = worst(
        ((b, one) for one, _, b in pairs), key=lambda pair: pair[0]
    )
    fall = (now[0] - before[0]) if lower_is_better(case.metric) else (before[0] - now[0])
    return Result(
        gate=gate,
        verdict=_verdict(fall <= most),
        challenger=f"{now[0]:.5g} ({now[1].value})",
        incumbent=f"{before[0]:.5g} ({before[1].value})",
        needed=needed,
        why=f"of {len(pairs)} groups in {case.metric}",
    )


def _signature(case: Case) -> Result | None:
    """Callers of the incumbent are served unchanged."""
    if not case.gates.signature:
        return None
    needed = "callers unchanged"
    if case.incumbent is None:
        return _unknown("signature", needed, case.incumbent_error or "it is not known")
    found = differences(case.challenger, case.incumbent)
    more = f" and {len(found) - N_DIFFERENCES} more" if len(found) > N_DIFFERENCES else ""
    return Result(
        gate="signature",
        verdict=_verdict(not found),
        challenger=_width(case.challenger),
        incumbent=_width(case.incumbent),
        needed=needed,
        why="; ".join(found[:N_DIFFERENCES]) + more,
    )


def _latency(case: Case) -> Result | None:
    """One row is predicted in time."""
    limit = case.gates.max_latency_ms
    if limit is None:
        return None
    needed, measured = f"<= {limit:g} ms", case.evidence and case.evidence.challenger
    if not measured or measured.latency_ms is None:
        return _unknown("latency", needed, (measured and measured.error) or "it was not measured")
    other = case.evidence.incumbent if case.evidence else None
    before = other.latency_ms if other else None
    return Result(
        gate="latency",
        verdict=_verdict(measured.latency_ms <= limit),
        challenger=f"{measured.latency_ms:.3g} ms",
        incumbent="" if before is None else f"{before:.3g} ms",
        needed=needed,
        why="median of one row on the target",
    )


def _size(case: Case) -> Result | None:
    """The model's files are small enough."""
    limit = case.gates.max_size_mb
    if limit is None:
        return None
    needed = f"<= {limit:g} MB"
    if case.challenger.size_bytes is None:
        return _unknown("size", needed, "the size of the model is not known")
    before = case.incumbent.size_bytes if case.incumbent else None
    return Result(
        gate="size",
        verdict=_verdict(case.challenger.size_bytes <= limit * MEGABYTE),
        challenger=f"{case.challenger.size_bytes / MEGABYTE:.3g} MB",
        incumbent="" if before is None else f"{before / MEGABYTE:.3g} MB",
        needed=needed,
    )


def _age(case: Case) -> Result | None:
    """The data is recent enough."""
    limit = case.gates.max_data_age_days
    if limit is None:
        return None
    return Result(
        gate="data age",
        verdict=_verdict(case.data_age_ms <= limit * DAY_MS),
        challenger=f"{case.data_age_ms / DAY_MS:.3g} days",
        needed=f"<= {limit:g} days",
        why="since the sweep loaded it",
    )


_AGAINST: Final[tuple[Callable[[Case], Result | None], ...]] = (
    _gain,
    _noise,
    _groups,
    _signature,
)
_ALONE: Final[tuple[Callable[[Case], Result | None], ...]] = (_latency, _size, _age)


def _unknown(gate: str, needed: str, why: str) -> Result:
    """What could not be found out has not passed."""
    return Result(gate=gate, verdict=Verdict.FAILED, needed=needed, why=why)


def _verdict(passed: bool) -> Verdict:
    return Verdict.PASSED if passed else Verdict.FAILED


def _pair(evidence: Evidence, metric: str) -> tuple[float | None, float | None]:
    other = evidence.incumbent
    return evidence.challenger.metrics.get(metric), other.metrics.get(metric) if other else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _width(model: Description) -> str:
    return "" if model.inputs is None else f"{len(model.inputs)} inputs"
