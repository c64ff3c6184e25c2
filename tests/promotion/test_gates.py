"""Each gate by its numbers, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_automl_remote.cli import main
from mlflow_automl_remote.config.promotion import Gates, Promotion
from mlflow_automl_remote.errors import ConfigurationError, ConnectionLost, DataError
from mlflow_automl_remote.promotion.evidence import Evidence, Gain, Group, Measured, read_evidence
from mlflow_automl_remote.promotion.gates import Case, Result, judge
from mlflow_automl_remote.promotion.signature import Columns, Description, differences


def evidence(by: float = 0.1, error: float = 0.01, **changes: Any) -> Evidence:
    told: dict[str, Any] = {
        "rows": "out-of-fold",
        "n_rows": 100,
        "n_folds": 3,
        "challenger": Measured(metrics={"log_loss": 0.3, "none": None}),
        "incumbent": Measured(metrics={"log_loss": 0.3 + by, "none": 0.1}),
        "gain": Gain(value=by, standard_error=error, n_resamples=500, seed=7),
    }
    return Evidence(**(told | changes))


def results(found: Evidence | None, metric: str = "log_loss", **gates: Any) -> dict[str, Result]:
    case = Case(
        metric=metric,
        gates=Gates(**({"signature": False} | gates)),
        evidence=found,
        challenger=Description(inputs=None, outputs=None, size_bytes=2_000_000),
        incumbent=None,
        has_incumbent=True,
        data_age_ms=3 * 86_400_000,
    )
    return {one.gate: one for one in judge(case)}


def test_a_gain_counts_in_the_direction_of_its_metric() -> None:
    found = results(evidence(0.1), max_drops={"log_loss": 0})
    assert {one.verdict for one in found.values()} == {"passed"}
    assert found["drop of log_loss"].why == "better by 0.1"
    worse = results(evidence(-0.1), max_drops={"log_loss": 0.05, "none": 1})
    assert {one.verdict for one in worse.values()} == {"failed"}
    assert worse["drop of log_loss"].why == "worse by 0.1"
    assert "not defined" in worse["drop of none"].why


@pytest.mark.parametrize(
    ("gain", "confidence", "verdict"),
    [
        (0.016, 0.95, "failed"),  # 1.6 standard errors
        (0.017, 0.95, "passed"),
        (0.017, 0.99, "failed"),
        (0.0, 0.5, "failed"),
    ],
)
def test_noise_is_told_from_a_gain_by_its_standard_error(
    gain: float, confidence: float, verdict: str
) -> None:
    result = results(evidence(gain, 0.01), confidence=confidence)["noise"]
    assert result.verdict == verdict
    assert "500 paired resamples, seed 7" in result.why


def test_the_worst_group_may_not_fall() -> None:
    """Which group is the worst may change; what counts is how the worst one fares."""
    groups = (
        Group(value="Rome", n_rows=40, challenger=0.9, incumbent=0.7),
        Group(value="Oslo", n_rows=40, challenger=0.75, incumbent=0.8),
        Group(value="Bern", n_rows=40, challenger=None, incumbent=0.1),
    )
    found = evidence(groups=groups)
    result = results(found, metric="AUC_weighted", group_by="town")["worst group of town"]
    assert (result.verdict, result.challenger, result.incumbent) == (
        *("passed", "0.75 (Oslo)", "0.7 (Rome)"),
    )
    result = results(found, group_by="town")["worst group of town"]  # log_loss: less is better
    assert (result.verdict, result.challenger) == ("failed", "0.9 (Rome)")
    nothing = results(evidence(group_error="no column 'town'"), group_by="town")
    assert nothing["worst group of town"].why == "no column 'town'"


def test_what_could_not_be_measured_has_not_passed() -> None:
    """And every gate says so, beside those that could be asked."""
    broken = evidence(incumbent=Measured(error="the incumbent cannot be loaded"), gain=None)
    limits = {"max_drops": {"accuracy": 0.1}, "max_size_mb": 3, "max_data_age_days": 4}
    for found in (broken, None):
        told = results(found, **limits, max_latency_ms=5)
        assert [gate for gate, one in told.items() if one.verdict == "passed"] == [
            "size",
            "data age",
        ]
    assert "cannot be loaded" in results(broken)["gain"].why


def columns(**types: str) -> Columns:
    return [{"name": name, "type": kind, "required": True} for name, kind in types.items()]


def described(inputs: Columns | None, output: str = "long") -> Description:
    return Description(inputs=inputs, outputs=[{"type": output}], size_bytes=None)


@pytest.mark.parametrize(
    ("now", "before", "found"),
    [
        (columns(a="long", b="double"), columns(b="double", a="long"), []),
        (columns(a="double"), columns(a="integer"), []),
        (columns(a="double"), columns(a="long"), ["column 'a' is double, it was long"]),
        (columns(a="long", b="string"), columns(a="long"), ["column 'b' is new"]),
        ([*columns(a="long"), {"name": "b", "type": "long", "required": False}],
         columns(a="long"), []),
        (columns(a="long"), [{"name": "a", "type": "long", "required": False}],
         ["column 'a' is required, it was optional"]),
        (columns(a="long"), None, ["the incumbent has no signature"]),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}],
         [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 5]}}],
         ["the input is float64 of shape (-1, 4), it was float64 of shape (-1, 5)"]),
    ],
)  # fmt: skip
def test_callers_of_the_incumbent_must_be_served_unchanged(
    now: Columns, before: Columns | None, found: list[str]
) -> None:
    assert differences(described(now), described(before)) == found


def test_another_kind_of_output_is_noticed() -> None:
    found = differences(described(columns(a="long"), "string"), described(columns(a="long")))
    assert found == ["the output is string, it was long"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alias": "champion"}, "'promote' needs 'name'."),
        ({"name": "a/b"}, "The 'name' of 'promote' must be a name without / :"),
        ({"name": "a", "alias": "the best"}, "letters, digits, - and _"),
        ({"name": "a", "gates": {"min_gian": 1}}, "unknown key 'gates.min_gian'"),
        ({"name": "a", "gates": {"max_drops": {"accuracy": -1}}}, "number of at least 0"),
    ],
)
def test_a_wrong_promotion_is_said_in_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match="promote") as caught:
        Promotion.parse(given)
    assert message in str(caught.value)


def test_an_answer_that_is_no_evidence_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be compared on vm: no rows"):
        read_evidence(b'{"error": "no rows"}', "vm")
    for answer in (b"", b"[]", b'{"evidence": {"rows": "test"}}', b"{}"):
        with pytest.raises(ConnectionLost, match="something else than a comparison"):
            read_evidence(answer, "vm")


def test_a_tolerance_on_the_command_line_needs_a_metric_and_a_number() -> None:
    words = ["promote", "run", "--name", "churn", "--max-drop", "accuracy"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "METRIC=TOLERANCE" in done.output
