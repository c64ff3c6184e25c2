"""Which models of a sweep are explained and when, one after the other; failures are events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from mlflow_automl_remote.agent.explanation import (
    EXPLANATION_TIMEOUT_S,
    ComparisonRequest,
    ExplanationRequest,
    ExplanationResult,
    compare_explanations,
    explain_model,
)
from mlflow_automl_remote.agent.recorder import Recorder
from mlflow_automl_remote.automl.executor import Call, Finished
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.journal.events import (
    ExplanationFinding,
    ExplanationFinished,
    ExplanationsCompared,
    ExplanationStarted,
)

N_COMPARED: Final = 8


Step = Callable[[Call], Finished]
"""Runs something in a process of its own, and waits for it."""


class Explaining:
    """Explains models of one sweep.

    Args:
        workspace: The sweep's folder.
        config: The settings.
        recorder: Where everything is recorded.
        step: Runs one thing in a process.
        n_jobs: Threads that ask a model at a time; nothing else runs by then.
    """

    def __init__(
        self,
        workspace: Path,
        config: AutoMLConfig,
        recorder: Recorder,
        step: Step,
        *,
        n_jobs: int,
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._recorder = recorder
        self._step = step
        self._n_jobs = n_jobs

    def at_the_end(self) -> list[int]:
        """Give the iterations that the settings want explained and that are not, best first."""
        state = self._recorder.state
        wanted = self._config.model_explainability
        with_model = [one.number for one in state.ranked if one.model_path is not None]
        numbers = with_model if wanted == "all" else with_model[:1] if wanted else []
        return [number for number in numbers if number not in state.explanations]

    def explain(self, numbers: Iterable[int], stopped: Callable[[], bool]) -> None:
        """Explain models, then write what tells them apart.

        Args:
            numbers: Of the iterations; those without a model are passed over.
            stopped: Whether to stop before the next.
        """
        n_done = 0
        for number in dict.fromkeys(numbers):
            if not stopped():
                n_done += self._explain_one(number)
        explained = [
            one.number
            for one in self._recorder.state.ranked
            if one.number in self._recorder.state.explanations
            and not self._recorder.state.explanations[one.number].reason
        ][:N_COMPARED]
        if n_done and len(explained) > 1 and not stopped():
            self._compare(explained)

    def _explain_one(self, number: int) -> int:
        one = self._recorder.state.iterations.get(number)
        if one is None or one.model_path is None:
            return 0
        self._recorder.record(ExplanationStarted(iteration=number))
        request = ExplanationRequest(
            model_path=self._workspace / "artifacts" / one.model_path,
            data_dir=self._workspace / "data",
            output_dir=self._workspace / "work" / "explanation",
            seed=self._config.seed,
            n_jobs=self._n_jobs,
        )
        begin = time.monotonic()
        call = Call(
            explain_model,
            request,
            output_dir=request.output_dir,
            reads=(request.model_path, request.data_dir),
            timeout_s=EXPLANATION_TIMEOUT_S,
        )
        finished = self._step(call)
        duration_s = time.monotonic() - begin
        log = request.output_dir / "iteration.log"
        if log.exists():
            log.rename(log.with_name("explanation.log"))
        self._recorder.record(self._outcome(number, finished, duration_s, request.output_dir))
        return 1

    def _outcome(
        self, number: int, finished: Finished, duration_s: float, folder: Path
    ) -> ExplanationFinished:
        files = self._recorder.keep(folder, f"explanations/{number:03d}")
        result = finished.value
        if not isinstance(result, ExplanationResult):
            return ExplanationFinished(
                iteration=number, duration_s=duration_s, reason=finished.reason, files=files
            )
        return ExplanationFinished(
            iteration=number,
            duration_s=duration_s,
            reason=finished.reason,
            explainer=result.explainer,
            output_space=result.output_space,
            n_rows=result.n_rows,
            n_requested=result.n_requested,
            standard_error=result.standard_error,
            findings=tuple(
                ExplanationFinding(feature=one.feature, share=one.share, effect=one.effect)
                for one in result.findings
            ),
            stability=result.stability,
            files=files,
        )

    def _compare(self, numbers: list[int]) -> None:
        state = self._recorder.state
        request = ComparisonRequest(
            folders=tuple(self._workspace / f"artifacts/explanations/{n:03d}" for n in numbers),
            labels=tuple(f"{n}: {state.iterations[n].pipeline}" for n in numbers),
            output_dir=self._workspace / "work" / "comparison",
        )
        call = Call(
            compare_explanations,
            request,
            output_dir=request.output_dir,
            reads=request.folders,
            timeout_s=EXPLANATION_TIMEOUT_S,
        )
        finished = self._step(call)
        files = self._recorder.keep(request.output_dir, "explanations/comparison")
        self._recorder.record(
            ExplanationsCompared(iterations=tuple(numbers), reason=finished.reason, files=files)
        )
