"""What is held in few bytes reads as what it was made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlflow_automl_remote.journal.compact import FoldScores, PackedFiles, fold_scores
from mlflow_automl_remote.journal.events import ArtifactFile

numbers = st.none() | st.floats(allow_nan=False)
files = st.lists(
    st.builds(ArtifactFile, path=st.text(), size_bytes=st.integers(0), sha256=st.text()),
    max_size=4,
).map(tuple)


@given(
    st.integers(0, 4).flatmap(
        lambda n: st.dictionaries(st.text(), st.lists(numbers, min_size=n, max_size=n).map(tuple))
    )
)
def test_fold_scores_equal_the_mapping_that_they_were_made_of(
    rows: dict[str, tuple[float | None, ...]],
) -> None:
    held = FoldScores(rows)
    assert held == rows
    assert list(held) == list(rows)
    assert all(held[name] == row for name, row in rows.items())
    assert "no such metric\0\0" not in held


def test_rows_of_different_length_are_kept_as_they_are() -> None:
    rows = {"accuracy": (0.5, None), "log_loss": (0.25,)}
    assert fold_scores(rows) is rows


@given(files, files)
def test_packed_files_equal_the_files_that_they_were_made_of(
    ours: tuple[ArtifactFile, ...], others: tuple[ArtifactFile, ...]
) -> None:
    held = PackedFiles(ours)
    assert held == ours
    assert tuple(held) == ours
    assert len(held) == len(ours)
    assert (held == others) is (ours == others)
    assert (held == PackedFiles(others)) is (ours == others)
    assert held[:1] == ours[:1]
