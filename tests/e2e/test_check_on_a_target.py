"""`automl-remote check` on a target: what a sweep would make of the data there, and no sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sshd import SshServer
from user_terminal import Terminal

DATA = """
import os

def get_data():
    import numpy as np
    print("noise on standard output")
    assert os.environ["HOME"] == {home!r}, "this is not the target"
    y = np.arange(60) % 3
    return {{"X": np.arange(60 * 4).reshape(60, 4), "y": y{more}}}
"""


def test_the_data_is_looked_over_where_a_sweep_would_load_it(
    terminal: Terminal, make_project: Callable[..., Path], vm: SshServer
) -> None:
    """The same lines as for this machine; nothing is left on the target, and no run is made."""
    project = make_project(DATA.format(home=str(vm.home), more=""))
    words = ("check", "--settings", f"{project}/automl.yaml", "--backend-config")
    status, output = terminal.automl_remote(*words, json.dumps(vm.config()))
    assert status == 0, output
    assert "60 rows, 4 columns, 3 classes" in output
    assert "The data can be trained on." in output
    assert not list((vm.home / ".automl-remote" / "sweeps").iterdir())
    assert terminal.runs() == []

    make_project(DATA.format(home=str(vm.home), more="[:-1]"))
    status, output = terminal.automl_remote(*words, json.dumps(vm.config()))
    assert status == 1
    assert "X has 60 rows and y has 59" in output
    assert "Traceback" not in output
