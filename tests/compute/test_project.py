"""What of a project folder is sent, and what is not."""

from __future__ import annotations

import io
import tarfile

import pytest

from mlflow_automl_remote.compute.package import package_digest, package_files
from mlflow_automl_remote.compute.project import scan_project, write_archive
from mlflow_automl_remote.compute.workspace import Root, Workspace
from mlflow_automl_remote.errors import ConfigurationError

NEEDED = {"data_script": "get_data.py"}


def packed(project) -> bytes:
    parts = []
    write_archive(scan_project(project, NEEDED).files, parts.append)
    return b"".join(parts)


def names(project) -> list[str]:
    return [file.name for file in scan_project(project, NEEDED).files]


def test_caches_repositories_and_stores_stay_at_home(project):
    """The built-in list needs no ignore file."""
    for name in (
        ".git/config",
        "__pycache__/a.pyc",
        ".venv/bin/python",
        "mlruns/0/meta.yaml",
        "mlflow.db",
        "mlflow.db-wal",
        "x.egg-info/PKG-INFO",
        "node_modules/b.js",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    (project / "src" / "__pycache__").mkdir(parents=True)
    (project / "src" / "__pycache__" / "b.pyc").touch()
    (project / "src" / "b.py").touch()
    assert names(project) == ["get_data.py", "src/b.py"]


def test_mlflowignore_is_honoured_and_gitignore_only_without_it(project):
    """The first of the two that exists decides, with git's own rules."""
    for name in ("big.csv", "keep.csv", "notes.txt", "out/a.bin"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()
    (project / ".gitignore").write_text("*.csv\n!keep.csv\n/out/\n")
    assert names(project) == [".gitignore", "get_data.py", "keep.csv", "notes.txt"]
    (project / ".mlflowignore").write_text("notes.txt\n")
    assert {"big.csv", "keep.csv", "out/a.bin"} < set(names(project))
    assert "notes.txt" not in names(project)


def test_links_that_lead_out_are_not_followed(project, tmp_path):
    """A link to a file inside is sent as that file; one to the outside or to nowhere is not."""
    (tmp_path / "secret").write_text("secret")
    (project / "outside").symlink_to(tmp_path / "secret")
    (project / "upwards").symlink_to(tmp_path)
    (project / "broken").symlink_to("nowhere")
    (project / "inside").symlink_to("get_data.py")
    scanned = scan_project(project, NEEDED)
    assert [file.name for file in scanned.files] == ["get_data.py", "inside"]
    assert {"outside", "upwards", "broken"} == set(scanned.skipped)


def test_the_same_files_give_the_same_bytes(project, tmp_path):
    """Times, owners and the order of the folder do not matter."""
    for name in ("b.py", "a.py"):
        (project / name).write_text(name)
    first = packed(project)
    (project / "a.py").touch()
    (project / "b.py").rename(project / "c.py")
    (project / "c.py").rename(project / "b.py")
    assert first == packed(project)
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert archive.getnames() == ["a.py", "b.py", "get_data.py"]
        assert {0} == {member.mtime + member.uid for member in archive.getmembers()}


def test_a_missing_or_ignored_data_script_is_refused_with_the_reason(project, tmp_path):
    """Missing, ignored by a named file, or no folder at all."""
    with pytest.raises(ConfigurationError, match=r"'other\.py' is missing from"):
        scan_project(project, {"data_script": "other.py"})
    (project / ".gitignore").write_text("*.py\n")
    with pytest.raises(
        ConfigurationError, match=r"ignored by the project's \.gitignore.*!/get_data"
    ):
        scan_project(project, NEEDED)
    with pytest.raises(ConfigurationError, match="does not exist"):
        scan_project(tmp_path / "nowhere", NEEDED)


def test_a_file_that_shrinks_while_it_is_packed_is_an_error_of_ours(project):
    """The stream would not be what its header says."""
    (project / "data.csv").write_text("1,2,3")
    files = scan_project(project, NEEDED).files
    (project / "data.csv").write_text("")
    with pytest.raises(ConfigurationError, match=r"data\.csv' cannot be sent"):
        write_archive(files, lambda data: None)


def test_our_own_package_is_sent_with_its_metadata():
    """The version can be asked for on the target; the digest depends on contents alone."""
    files = package_files()
    found = {file.name for file in files}
    assert "mlflow_automl_remote/compute/helper/server.py" in found
    assert any(name.endswith(".dist-info/METADATA") for name in found)
    assert not any("__pycache__" in name for name in found)
    assert package_digest(files) == package_digest(package_files())


@pytest.mark.parametrize("sweep_id", ["", "../x", "A", "a/b", "a" * 65, "a\n", "a b"])
def test_a_sweep_id_cannot_lead_anywhere_else(sweep_id):
    """Ids are short, lower-case and plain."""
    with pytest.raises(ConfigurationError, match="sweep id"):
        Workspace(Root.resolve(None, "/home/bob").path, sweep_id)


def test_every_path_is_below_the_root():
    """The root is resolved against the home of the target."""
    root = Root.resolve("~/here", "/home/bob")
    workspace = root.workspace("s-1")
    for name in (
        "settings",
        "project",
        "journal",
        "artifacts",
        "agent_log",
        "agent_lock",
        "inbox",
    ):
        assert str(getattr(workspace, name)).startswith("/home/bob/here/sweeps/s-1/")
    with pytest.raises(ConfigurationError, match="absolute"):
        Root.resolve("here", "/home/bob")
