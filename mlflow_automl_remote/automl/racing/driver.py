"""Runs the race of a sweep: makes orders of its steps, and takes in how they ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote import choosing
from mlflow_automl_remote.automl.components.base import Device
from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Indices
from mlflow_automl_remote.automl.ensemble.blends import MOST_CELLS_OF_NUMBERS
from mlflow_automl_remote.automl.ensemble.scoring import Scorer
from mlflow_automl_remote.automl.ensemble.selection import select
from mlflow_automl_remote.automl.evaluation import to_score
from mlflow_automl_remote.automl.executor import Job
from mlflow_automl_remote.automl.iteration import SaveCharts, SaveModel
from mlflow_automl_remote.automl.metrics import standard_error
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.racing.finish import FinishOrder, run_finish
from mlflow_automl_remote.automl.racing.fold import (
    FOLDS_NAME,
    FoldsOrder,
    FoldsResult,
    load_predictions,
    run_folds,
)
from mlflow_automl_remote.automl.racing.schedule import Race, Runner, Stages, Step
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.config import AutoMLConfig

SLICE: Final = 0.06
"""Of the time of all places together, what the fit of one fold may take."""
SHORTEST_SLICE_S: Final = 0.5
GRACE_S: Final = 1.0
"""What a step may take beyond its slice, before it is killed: models that nothing can hurry."""
TOO_LONG: Final = (
    "Killed because it took far more than its slice of the time of the race; models that nothing "
    "can hurry get as much as they need with enable_racing set to false."
)
FEW_CELLS: Final = 100_000
"""Of so small a table the first pipelines are fitted on all folds at once: it is done soon."""
CLOSING_S: Final = 1.4
CLOSING_OF_STACK_S: Final = 3.2
CLOSING_OF_FOREST_S: Final = 1.5
"""Beside a vote, to learn and to score a stack of numbers from as many rows as it uses at most."""
SHARE_TO_SPARE: Final = 0.01
MOST_TO_SPARE_S: Final = 10.0
"""Of a long sweep, for a machine that is slower at the end: a stack that comes late is lost."""
CLOSING_OF_MODELS: Final = 2.0
CLOSING_OF_MODELS_OF_STACK: Final = 1.0
MOST_TO_CHOOSE_BY: Final = 4_500
ROUNDS_TO_CHOOSE: Final = 12
ENOUGH_TO_RACE: Final = 1_000
"""Pipelines race on so many folds that these rows score them: fewer say nothing. Of two classes
only as many rows count of the one as there are of the other."""
ENOUGH_TO_LOOK: Final = 250
"""Of so many rows a pipeline is known to be far behind."""
MOST_OF_VOTE: Final = 0.8
"""Of the weight of the race's last vote, what members of an ensemble have at least."""
ENOUGH_ROWS: Final = 5_000
"""An ensemble that was chosen by so many rows gains little by more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all steps of a race share.

    Attributes:
        config: The settings of the sweep.
        data_dir: Folder of the dataset.
        features_dir: Where iterations share what the steps before their models make.
        n_places: Iterations at a time.
        n_threads: Threads of each of them.
        device: Where boosters that can are fitted.
        save_model: Writes a model, or None.
        save_charts: Draws predictions, or None.
    """

    config: AutoMLConfig
    data_dir: Path
    features_dir: Path
    n_places: int
    n_threads: int
    device: Device
    save_model: SaveModel | None
    save_charts: SaveCharts | None


class Driver:
    """The race of one sweep.

    Args:
        settings: What all steps share.
        dataset: The data.
        splits: Its folds.
        total_s: Seconds of the search.
    """

    def __init__(
        self, settings: Settings, dataset: Dataset, splits: Splits, *, total_s: float
    ) -> None:
        self._settings = settings
        self._total_s = total_s
        self._n_folds = splits.n_folds
        self._n_scored = [len(rows) for _, rows in splits.folds]
        self._slice_s = max(SHORTEST_SLICE_S, SLICE * total_s * settings.n_places)
        self._n_telling = [_n_telling(dataset, splits, rows) for _, rows in splits.folds]
        self._n_first = min(self._n_folds, 1 + _first(self._n_telling, ENOUGH_TO_RACE))
        first = np.concatenate([rows for _, rows in splits.folds[: self._n_first]])
        _, y, weight = to_score(dataset, splits, first)
        self._rng = rng = np.random.default_rng(settings.config.seed)
        n_rows = min(len(y), MOST_TO_CHOOSE_BY)
        self._chosen_rows = np.sort(rng.choice(len(y), n_rows, replace=False))
        self._y = y[self._chosen_rows]
        self._weight = None if weight is None else weight[self._chosen_rows]
        self._scorer = Scorer(settings.config, dataset)
        few = dataset.n_rows * dataset.n_features <= FEW_CELLS
        self.race = Race(
            Stages(
                n_folds=splits.n_folds,
                n_first=self._n_first,
                n_look=1 + _first(self._n_telling, ENOUGH_TO_LOOK),
            ),
            choose=self._choose,
            greater_is_better=settings.config.greater_is_better,
            n_whole=settings.n_places if few else 0,
            favour=self._favoured,
        )

    def job(
        self, step: Step, output_dir: Path, seed: int, *, left_s: float, overdue_s: float
    ) -> Job:
        """Say what a process does for a step that begins now.

        Args:
            step: What it is.
            output_dir: Of the iteration.
            seed: Of the iteration.
            left_s: Seconds left for fits.
            overdue_s: Seconds since all should have ended, negative before.
        """
        each, runner = self._settings, self.race.runner(step.proposal.number)
        if step.kind == "finish":
            finish = FinishOrder(
                label=step.proposal.label,
                config=each.config,
                data_dir=each.data_dir,
                output_dir=output_dir,
                n_folds=runner.n_done,
                fit_s=runner.fit_s,
                predict_s=runner.predict_s,
                save_model=each.save_model,
                save_charts=each.save_charts,
            )
            return Job(
                function=run_finish,
                argument=finish,
                reads=(each.data_dir, output_dir / FOLDS_NAME),
                limit_s=max(0.0, -overdue_s) + GRACE_S,
            )
        left_s = max(left_s, 0.0)
        fit_s = min(self._slice_s, left_s)
        folds = FoldsOrder(
            spec=step.proposal.spec,
            config=each.config,
            data_dir=each.data_dir,
            features_dir=each.features_dir,
            output_dir=output_dir,
            seed=seed,
            folds=step.folds,
            n_jobs=each.n_threads,
            device=each.device,
            fit_s=fit_s,
            left_s=left_s,
            settled=runner.settled,
        )
        kill_s = min(2 * fit_s * len(step.folds) + GRACE_S, left_s + GRACE_S / 2)
        return Job(function=run_folds, argument=folds, reads=(each.data_dir,), limit_s=kill_s)

    def predict_ms(self, runner: Runner) -> float:
        """Estimate the milliseconds a row that one model of an iteration takes to predict.

        Of what the folds have shown, where features were made before. What the whole takes is
        measured when it is made.
        """
        return 1000 * runner.predict_s / max(1, sum(self._n_scored[: runner.n_done]))

    def took(self, step: Step, result: FoldsResult, output_dir: Path) -> None:
        """Take in what came of some folds."""
        predicted, runner = None, self.race.runner(step.proposal.number)
        if runner.predicted is None and runner.n_done + len(step.folds) >= self._n_first:
            first = [load_predictions(output_dir, at) for at in range(self._n_first)]
            predicted = np.concatenate(first)[self._chosen_rows]
        self.race.took(step, result, predicted)

    def has(self, number: int) -> bool:
        """Whether an iteration is in the race."""
        return self.race.has(number)

    def why_not_best(self, number: int, *, is_over: bool) -> str:
        """Say why an iteration cannot be the best, for a person; empty if it can.

        Args:
            number: Of the iteration.
            is_over: Whether none gets more folds. If then none has all, it does not matter.
        """
        runner = self.race.runner(number)
        if runner.n_done < self._n_folds and not (
            is_over and self.race.most_folds < self._n_folds
        ):
            done = f"{runner.n_done} of {self._n_folds} folds"
            return f"Scored on {done}: others were worth the time more."
        return ""

    def best(self, kind: str) -> list[Runner]:
        """Give the iterations that an ensemble may use: the best of each model come first."""
        n_folds = self.n_folds_for(kind)
        sign = 1.0 if self._settings.config.greater_is_better else -1.0
        known = [one for one in self.race.runners() if one.n_done >= n_folds]
        means = {one.proposal.number: sign * float(np.mean(one.scores[:n_folds])) for one in known}
        known.sort(key=lambda one: (-means[one.proposal.number], one.proposal.number))
        liked = {proposal.number for proposal, _ in self.race.liked()}
        seen: set[str] = set()
        first: list[Runner] = []
        rest: list[Runner] = []
        for one in known:
            is_first = one.proposal.number in liked or one.proposal.model not in seen
            seen.add(one.proposal.model)
            (first if is_first else rest).append(one)
        return first + rest

    def n_folds_for(self, kind: str) -> int:
        """Give how many folds an ensemble looks at; what lacks one of them is not in it.

        A vote needs no more than enough rows, and most of what the race likes. A stack of numbers
        learns more than weights, and a single pipeline stands in for it where it did not look.

        Args:
            kind: `VotingEnsemble` or `StackEnsemble`.
        """
        done = [one.n_done for one in self.race.runners()]
        share, wanted = MOST_OF_VOTE, 1 + _first(self._n_telling, ENOUGH_ROWS)
        if self._stacks_numbers(kind):
            share, wanted = 0.0, self._n_folds
        wanted = min(self._n_folds, wanted)
        while wanted > 1 and (
            sum(n >= wanted for n in done) < 2 or self.race.liked_share(wanted) < share
        ):
            wanted -= 1
        return wanted

    def closing_s(self, kinds: Collection[str]) -> float:
        """Give the seconds that ensembles will take to be learnt and saved, side by side.

        Models are read, which takes about half as long as to write them, and written: of a vote
        those that the race likes, of a stack those of all members, or of numbers as of a vote.
        """
        vote_s = CLOSING_S + CLOSING_OF_MODELS * self.race.keep_s()
        if "StackEnsemble" not in kinds:
            return vote_s
        spare_s = min(SHARE_TO_SPARE * self._total_s, MOST_TO_SPARE_S)
        if self._stacks_numbers("StackEnsemble"):
            n_cells = sum(self._n_scored) * len(self.race.liked())
            forest_s = CLOSING_OF_FOREST_S * min(1.0, n_cells / MOST_CELLS_OF_NUMBERS)
            return vote_s + forest_s + spare_s
        members = self.best("StackEnsemble")[: self._settings.config.n_candidates]
        keep_s = sum(runner.keep_s for runner in members)
        stack_s = CLOSING_OF_STACK_S + CLOSING_OF_MODELS_OF_STACK * keep_s
        return max(vote_s, stack_s + spare_s)

    def _stacks_numbers(self, kind: str) -> bool:
        return kind == "StackEnsemble" and self._settings.config.task == "regression"

    def near(self, left_s: float) -> PipelineSpec | None:
        """Draw one of the pipelines that the vote uses, by their weights.

        Args:
            left_s: Seconds; what is known to take longer is left out, if anything remains.
        """
        liked = self.race.liked()
        quick = [one for one in liked if self.race.fits(one[0].model, left_s)]
        liked = quick or liked
        if not liked:
            return None
        weights = np.array([weight for _, weight in liked])
        at = self._rng.choice(len(liked), p=weights / weights.sum())
        return liked[int(at)][0].spec

    def _favoured(self, raced: Sequence[Runner]) -> tuple[int, ...]:
        """Give those that may be the best for latency by what their first folds have shown."""
        config = self._settings.config
        if config.optimize_for != "latency":
            return ()
        scored = [
            Scored(
                number=one.proposal.number,
                score=float(np.mean(one.scores[: self._n_first])),
                standard_error=standard_error(one.scores) if one.n_done == self._n_folds else None,
                predict_ms_per_row=self.predict_ms(one),
            )
            for one in raced
        ]
        greater = config.greater_is_better
        best = choosing.best(scored, greater_is_better=greater, optimize_for="latency")
        front = choosing.front(scored, greater_is_better=greater)
        return tuple(one.number for one in front if best is not None and one.ms >= best.ms)

    def _choose(self, predicted: Sequence[FloatArray]) -> FloatArray:
        values = np.stack(list(predicted)).astype(np.float64)
        known = self._scorer(self._y, values, self._weight)
        return select(*known, n_best=min(2, len(values)), max_rounds=ROUNDS_TO_CHOOSE)


def _n_telling(dataset: Dataset, splits: Splits, rows: Indices) -> int:
    """Give how many rows tell pipelines apart: of two classes, twice those of the rarer one."""
    if dataset.task == "regression" or len(dataset.classes) != 2:
        return len(rows)
    _, y, _ = to_score(dataset, splits, rows)
    n_first = int((y == dataset.classes[0]).sum())
    return 2 * min(n_first, len(y) - n_first)


def _first(sizes: Sequence[int], wanted: int) -> int:
    """Give the position at which the running sum of sizes reaches a number."""
    return int(np.searchsorted(np.cumsum(sizes), wanted))
