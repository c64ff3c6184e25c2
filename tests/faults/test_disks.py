"""A full disk of the client: it is said, nothing is lost, and it goes on afterwards."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from small_disk import small_disk

from mlflow_automl_remote.errors import LocalDiskFailed


def test_a_full_disk_of_the_client_is_said_and_following_again_goes_on(
    start, undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for temporary files has no room for a model; with room the rest is published."""
    playing = start()
    playing.play()
    with small_disk(tmp_path / "small", "64k") as small:
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        with pytest.raises(LocalDiskFailed, match=r"No space left on device.*TMPDIR"):
            playing.follow().result()
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert playing.follow().result().status.is_finished
    assert playing.store() == undisturbed
