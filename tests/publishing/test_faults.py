"""Whatever fails and whenever: one run per iteration, and the same histories."""

from __future__ import annotations

import http.client
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.store.tracking.dbmodels.models import SqlInput
from sqlalchemy import event
from sqlalchemy.orm import Session

from mlflow_automl_remote.errors import PublishFailed
from mlflow_automl_remote.states import IterationState

from .conftest import Store, SyntheticSweep
from .test_interruptions import FaultyClient, Killed, kill, lose_the_answer

MAX_ITERATIONS = 4


class PublishingUnderFaults(RuleBasedStateMachine):
    """A sweep that goes on while its publisher is killed, loses answers, and starts again."""

    empty_database: ClassVar[Path]
    model: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        database = self.folder / "mlflow.db"
        shutil.copyfile(self.empty_database, database)
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        artifacts = self.folder / "artifacts"
        experiment_id = client.create_experiment("sweeps", artifact_location=str(artifacts))
        self.store = Store(client, client.tracking_uri, experiment_id, database, artifacts)
        self.sweep = SyntheticSweep(root=self.folder / "target", model=self.model).start()
        self.parent = self.store.new_parent()
        self.running: list[int] = []
        self.n_begun = 0
        self.deleted: set[str] = set()
        self.is_over = False
        self.publisher = self.sweep.publisher(client, self.parent)

    @precondition(lambda self: not self.is_over and self.n_begun < MAX_ITERATIONS)
    @rule()
    def an_iteration_begins(self) -> None:
        self.sweep.begin(self.n_begun)
        self.running.append(self.n_begun)
        self.n_begun += 1

    @precondition(lambda self: not self.is_over and self.running)
    @rule(failed=st.booleans())
    def an_iteration_ends(self, failed: bool) -> None:
        state = IterationState.FAILED if failed else IterationState.COMPLETED
        self.sweep.end(self.running.pop(0), state)

    @precondition(lambda self: not self.is_over and self.n_begun)
    @rule()
    def the_sweep_ends(self) -> None:
        self.sweep.finish()
        self.is_over = True

    @rule()
    def it_is_published(self) -> None:
        self.publisher.publish(self.sweep.state)

    @rule(at=st.integers(0, 40), after=st.booleans(), lost=st.booleans())
    def publishing_fails(self, at: int, after: bool, lost: bool) -> None:
        """Killed at a call, or told nothing of it; a new process or the same one goes on."""
        fail = lose_the_answer if lost else kill
        client = FaultyClient(self.store.client, at, after=after, fail=fail)
        publisher = self.sweep.publisher(client, self.parent)
        with suppress(Killed, PublishFailed):
            publisher.publish(self.sweep.state)
        self.publisher = (
            publisher if lost else self.sweep.publisher(self.store.client, self.parent)
        )

    @precondition(lambda self: not self.deleted)
    @rule()
    def a_person_deletes_a_run(self) -> None:
        found = self.runs(ViewType.ACTIVE_ONLY)
        if found:
            self.store.client.delete_run(found[0].info.run_id)
            self.deleted.add(found[0].data.tags["automl_remote.key"])

    def runs(self, view: int = ViewType.ALL) -> list[Any]:
        return list(
            self.store.client.search_runs(
                [self.store.experiment_id],
                f"tags.`mlflow.parentRunId` = '{self.parent}'",
                run_view_type=view,
            )
        )

    def teardown(self) -> None:
        if not hasattr(self, "sweep"):
            return
        try:
            seen = []
            for _ in range(3):
                with self.sweep.publisher(self.store.client, self.parent) as publisher:
                    publisher.publish(self.sweep.state)
                seen.append(self.everything())
            assert seen[0] == seen[1] == seen[2]
            keys = sorted(key for key, *_ in seen[0])
            expected = {f"sweep-1/{number}" for number in range(self.n_begun)} - self.deleted
            assert keys == sorted(expected)
        finally:
            shutil.rmtree(self.folder)

    def everything(self) -> list[Any]:
        client = self.store.client
        return [
            (
                run.data.tags["automl_remote.key"],
                run.info.run_id,
                run.info.status,
                run.data.params,
                {
                    name: [
                        (point.step, point.timestamp, point.value)
                        for point in client.get_metric_history(run.info.run_id, name)
                    ]
                    for name in ("accuracy", "accuracy_fold", "fit_time_s")
                },
                [one.model_id for one in run.outputs.model_outputs],
            )
            for run in sorted(
                self.runs(ViewType.ACTIVE_ONLY), key=lambda run: str(run.info.run_id)
            )
        ]


def test_any_order_of_events_and_faults_leaves_one_run_per_iteration(
    empty_database: Path, model_folder: Path
) -> None:
    """And publishing again, three times, changes nothing at all."""
    PublishingUnderFaults.empty_database = empty_database
    PublishingUnderFaults.model = model_folder
    run_state_machine_as_test(
        PublishingUnderFaults,
        settings=settings(
            max_examples=8,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_two_clients_that_write_the_same_at_the_same_moment_leave_it_there_once(
    new_store: Any, new_sweep: Any
) -> None:
    """One takes over while the other is amid a call: what the database refuses, it has."""
    store = new_store()
    parent = store.new_parent()
    sweep = new_sweep().filled(3)
    other = sweep.publisher(store.client, parent)
    overtaken: list[str] = []

    def overtake(session: Session, *_: object) -> None:
        inputs = [one for one in session.new if isinstance(one, SqlInput)]
        if inputs and not overtaken:
            overtaken.append(str(inputs[0].destination_id))
            other.publish(sweep.state)

    event.listen(Session, "before_flush", overtake)
    try:
        with sweep.publisher(store.client, parent) as publisher:
            publisher.publish(sweep.state)
    finally:
        event.remove(Session, "before_flush", overtake)
    assert overtaken
    other.close()
    runs = store.client.search_runs(
        [store.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    assert sorted(run.data.tags["automl_remote.key"] for run in runs) == [
        f"sweep-1/{number}" for number in range(3)
    ]
    assert all(len(run.inputs.dataset_inputs) == 1 for run in runs)


@contextmanager
def dropping_proxy(uri: str, share: float, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Pass requests on to a server, and of some of them drop the reply."""
    rng, lock, dropped = random.Random(seed), threading.Lock(), []
    upstream = urlsplit(uri)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            with lock:
                is_dropped = rng.random() < share
            if is_dropped:
                dropped.append(f"{self.command} {self.path.split('?')[0]}")
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", dropped
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def test_replies_dropped_by_a_proxy_leave_one_run_per_iteration(
    server: str, new_sweep: Any
) -> None:
    """A real server, one reply in eight lost: it takes longer, and that is all."""
    direct = MlflowClient(tracking_uri=server)
    experiment_id = direct.create_experiment("dropped replies")
    parent = Store(direct, server, experiment_id).new_parent()
    sweep = new_sweep("dropped").filled(4)
    with dropping_proxy(server, 1 / 8, seed=3) as (uri, dropped):
        client = MlflowClient(tracking_uri=uri)
        publisher = sweep.publisher(client, parent)
        for _ in range(60):
            try:
                publisher.publish(sweep.state)
            except PublishFailed:
                continue
            break
        else:
            pytest.fail("It was not published within 60 attempts.")
        publisher.close()
    assert len(dropped) > 3
    condition = f"tags.`mlflow.parentRunId` = '{parent}'"
    runs = direct.search_runs([experiment_id], condition)
    assert [f"dropped/{number}" for number in range(4)] == sorted(
        run.data.tags["automl_remote.key"] for run in runs
    )
    for run in runs:
        assert run.info.status == "FINISHED"
        assert len(run.outputs.model_outputs) == 1
        assert len(direct.get_metric_history(run.info.run_id, "accuracy")) == 1
        assert len(direct.get_metric_history(run.info.run_id, "accuracy_fold")) == 5
    assert len(direct.search_logged_models([experiment_id])) == 4
