"""Secrets of a login and of two accounts: planted, used, and looked for everywhere."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from data_scripts import WINE
from sshd import make_key, public, running_sshd
from user_terminal import BIN, Terminal

PASSPHRASE = "planted-passphrase-7c1e"
OURS = "planted-on-the-client-93ab"
THEIRS = "planted-on-the-target-20fd"


def _seen_in_arguments(stop: threading.Event, found: set[str]) -> None:
    """Look through the command lines of all processes, again and again."""
    while not stop.wait(0.02):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            found.update(secret for secret in (PASSPHRASE, OURS) if secret.encode() in words)


def test_no_secret_is_in_arguments_logs_journal_artifacts_or_mlflow(
    terminal: Terminal,
    make_project: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The passphrase of the key, a credential of the client's, and one of the target's account."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", OURS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OURS)
    found: set[str] = set()
    stop = threading.Event()
    watcher = threading.Thread(target=_seen_in_arguments, args=(stop, found))
    with running_sshd(tmp_path / "sshd", {"AWS_SECRET_ACCESS_KEY": THEIRS}) as server:
        key = make_key(tmp_path / "encrypted", passphrase=PASSPHRASE)
        (server.folder / "authorized_keys").write_text(public(key) + "\n")
        watcher.start()
        config = server.config()
        attach = terminal.start(
            BIN / "automl-remote", "target", "attach", "vm", "--host", "127.0.0.1",
            "--port", str(config["port"]), "--key-file", key, "--passphrase-stdin",
            "--known-hosts", server.known_hosts, "--python", sys.executable,
            stdin=PASSPHRASE,
        )  # fmt: skip
        told, _ = attach.communicate(timeout=60)
        assert attach.returncode == 0, told
        status, output = terminal.automl_remote(
            "sweep", "--settings", str(make_project(WINE) / "automl.yaml"),
            "--backend-config", json.dumps({"target": "vm", "env_manager": "local"}),
        )  # fmt: skip
        stop.set()
        watcher.join()
        assert status == 0, output
    assert not found, "a secret was in the arguments of a process"
    saved = Path.home() / ".config/automl-remote/targets/vm.json"
    assert PASSPHRASE in saved.read_text(), "it was not the passphrase that let us in"
    files = [
        path
        for folder in (terminal.folder, Path.home(), server.home)
        for path in folder.rglob("*")
        if path.is_file() and path != saved
    ]
    assert any(path.name == "journal.jsonl" for path in files)
    assert any(path.name == "mlflow.db" for path in files)
    for text in [told.encode(), output.encode(), *(path.read_bytes() for path in files)]:
        for secret in (PASSPHRASE, OURS, THEIRS):
            assert secret.encode() not in text
