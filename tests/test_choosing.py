"""What is best, and the front of score and time to predict: pure rules, over any iterations."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_automl_remote import choosing
from mlflow_automl_remote.choosing import Scored

few = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 0.9])  # so that some are equal
errors = st.none() | st.sampled_from([0.0, 0.01, 0.2, float("nan")])
several = st.lists(
    st.tuples(
        few | st.floats(-1e6, 1e6),
        errors,
        st.none() | few.map(lambda x: x + 0.1) | st.floats(1e-9),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        Scored(number=n, score=score, standard_error=error, predict_ms_per_row=ms)
        for n, (score, error, ms) in enumerate(rows)
    ]
)


def _beats(one: Scored, other: Scored, greater: bool) -> bool:
    sign = 1 if greater else -1
    as_good = sign * one.score >= sign * other.score and one.ms <= other.ms
    return as_good and (one.score != other.score or one.ms != other.ms)


@given(several, st.booleans())
def test_no_point_of_the_front_is_beaten_and_every_other_is(
    every: list[Scored], greater: bool
) -> None:
    front = choosing.front(every, greater_is_better=greater)
    for one in every:
        assert (one in front) is not any(_beats(other, one, greater) for other in every)
    assert [one.ms for one in front] == sorted(one.ms for one in front)


@given(several, several, st.booleans(), st.randoms())
def test_the_front_grows_with_the_iterations_whatever_their_order(
    first: list[Scored], more: list[Scored], greater: bool, random: object
) -> None:
    """That of a front and what has come since is that of all."""
    more = [replace(one, number=one.number + 100) for one in more]
    every = [*first, *more]
    random.shuffle(every)  # type: ignore[attr-defined] # of hypothesis
    grown = choosing.front(
        choosing.front(first, greater_is_better=greater), greater_is_better=greater
    )
    grown = choosing.front([*grown, *more], greater_is_better=greater)
    assert choosing.front(every, greater_is_better=greater) == grown


@given(several, st.booleans())
def test_the_best_for_latency_is_the_fastest_that_is_good_enough(
    every: list[Scored], greater: bool
) -> None:
    """It is on the front; and the same is found among the front alone."""
    sign = 1 if greater else -1
    found = choosing.best(every, greater_is_better=greater, optimize_for="latency")
    least = choosing.least(every, greater_is_better=greater)
    assert found is not None
    assert sign * found.score >= sign * least
    assert not any(one.ms < found.ms for one in every if sign * one.score >= sign * least)
    front = choosing.front(every, greater_is_better=greater)
    assert found in front
    assert found == choosing.best(front, greater_is_better=greater, optimize_for="latency")


@given(several, st.booleans())
def test_the_best_for_accuracy_has_the_best_score_whatever_it_takes(
    every: list[Scored], greater: bool
) -> None:
    """Of equal ones the first."""
    found = choosing.best(every, greater_is_better=greater)
    scores = [one.score for one in every]
    assert found is not None
    assert found.number == scores.index((max if greater else min)(scores))
    assert choosing.best([], greater_is_better=greater) is None


@given(several, st.booleans(), st.data())
def test_an_ensemble_that_is_good_enough_is_preferred(
    every: list[Scored], greater: bool, data: st.DataObject
) -> None:
    """Of several the best one; one that is not good enough changes nothing."""
    sign = 1 if greater else -1
    kinds = data.draw(st.lists(st.booleans(), min_size=len(every), max_size=len(every)))
    every = [replace(one, is_ensemble=kind) for one, kind in zip(every, kinds, strict=True)]
    found = choosing.best(every, greater_is_better=greater)
    least = choosing.least(every, greater_is_better=greater)
    good = [one for one in every if one.is_ensemble and sign * one.score >= sign * least]
    scores = [one.score for one in good or every]
    assert found in (good or every)
    assert found is not None
    assert found.score == (max if greater else min)(scores)


@pytest.mark.parametrize(
    ("greater", "best", "error", "just_enough", "too_little"),
    [
        (True, 0.90, 0.02, 0.8801, 0.8799),  # one standard error
        (True, 0.90, None, 0.8991, 0.8989),  # one fold: a hundredth of a loss of 0.1
        (False, 2.0, 0.1, 2.0999, 2.1001),
        (False, 2.0, None, 2.0199, 2.0201),
        (True, -2.0, None, -2.0199, -2.0201),  # neg_root_mean_squared_error and its like
    ],
)
def test_the_tolerance_is_a_standard_error_or_a_hundredth_of_the_loss(
    greater: bool, best: float, error: float | None, just_enough: float, too_little: float
) -> None:
    every = [
        Scored(number=0, score=best, standard_error=error, predict_ms_per_row=1.0),
        Scored(number=1, score=just_enough, standard_error=error, predict_ms_per_row=0.5),
        Scored(number=2, score=too_little, standard_error=error, predict_ms_per_row=0.1),
    ]
    found = choosing.best(every, greater_is_better=greater, optimize_for="latency")
    assert found is every[1]


def test_a_model_whose_speed_is_not_known_is_chosen_for_its_score_only() -> None:
    """As of sweeps from before it was measured."""
    every = [Scored(number=n, score=0.5 + n / 10, standard_error=1.0) for n in range(3)]
    assert choosing.best(every, greater_is_better=True, optimize_for="latency") is every[2]
    known = replace(every[0], predict_ms_per_row=5.0)
    assert choosing.best([*every, known], greater_is_better=True, optimize_for="latency") is known
