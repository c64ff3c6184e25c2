"""The agent's environment on a machine over SSH: built once, whole, and found again."""

from __future__ import annotations

import ast
import importlib.metadata
from dataclasses import replace
from pathlib import Path

import pytest
from sshd import running_sshd

from mlflow_automl_remote.compute import Progress, connect, parse_target
from mlflow_automl_remote.compute.environment import MARKER, EnvironmentBuilder
from mlflow_automl_remote.compute.helper import files
from mlflow_automl_remote.compute.machine import Machine
from mlflow_automl_remote.compute.own_uv import find_uv
from mlflow_automl_remote.compute.preparation import Preparation
from mlflow_automl_remote.compute.recipe import Recipe, agent_recipe
from mlflow_automl_remote.compute.requirements import agent_requirements
from mlflow_automl_remote.compute.wanted import Wanted
from mlflow_automl_remote.errors import EnvironmentSetupFailed

SMALL = ("cloudpickle==" + importlib.metadata.version("cloudpickle"),)


@pytest.fixture
def vm(own_sshd, tmp_path):
    """A connection, and a builder of environments over it that records what it tells."""
    told: list[Progress] = []
    with (
        connect(parse_target(own_sshd.config(root=str(tmp_path / "root")))) as connection,
        connection.control() as control,
    ):
        builder = EnvironmentBuilder(control, connection.machine, connection.root, told.append)
        yield connection, builder, told


def recipe(machine: Machine, *requirements: str) -> Recipe:
    full = agent_recipe(machine)
    return replace(full, requirements=requirements, overrides=(), imports=("cloudpickle",))


def test_an_environment_is_built_once_and_found_again(vm):
    """The second time nothing is done; what was left half-built in between is not used."""
    connection, builder, told = vm
    wanted = recipe(connection.machine, *SMALL)
    place = Path(connection.root.environment(wanted.digest))
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").write_text("half-built: it has no marker")
    place.with_name(f"{place.name}.tmp").mkdir()
    python = builder.ensure(wanted)
    with connection.control() as control:
        reply = control.request("run", argv=[str(python), "-m", "pip", "-V"], env={}, timeout_s=60)
        assert reply[0]["status"] == 1, "the interpreter does not run after the rename"
    assert (place / MARKER).read_text() == wanted.digest
    assert any("Sending uv" in each.text for each in told)
    told.clear()
    assert python == builder.ensure(wanted)
    assert [each.text for each in told] == ["The environment is ready"]


def test_a_failed_build_ends_with_uvs_own_words_and_leaves_nothing(vm):
    """A requirement that does not exist; the next build can be made all the same."""
    connection, builder, _ = vm
    wanted = recipe(connection.machine, "cloudpickle==0.0.0.0.1")
    with pytest.raises(EnvironmentSetupFailed, match=r"(?s)words:.*cloudpickle==0\.0\.0\.0\.1"):
        builder.ensure(wanted)
    place = Path(connection.root.environment(wanted.digest))
    left = [path.name for path in place.parent.iterdir()]
    assert sorted(left) == [f"{wanted.digest}.lock", f"{wanted.digest}.log"]
    assert "cloudpickle==0.0.0.0.1" in place.with_name(f"{wanted.digest}.log").read_text()
    builder.ensure(recipe(connection.machine, *SMALL))


def test_a_machine_without_an_index_gets_its_wheels_from_the_client(vm):
    """With `wheelhouse` nothing is asked of an index there; the wheels do not stay."""
    connection, _, told = vm
    preparation = Preparation(connection.spec, connection.machine, connection.root, told.append)
    with connection.control() as control:
        builder = EnvironmentBuilder(
            control, connection.machine, connection.root, told.append,
            send_wheels=preparation._send_wheels,
        )  # fmt: skip
        wanted = recipe(connection.machine, *SMALL)
        place = builder.ensure(wanted).parents[1]
    assert any("Sending 1 wheels" in each.text for each in told)
    assert (Path(place) / MARKER).exists()
    assert not [path for path in Path(place).parent.iterdir() if "wheels" in path.name]


def test_conda_is_used_where_the_machine_has_it(tmp_path):
    """It makes the environment with its own packages; the agent's are put into it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    uv = find_uv()
    (folder / "conda").write_text(
        "#!/bin/sh\n"
        f'[ "$1" = create ] && {{ echo "$@" >> {tmp_path}/asked; exec {uv} venv -q "$5"; }}\n'
        "exit 0\n"
    )
    (folder / "conda").chmod(0o755)
    wanted = Wanted(python=None, conda=("numpy=2",), channels=("conda-forge",))
    for path, works in ((f"{folder}:/usr/bin:/bin", True), ("/usr/bin:/bin", False)):
        with (
            running_sshd(tmp_path / f"sshd-{works}", {"PATH": path}) as server,
            connect(parse_target(server.config(root=str(tmp_path / f"root-{works}")))) as found,
            found.control() as control,
        ):
            builder = EnvironmentBuilder(control, found.machine, found.root, lambda _: None)
            full = agent_recipe(found.machine, wanted, conda=True)
            small = replace(full, requirements=SMALL, overrides=(), imports=("cloudpickle",))
            if works:
                place = builder.ensure(small).parents[1]
                assert (Path(place) / MARKER).exists()
                assert builder.ensure(small).parents[1] == place
                (asked,) = (tmp_path / "asked").read_text().splitlines()
                assert f"--prefix {place}" in asked
                assert f"--channel conda-forge python={full.python} numpy=2" in asked
            else:
                with pytest.raises(EnvironmentSetupFailed, match="has none of conda, mamba"):
                    builder.ensure(small)


def test_an_environment_that_cannot_import_is_not_kept(vm):
    """Installed is not enough."""
    connection, builder, _ = vm
    wanted = replace(recipe(connection.machine, *SMALL), imports=("no_such_module",))
    with pytest.raises(EnvironmentSetupFailed, match="No module named 'no_such_module'"):
        builder.ensure(wanted)
    assert not Path(connection.root.environment(wanted.digest)).exists()


def test_the_hash_depends_on_everything_that_decides_what_is_in_it(vm):
    """Requirements, overrides, Python and platform; not the path of the interpreter."""
    connection, _, _ = vm
    wanted = agent_recipe(connection.machine)
    changes = [
        {"requirements": ("a==1",)},
        {"overrides": ()},
        {"python": "3.99"},
        {"platform": "Linux-riscv64-musl"},
    ]
    digests = {replace(wanted, **change).digest for change in changes} | {wanted.digest}
    assert len(digests) == 5
    assert wanted.digest == replace(wanted, interpreter="/elsewhere/python3").digest


def test_another_platform_is_told_to_install_uv(vm):
    """The client's own uv is not sent to where it cannot run."""
    connection, builder, _ = vm
    builder._machine = replace(connection.machine, machine="aarch64")
    with pytest.raises(EnvironmentSetupFailed, match=r"uv is needed.*Linux aarch64. Install it"):
        builder.ensure(recipe(connection.machine, *SMALL))


def test_the_agent_gets_the_versions_that_are_installed_here():
    """Pinned, without what only a client needs, and with the small MLflow."""
    requirements = agent_requirements()
    assert f"mlflow-skinny=={importlib.metadata.version('mlflow')}" in requirements
    assert f"scikit-learn=={importlib.metadata.version('scikit-learn')}" in requirements
    names = {line.partition("==")[0] for line in requirements}
    assert not names & {"mlflow", "paramiko", "rich", "pytest", "uv"}


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A server whose account has the agent's real environment, from the package index."""
    with running_sshd(tmp_path_factory.mktemp("built")) as server:
        with connect(parse_target(server.config())) as connection:
            connection.prepare()
        yield server


def test_the_real_environment_saves_models_with_our_package(built, tmp_path):
    """mlflow-skinny, scikit-learn and pandas are enough; our package is found beside them."""
    program = (
        "import sys, numpy, mlflow.sklearn, mlflow_automl_remote, importlib.metadata as m\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "X = numpy.eye(4); model = LogisticRegression().fit(X, [0, 1, 0, 1])\n"
        "mlflow.sklearn.save_model(model, sys.argv[1], input_example=X,\n"
        "    serialization_format='cloudpickle', pip_requirements=['scikit-learn'])\n"
        "print('saved by', m.version('mlflow-automl-remote'))\n"
    )
    lines = []
    with connect(parse_target(built.config())) as connection:
        command = connection.prepare()
        with connection.control() as control:
            reply = control.request(
                "run",
                on_frame=lambda frame: lines.append(frame["line"]),
                argv=[command.python, "-c", program, str(tmp_path / "model")],
                env=dict(command.variables),
                timeout_s=120,
            )[0]
    assert reply["status"] == 0, "\n".join(lines)
    assert (tmp_path / "model" / "MLmodel").exists()
    assert f"saved by {importlib.metadata.version('mlflow-automl-remote')}" == lines[-1]
    assert "/bin/python" in command.python
    environments = built.home / ".automl-remote" / "environments"
    assert not list(environments.rglob("nvidia_nccl*")), "300 MB that nobody needs"


def test_the_helper_is_written_for_python_3_8():
    """Its syntax is that of the oldest Python which a machine may have."""
    sources = list(Path(files.__file__).parent.glob("*.py"))
    assert sources
    for path in sources:
        ast.parse(path.read_text(), feature_version=(3, 8))
