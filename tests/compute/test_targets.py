"""The backend config of a compute target: what is taken, what is refused, and how it is said."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_automl_remote.compute import SavedTarget, TargetSpec, parse_target
from mlflow_automl_remote.errors import ConfigurationError


def test_nothing_is_this_machine():
    """No backend config is needed for the local target."""
    assert TargetSpec() == parse_target({}) == parse_target({"target": "local"})
    assert parse_target({}).label == "this machine"


def test_the_root_of_this_machine_can_be_moved(monkeypatch, tmp_path):
    """AUTOML_REMOTE_HOME is remembered in the target, so that it is found again without it."""
    monkeypatch.setenv("AUTOML_REMOTE_HOME", str(tmp_path))
    assert str(tmp_path) == parse_target({}).root


def test_a_host_is_enough():
    """User, port and the rest have the values that ssh itself would use."""
    spec = parse_target({"host": "vm.example.org"})
    assert f"{getpass.getuser()}@vm.example.org" == spec.label
    assert (spec.port, spec.python, spec.env_manager) == (22, "python3", "uv")
    assert parse_target({"host": "vm", "user": "bob", "port": 2222}).label == "bob@vm:2222"


def test_a_home_in_the_key_file_is_expanded():
    """~ is the client's home."""
    key = Path.home() / "key"
    key.touch()
    assert (str(key),) == parse_target({"host": "vm", "key_file": "~/key"}).key_files
    assert (str(key),) * 2 == parse_target({"host": "vm", "key_file": ["~/key"] * 2}).key_files


def test_a_target_survives_the_round_trip_through_a_tag():
    """from_json(as_json) is the same target."""
    spec = parse_target({"host": "vm", "user": "bob", "port": 2222, "root": "~/x"})
    assert spec == TargetSpec.from_json(spec.as_json())
    assert TargetSpec() == TargetSpec.from_json(TargetSpec().as_json())
    assert TargetSpec.from_json('{"host": "vm", "key_file": "/k"}').key_files == ("/k",)
    for damaged in ("", "[]", '{"hosts": 1}', '{"host": "-oProxyCommand=id"}'):
        with pytest.raises(ConfigurationError, match="not a compute target"):
            TargetSpec.from_json(damaged)


@pytest.mark.parametrize("address", ["auto", "vm.example.org:6379", "ray://10.0.0.1:10001"])
def test_a_cluster_is_named_by_its_address(address):
    """For this machine as for one over SSH; it survives the round trip through a tag."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    for where in ({}, {"target": "local"}, {"host": "vm"}):
        spec = parse_target({**where, "ray": {"address": address}})
        assert spec == TargetSpec.from_json(spec.as_json())
        assert address == spec.ray


def test_several_hosts_are_the_first_with_the_others(tmp_path, monkeypatch):
    """Names of attached targets, hosts and objects; what stands beside them holds for all."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    SavedTarget(name="big", config={"host": "big.example.org", "user": "eve"}).save()
    third = {"host": "vm3", "port": 2222, "user": "bob", "address": "10.0.0.3"}
    spec = parse_target({"hosts": ["vm1", "big", third], "user": "ada", "root": "~/x"})
    assert [each.label for each in (spec, *spec.others)] == [
        "ada@vm1", "eve@big.example.org", "bob@vm3:2222",
    ]  # fmt: skip
    assert {each.root for each in (spec, *spec.others)} == {"~/x"}
    assert [each.address for each in spec.others] == [None, "10.0.0.3"]
    assert spec.full_label == "ada@vm1 and 2 more"
    assert spec == TargetSpec.from_json(spec.as_json())


@pytest.mark.parametrize("config", [{"ray": {"address": "auto"}}, {"hosts": ["vm1", "vm2"]}])
def test_a_cluster_without_the_extra_says_what_to_install(config, monkeypatch):
    """Before anything is contacted."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mlflow-automl-remote\[ray\]'"):
        parse_target(config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ray": "auto"}, "'ray'.*must be .*address.*Got 'auto'"),
        ({"ray": {"address": "-x"}}, "'ray'.*must be .*host:port"),
        ({"ray": {"address": "auto", "hosts": []}}, "'ray'.*must be"),
        (
            {"ray": {"address": "auto"}, "environment": "docker", "image": "python:3.12"},
            "'ray', and a container",
        ),
        ({"hosts": "vm1"}, "'hosts'.*two hosts.*Got 'vm1'"),
        ({"hosts": ["vm1"]}, "'hosts'.*two hosts"),
        ({"hosts": ["vm1", 7]}, "'hosts'.*must be names, and objects.*Got 7"),
        ({"hosts": ["vm1", {"port": 22}]}, "'hosts'.*must be names, and objects"),
        ({"hosts": ["vm1", {"host": "vm1"}]}, "'hosts' has .*@vm1 twice"),
        ({"hosts": ["vm1", "local"]}, "'hosts' has 'local'"),
        (
            {"hosts": ["vm1", {"host": "vm2", "address": "-x"}]},
            "'address'.*an IP address.*Got '-x'",
        ),
        ({"hosts": ["vm1", "vm2"], "host": "vm3"}, "'hosts' and 'host'"),
        ({"hosts": ["vm1", {"host": "vm2", "adress": "x"}]}, "Unknown key 'adress'"),
        ({"hosts": ["vm1", "vm2"], "environment": "docker", "image": "x"}, "'hosts', and a cont"),
        ({"hots": "vm"}, "Unknown key 'hots'"),
        ({"host": "vm", "password": "x"}, "Unknown key 'password'.*Known keys: host, user"),
        ({"user": "bob"}, "has 'user' but no 'host'"),
        ({"target": "vm7"}, "no target 'vm7'. Known are: local.*target attach vm7"),
        ({"target": "7vm"}, "starts with a letter.*'7vm'"),
        ({"target": "vm", "host": "vm"}, "has a 'target' and a 'host'"),
        ({"host": "vm", "proxy_jump": "a,-oProxyCommand=id"}, "'proxy_jump'.*hosts to go through"),
        ({"host": "vm", "key_file": [7]}, "'key_file'.*a list of files"),
        ({"host": 7}, "'host'.*must be a string. Got 7"),
        ({"host": ""}, "'host'.*must be a host name"),
        ({"host": "-oProxyCommand=id"}, "'host'.*must be a host name"),
        ({"host": "a b"}, "'host'.*must be a host name"),
        ({"host": "vm", "port": "22"}, "'port'.*1 to 65535. Got '22'"),
        ({"host": "vm", "port": 0}, "'port'.*1 to 65535. Got 0"),
        ({"host": "vm", "port": True}, "'port'.*1 to 65535. Got True"),
        ({"host": "vm", "user": "-l"}, "'user'.*must be the name of an account"),
        (
            {"host": "vm", "key_file": "/nowhere/key"},
            "'key_file'.*existing file. Got '/nowhere/key'",
        ),
        ({"host": "vm", "root": "relative"}, "'root'.*absolute path.*'relative'"),
        ({"host": "vm", "env_manager": "pip"}, "'env_manager'.*uv, conda, local. Got 'pip'"),
    ],
)
def test_mistakes_are_refused_with_the_value_and_what_is_allowed(config, words):
    """Nothing is contacted; the message names key, value and remedy."""
    with pytest.raises(ConfigurationError, match=words):
        parse_target(config)


def test_importing_compute_does_not_import_the_ssh_library():
    """paramiko is loaded only when a target over SSH is connected to."""
    program = (
        "import sys, mlflow_automl_remote.compute\n"
        "assert not {'paramiko', 'mlflow', 'sklearn', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_container_is_what_config_and_mlproject_say_and_survives_the_run_tag() -> None:
    """Keys of the config win; a tag that was written reads back as the same target."""
    of_project = {
        "image": "theirs",
        "volumes": ["/a:/b:ro"],
        "environment": [["N", "1"], "COPIED"],
    }
    spec = parse_target({"host": "vm", "user": "ada", "image": "ours", "cores": 2}, of_project)
    assert spec.container is not None
    assert (spec.container.image, spec.container.cores) == ("ours", 2)
    assert spec.container.variables == ("N=1", "COPIED")
    assert TargetSpec.from_json(spec.as_json()) == spec
    local = parse_target({"environment": "target"}, of_project)
    assert local.container is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"image": "x"}, "which is for a container"),
        ({"environment": "docker"}, "one of the two"),
        ({"environment": "docker", "image": "x", "base_image": "y"}, "one of the two"),
        ({"environment": "docker", "image": "-x"}, "name of a Docker image"),
        ({"environment": "docker", "image": "x", "cores": 1.5}, "whole number"),
        ({"environment": "docker", "image": "x", "volumes": ["a:/b"]}, "/there:/inside"),
        ({"environment": "podman"}, "one of target, docker"),
        ({"docker_auth": {"username": "a", "password": "b"}}, "which is for a container"),
    ],
)
def test_what_cannot_be_a_container_is_said_before_anything_is_contacted(
    config: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_target(config)


LOGIN = {"username": "ada", "password": "planted-5e0d", "registry": "registry.example.org"}


def test_an_account_of_a_registry_is_neither_shown_nor_written_down() -> None:
    config = {"environment": "docker", "image": "registry.example.org/ml", "docker_auth": LOGIN}
    spec = parse_target(config)
    assert spec.registry_login is not None
    assert spec.registry_login.password == LOGIN["password"]
    assert "planted" not in repr(spec) + str(spec.registry_login) + spec.as_json()
    assert TargetSpec.from_json(spec.as_json()).registry_login is None


@pytest.mark.parametrize(
    "changes", [{"password": 7}, {"username": ""}, {"passwort": "x"}, {"registry": None}]
)
def test_what_cannot_be_such_an_account_is_refused_without_showing_it(
    changes: dict[str, object],
) -> None:
    config = {"environment": "docker", "image": "x", "docker_auth": {**LOGIN, **changes}}
    with pytest.raises(ConfigurationError, match=r"'docker_auth'.*a 'password'") as refused:
        parse_target(config)
    assert "planted" not in str(refused.value)


def test_the_example_of_a_sweep_in_a_container_is_a_target() -> None:
    example = Path(__file__).parents[2] / "examples" / "docker_sweep" / "vm.json"
    spec = parse_target(json.loads(example.read_text()))
    assert spec.container is not None
    assert spec.container.base_image == "debian:stable-slim"
