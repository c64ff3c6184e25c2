"""What the processes of a sweep are asked for: whole iterations, steps of a race, ensembles."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_automl_remote.automl.budget import Budget
from mlflow_automl_remote.automl.components.base import Device
from mlflow_automl_remote.automl.ensemble.run import EnsembleOrder, Member, run_ensemble
from mlflow_automl_remote.automl.executor import Job
from mlflow_automl_remote.automl.iteration import (
    IterationOrder,
    LoadModel,
    SaveCharts,
    SaveModel,
    run_iteration,
    run_part,
)
from mlflow_automl_remote.automl.part import Parts
from mlflow_automl_remote.automl.proposals import Proposal, iteration_seed
from mlflow_automl_remote.automl.racing.driver import Driver, Settings
from mlflow_automl_remote.automl.racing.finish import n_models_of
from mlflow_automl_remote.automl.racing.fold import count_models
from mlflow_automl_remote.automl.racing.schedule import Step
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.config import AutoMLConfig

Part = tuple[Job, Path]
"""What is to be done for one fold, and its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Makes them.

    Attributes:
        config: The settings, with what the data adds to them.
        data_dir: Folder of the dataset.
        features_dir: Where iterations share what the steps before their models make.
        output_root: Has one folder per iteration, named by its number.
        find_output: Gives the folder of a finished iteration, if a callback moved it.
        n_threads: Of an iteration.
        device: Where boosters that can are fitted.
        save_model: Writes a model, or None.
        load_model: Reads a model in the process of an ensemble, or None.
        save_charts: Draws predictions, or None.
    """

    config: AutoMLConfig
    data_dir: Path
    features_dir: Path
    output_root: Path
    find_output: Callable[[int], Path]
    n_threads: int
    device: Device
    save_model: SaveModel | None
    load_model: LoadModel | None
    save_charts: SaveCharts | None

    def of_race(self, n_places: int) -> Settings:
        """Give what all steps of a race share."""
        return Settings(
            config=self.config,
            data_dir=self.data_dir,
            features_dir=self.features_dir,
            n_places=n_places,
            n_threads=self.n_threads,
            device=self.device,
            save_model=self.save_model,
            save_charts=self.save_charts,
        )

    def whole(
        self, proposal: Proposal, output_dir: Path, n_parts: int = 0
    ) -> tuple[Job, list[Part]]:
        """Ask for a whole iteration, and for each of its folds before it where it has parts.

        Args:
            proposal: The iteration.
            output_dir: Its folder.
            n_parts: How many folds are scored side by side; 0 for one after the other.
        """
        parts = Parts(output_dir, n_parts) if n_parts else None
        order = IterationOrder(
            spec=proposal.spec,
            config=self.config,
            data_dir=self.data_dir,
            output_dir=output_dir,
            seed=iteration_seed(self.config.seed, proposal.number),
            n_jobs=self.n_threads,
            device=self.device,
            save_model=self.save_model,
            save_charts=self.save_charts,
            features_dir=self.features_dir,
            parts=parts,
        )
        reads = (self.data_dir,)
        job = Job(function=run_iteration, argument=order, reads=reads)
        if parts is None:
            return job, []
        return job, [
            (Job(function=run_part, argument=(order, number), reads=reads), parts.of(number))
            for number in range(n_parts)
        ]

    def step(self, step: Step, output_dir: Path, driver: Driver, budget: Budget) -> Job:
        """Ask for a step of a race."""
        seed = iteration_seed(self.config.seed, step.proposal.number)
        left_s, overdue_s = budget.left_s(), budget.overdue_s()
        return driver.job(step, output_dir, seed, left_s=left_s, overdue_s=overdue_s)

    def ensemble(
        self,
        proposal: Proposal,
        output_dir: Path,
        best: Sequence[tuple[Proposal, Scored]],
        driver: Driver | None,
    ) -> Job:
        """Ask for an ensemble of some of the best iterations."""
        members = self.members(best, driver, proposal.model)
        order = EnsembleOrder(
            kind=proposal.model,
            members=members,
            config=self.config,
            data_dir=self.data_dir,
            output_dir=output_dir,
            seed=iteration_seed(self.config.seed, proposal.number),
            save_model=self.save_model,
            load_model=self.load_model,
            save_charts=self.save_charts,
            n_folds=None if driver is None else driver.n_folds_for(proposal.model),
        )
        reads = (self.data_dir, *(member.folder for member in members))
        return Job(function=run_ensemble, argument=order, reads=reads)

    def members(
        self, best: Sequence[tuple[Proposal, Scored]], driver: Driver | None, kind: str
    ) -> tuple[Member, ...]:
        """Give the iterations that an ensemble may use, those of a race first.

        Args:
            best: Finished iterations, the best first; ensembles are passed over.
            driver: Of the race, if there is one.
            kind: `VotingEnsemble` or `StackEnsemble`.
        """
        runners = [] if driver is None else driver.best(kind)
        predict_ms = {
            each.number: (scored.predict_ms_per_row or 0.0)
            / (n_models_of(self.config) or count_models(self.folder_of(each.number)))
            for each, scored in best
            if not each.is_ensemble
        }
        predict_ms |= {
            one.proposal.number: driver.predict_ms(one) for one in runners if driver is not None
        }
        in_order = [runner.proposal for runner in runners]
        in_order += [
            each
            for each, _ in best
            if not each.is_ensemble and (driver is None or not driver.has(each.number))
        ]
        return tuple(
            Member(
                number=proposal.number,
                label=proposal.label,
                folder=self.folder_of(proposal.number),
                predict_ms=predict_ms[proposal.number],
            )
            for proposal in in_order[: self.config.n_candidates]
        )

    def folder_of(self, number: int) -> Path:
        """Give the folder of an iteration, wherever it is by now."""
        own = self.output_root / str(number)
        return own if own.exists() else self.find_output(number)

    def folder_for(self, step: Step) -> Path:
        """Give the folder of an iteration that begins or goes on; a beginning finds it empty."""
        folder = self.output_root / str(step.proposal.number)
        if step.kind == "whole" or step.folds[:1] == (0,):
            return self.fresh_folder(step.proposal)
        return folder

    def fresh_folder(self, proposal: Proposal) -> Path:
        """Make the folder of an iteration; one that was left half-written goes."""
        folder = self.output_root / str(proposal.number)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder
