"""A job on either target: start it, read it, ask it, fetch from it, end it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from mlflow_automl_remote.compute import Job, Liveness, Progress, TargetSpec, connect, parse_target
from mlflow_automl_remote.errors import (
    ArtifactRefused,
    AutoMLRemoteError,
    CommandFailed,
    ConnectFailed,
    ConnectionLost,
    SweepNotFound,
)
from mlflow_automl_remote.journal.events import ArtifactFile


def lines(job: Job, n_lines: int) -> list[dict[str, object]]:
    """Read the journal until it has so many lines."""
    data, deadline = b"", time.monotonic() + 20
    while data.count(b"\n") < n_lines:
        assert time.monotonic() < deadline, data
        data += job.read_journal(len(data), wait_s=1.0).data
    return [json.loads(line) for line in data.splitlines()]


def wait_for(job: Job, liveness: Liveness) -> None:
    deadline = time.monotonic() + 20
    while job.liveness() is not liveness:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def recorded(job: Job, name: str, content: bytes) -> ArtifactFile:
    """Put an artifact into the workspace, as the agent would."""
    path = Path(job.workspace.artifacts / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return ArtifactFile(
        path=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )


def test_a_submitted_job_lives_and_its_journal_can_be_read(submit, connection):
    """submit() returns once the agent has its lock; the journal is readable from any offset."""
    job = submit()
    assert Liveness.ALIVE is job.liveness()
    (first,) = lines(job, 1)
    assert str(job.workspace.path) == first["cwd"]
    chunk = job.read_journal(5, limit_bytes=7)
    assert (len(chunk.data), chunk.next_offset, chunk.liveness) == (7, 12, Liveness.ALIVE)
    assert b"noise on standard output" in job.log()
    assert Path(job.workspace.path).stat().st_mode & 0o777 == 0o700


def test_an_agent_gets_no_variable_that_is_not_on_the_list(submit, monkeypatch):
    """Credentials in the environment of the account do not reach the agent."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "planted")
    (first,) = lines(submit(), 1)
    assert "planted" not in json.dumps(first)
    assert "PATH" in first["environment"]


def test_reading_waits_for_news_and_no_longer(submit):
    """A read with wait_s returns soon after the journal has grown, or after wait_s."""
    job = submit()
    offset = job.read_journal(0, wait_s=5).next_offset
    begin = time.monotonic()
    assert job.read_journal(offset, wait_s=0.3).data == b""
    assert 0.25 < time.monotonic() - begin < 3
    timer = threading.Timer(0.2, job.request, [{"action": "cancel"}])
    timer.start()
    begin = time.monotonic()
    assert job.read_journal(offset, wait_s=20).data == b'{"action": "cancel"}\n'
    assert time.monotonic() - begin < 5
    timer.join()


def test_a_finished_job_is_dead_and_its_journal_is_still_there(submit):
    """DEAD with no data means that nothing more will come; a waiting read ends at once."""
    job = submit('{"lives_s": 0}')
    wait_for(job, Liveness.DEAD)
    offset = job.read_journal(0).next_offset
    assert offset > 0
    begin = time.monotonic()
    last = job.read_journal(offset, wait_s=20)
    assert (last.data, last.liveness) == (b"", Liveness.DEAD)
    assert time.monotonic() - begin < 5


def test_the_end_of_the_log_is_in_the_error_of_an_agent_that_dies_at_once(submit):
    """An agent that ends before it has its lock is an error that says why."""
    with pytest.raises(CommandFailed, match=r"status 3.*\n.*last words: no space"):
        submit('{"die": "no space"}')


def test_a_missing_module_is_an_error_that_names_it(connection, project):
    """Python's own words reach the user."""
    with pytest.raises(CommandFailed, match="No module named no_such_agent"):
        connection.submit(
            "s", project, "{}", needed={"data_script": "get_data.py"}, module="no_such_agent"
        )


def test_submitting_twice_gives_the_same_job(submit):
    """The second submission of a running sweep starts nothing."""
    submit()
    job = submit()
    assert len(lines(job, 1)) == 1


def test_a_job_outlives_its_connection_and_is_found_by_a_later_one(submit, connection, spec):
    """Closing the connection leaves the job alone; another connection finds it by its id."""
    submit()
    connection.close()
    with connect(spec) as again:
        job = again.job("sweep-1")
        assert Liveness.ALIVE is job.liveness()
        assert job.kill(grace_s=1.0) == ()
        assert Liveness.DEAD is job.liveness()


def test_a_job_that_was_never_started_is_dead(connection):
    """No identity and no lock: nothing runs, and nothing will."""
    job = connection.job("never")
    assert Liveness.DEAD is job.liveness()
    with pytest.raises(SweepNotFound, match="sweep 'never' is gone from"):
        job.read_journal()


def test_a_reused_pid_is_not_the_agent(submit):
    """The identity of another process with the same pid is not believed."""
    job = submit()
    path = Path(job.workspace.agent_identity)
    identity = json.loads(path.read_text())
    path.write_text(json.dumps({**identity, "starttime": identity["starttime"] - 1}))
    assert Liveness.DEAD is job.liveness()
    path.write_text(json.dumps({**identity, "boot_id": "another"}))
    assert Liveness.DEAD is job.liveness()
    path.write_text("[1, 2")
    assert Liveness.UNKNOWN is job.liveness()
    path.write_text(json.dumps(identity))
    assert Liveness.ALIVE is job.liveness()


def test_kill_ends_stubborn_agents_and_their_daemons(submit):
    """SIGTERM ignored, a daemon in a session of its own: after kill() none of them lives."""
    job = submit('{"stubborn": true}')
    pid = json.loads(Path(job.workspace.agent_identity).read_text())["pid"]
    (daemon,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert job.kill(grace_s=0.3) == ()
    for each in (pid, int(daemon)):
        status = Path(f"/proc/{each}/stat")
        assert not status.exists() or " Z " in status.read_text()


def test_kill_leaves_a_sweep_of_another_root_alone(submit, tmp_path):
    """Of the same name, on the same machine."""
    job = submit()
    with connect(TargetSpec(root=str(tmp_path / "other"))) as other:
        assert other.job("sweep-1").kill(grace_s=0.1) == ()
    assert Liveness.ALIVE is job.liveness()


def test_a_workspace_is_removed_only_when_its_agent_is_dead(submit):
    """remove() refuses while the agent lives."""
    job = submit()
    with pytest.raises(AutoMLRemoteError, match="not known to have ended"):
        job.remove()
    job.kill(grace_s=1.0)
    job.remove()
    assert not Path(job.workspace.path).exists()


def test_fetched_files_are_whole_and_brought_once(connection, tmp_path):
    """Names with spaces, quotes and a leading dash; empty and large files; nothing comes twice."""
    job = connection.job("sweep-1")
    names = ["a b/it's.txt", "-rf", "$(id)/`x`", "empty", "gr\u00f6\u00dfe", "x" * 255]
    files = [recorded(job, name, name.encode() * (name != "empty")) for name in names]
    files.append(recorded(job, "model/large.bin", os.urandom(3_000_000)))
    n_bytes = []
    job.fetch(files, tmp_path / "here", n_bytes.append)
    assert sum(file.size_bytes for file in files) == sum(n_bytes)
    for file in files:
        content = (tmp_path / "here" / file.path).read_bytes()
        assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert list((tmp_path / "here").rglob("*.part")) == []
    again: list[int] = []
    job.fetch(files, tmp_path / "here", again.append)
    assert again == []


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "", "a//b", "./a", "a\nb", "a\x1b[2J", "y" * 256, "a\\b"],
)
def test_forbidden_names_are_refused_before_anything_is_brought(connection, tmp_path, name):
    """A target cannot name a file that would land elsewhere or write to the terminal."""
    file = ArtifactFile(path=name, size_bytes=1, sha256="0" * 64)
    with pytest.raises(ArtifactRefused):
        connection.job("sweep-1").fetch([file], tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_files_that_changed_after_they_were_recorded_are_refused(connection, tmp_path):
    """Another content, another size, a link, a folder, a missing file: none of them is taken."""
    job = connection.job("sweep-1")
    good, bad = recorded(job, "good", b"good"), recorded(job, "bad", b"recorded")
    place = Path(job.workspace.artifacts / "bad")

    def refused(match: str) -> None:
        with pytest.raises(ArtifactRefused, match=match):
            job.fetch([bad, good], tmp_path / "here")
        assert not list((tmp_path / "here").glob("bad*"))

    place.write_bytes(b"RECORDED")
    refused("has SHA-256")
    place.write_bytes(b"longer than recorded")
    refused("has 20 bytes")
    place.unlink()
    refused("not there any more.*No such file")
    place.symlink_to("/etc/hostname")
    refused("not there any more")
    place.unlink()
    os.mkfifo(place)
    refused("not a plain file")
    job.fetch([good], tmp_path / "here")
    assert (tmp_path / "here" / "good").read_bytes() == b"good"


def test_two_threads_do_not_wait_for_one_another(submit):
    """A request is answered while another thread waits for news."""
    job = submit()
    offset = job.read_journal(0, wait_s=5).next_offset
    waiting = threading.Thread(target=job.read_journal, args=(offset, 3.0))
    waiting.start()
    begin = time.monotonic()
    job.liveness()
    assert time.monotonic() - begin < 2
    waiting.join()


def test_many_files_and_odd_names_arrive_as_they_are(submit, project):
    """2,000 files, quotes, newlines and names that are not UTF-8, in one stream."""
    for number in range(2000):
        path = project / f"part {number % 20}" / f"file-{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    odd = ["it's", "new\nline", "-rf", os.fsdecode(b"latin-\xe9")]
    for name in odd:
        (project / name).write_text(name, errors="surrogateescape")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    place = Path(submit().workspace.project)
    assert len(list(place.glob("part */*.txt"))) == 2000
    assert (place / "part 14" / "file-1234.txt").read_text() == "1234"
    for name in odd:
        assert (place / name).exists()
    assert os.access(place / "run.sh", os.X_OK)
    assert not (place / "get_data.py").stat().st_mode & 0o077


def test_a_cut_connection_is_reported_and_the_job_goes_on(
    own_sshd, start_stand_in, project, tmp_path
):
    """Killing the server's sessions is ConnectionLost, quickly; the job is found again, alive."""
    spec = parse_target(own_sshd.config(root=str(tmp_path / "root"), env_manager="local"))
    with connect(spec) as connection:
        job = start_stand_in(connection, project, tmp_path)
        offset = job.read_journal(0, wait_s=5).next_offset
        threading.Timer(0.3, own_sshd.kill_sessions).start()
        begin = time.monotonic()
        with pytest.raises(ConnectionLost):
            job.read_journal(offset, wait_s=20)
        assert time.monotonic() - begin < 5
        with pytest.raises(ConnectionLost):
            job.liveness()
    own_sshd.stop()
    with pytest.raises(ConnectFailed):
        connect(spec)
    own_sshd.start()
    with connect(spec) as again:
        job = again.job("sweep-1")
        assert Liveness.ALIVE is job.liveness()
        assert job.kill(grace_s=1.0) == ()


def test_a_transfer_that_is_cut_leaves_nothing_half_done(
    own_sshd, start_stand_in, project, tmp_path
):
    """Cut in the middle of an upload and of a download; both work the next time."""
    (project / "large.bin").write_bytes(os.urandom(30_000_000))
    spec = parse_target(own_sshd.config(root=str(tmp_path / "root"), env_manager="local"))
    cuts: list[int] = []

    def cut(progress: Progress) -> None:
        if progress.text.startswith("Sending the project") and not cuts:
            cuts.append(own_sshd.kill_sessions())

    with connect(spec, cut) as connection, pytest.raises(ConnectionLost):
        start_stand_in(connection, project, tmp_path)
    assert [1] == cuts, "the connection was not cut"
    sweep = tmp_path / "root" / "sweeps" / "sweep-1"
    deadline = time.monotonic() + 20
    while sweep.exists() and list(sweep.iterdir()):
        assert time.monotonic() < deadline, list(sweep.iterdir())
        time.sleep(0.05)
    with connect(spec) as connection:
        job = start_stand_in(connection, project, tmp_path)
        file = recorded(job, "large.bin", (project / "large.bin").read_bytes())
        with pytest.raises(ConnectionLost):
            job.fetch([file], tmp_path / "here", lambda n_bytes: own_sshd.kill_sessions())
    assert [] == list((tmp_path / "here").iterdir())
    with connect(spec) as connection:
        job = connection.job("sweep-1")
        job.fetch([file], tmp_path / "here")
        assert () == job.kill(grace_s=1.0)
    assert (tmp_path / "here" / "large.bin").stat().st_size == file.size_bytes
