"""The journal: what is written is read back, and damage is never taken for an event."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_automl_remote.errors import JournalCorrupted, JournalError, JournalFromNewerVersion
from mlflow_automl_remote.journal.codec import LineDamaged, Record, decode, encode
from mlflow_automl_remote.journal.events import (
    EVENT_TYPES,
    ArtifactFile,
    Column,
    DataLoaded,
    EngineeredFeature,
    Event,
    FeaturesEngineered,
    IterationFinished,
    IterationStarted,
    SweepFinished,
    SweepStarted,
)
from mlflow_automl_remote.journal.file import Cursor, JournalWriter, read
from mlflow_automl_remote.journal.replay import _HANDLERS, SweepState, replay
from mlflow_automl_remote.states import IterationState, SweepStatus

SCORES = (0.91, None, 0.97, 0.97, 0.95)


def started(**changes: object) -> SweepStarted:
    values = {
        "sweep_id": "a1",
        "settings": {"task": "classification", "iterations": 5},
        "primary_metric": "AUC_weighted",
        "greater_is_better": True,
        "package_version": "0.1.0",
        "python_version": "3.11.7",
        "host_name": "vm",
        "n_cores": 2,
        "memory_bytes": 1 << 34,
    }
    return SweepStarted(**(values | changes))


def sweep_events() -> list[Event]:
    events: list[Event] = [
        started(),
        DataLoaded(
            n_rows=1787,
            n_columns=64,
            n_classes=10,
            digest="d1",
            duration_s=0.5,
            columns=(Column(name="x0", kind="number", dropped_reason="the same value"),),
        ),
    ]
    for number, score in enumerate(SCORES):
        events += [
            IterationStarted(
                iteration=number,
                scaler="MaxAbsScaler",
                model="LightGBM",
                params={"model__num_leaves": 31, "model__linear": None, "scaler__copy": True},
                proposed_by="portfolio",
            ),
            IterationFinished(
                iteration=number,
                state=IterationState.FAILED if score is None else IterationState.COMPLETED,
                reason="ValueError: näh" if score is None else "",
                started_ms=1000 + number,
                ended_ms=3500 + number,
                metrics={} if score is None else {"AUC_weighted": score, "log_loss": None},
                fold_metrics={"AUC_weighted": (score, None)},
                files=(ArtifactFile(path="iterations/000/x", size_bytes=3, sha256="0" * 64),),
            ),
        ]
    events.append(
        FeaturesEngineered(
            mode="dense",
            features=(
                EngineeredFeature(
                    raw_feature="x1",
                    type_detected="Categorical",
                    n_engineered=3,
                    transformations=("one-hot",),
                ),
            ),
        )
    )
    return [*events, SweepFinished(status=SweepStatus.COMPLETED, best_iteration=2)]


def as_bytes(events: list[Event]) -> bytes:
    return b"".join(
        encode(Record(seq=seq, time_ms=1000 + seq, event=event))
        for seq, event in enumerate(events)
    )


JOURNAL = as_bytes(sweep_events())
RECORDS, END = read(JOURNAL)


def test_every_event_reads_back_as_it_was_written() -> None:
    """decode(encode(record)) is the record, for each of the events of a sweep."""
    assert [record.event for record in RECORDS] == sweep_events()
    assert Cursor(offset=len(JOURNAL), n_lines=len(RECORDS)) == END


def test_each_kind_of_event_has_a_handler() -> None:
    """A kind that is added to the events must be added to the replay."""
    assert set(EVENT_TYPES.values()) == set(_HANDLERS)


@given(cut=st.integers(0, len(JOURNAL)))
@settings(max_examples=300)
def test_a_journal_cut_at_any_byte_loses_only_what_was_torn(cut: int) -> None:
    """The whole lines before the cut are read; the torn one is neither an event nor an error."""
    records, cursor = read(JOURNAL[:cut])
    assert records == RECORDS[: JOURNAL[:cut].count(b"\n")]
    assert cursor.offset == len(b"".join(JOURNAL.splitlines(keepends=True)[: len(records)]))


@given(cut=st.integers(0, len(JOURNAL)))
@settings(max_examples=100)
def test_reading_in_two_parts_is_reading_at_once(cut: int) -> None:
    """Whatever the first part, going on from its cursor gives the same state."""
    first, cursor = read(JOURNAL[:cut])
    rest, end = read(JOURNAL[cursor.offset :], cursor)
    assert end == END
    assert replay(rest, replay(first)) == replay(RECORDS)


@given(position=st.integers(0, len(JOURNAL) - 1), value=st.integers(0, 255))
@settings(max_examples=800)
def test_a_damaged_byte_never_becomes_an_event(position: int, value: int) -> None:
    """Damage ends in an error with its line, or in fewer events; never in other ones."""
    damaged = bytearray(JOURNAL)
    damaged[position] = value
    try:
        records, _ = read(bytes(damaged))
    except JournalCorrupted as error:
        assert error.line_number == JOURNAL[:position].count(b"\n") + 1
    else:
        assert records == RECORDS[: len(records)]


@given(noise=st.binary(max_size=200))
@settings(max_examples=300)
def test_noise_is_never_an_event(noise: bytes) -> None:
    """Bytes that no journal wrote give no event, and no error but the journal's own."""
    try:
        records, _ = read(noise)
    except JournalError:
        return
    assert records == []


def test_damage_in_the_middle_names_its_line() -> None:
    """The message says which line, and that what precedes it can be trusted."""
    lines = JOURNAL.splitlines(keepends=True)
    lines[2] = lines[2].replace(b"LightGBM", b"LightGBX")
    with pytest.raises(JournalCorrupted, match=r"Line 3 .* checksum"):
        read(b"".join(lines))


def test_a_lost_line_is_noticed() -> None:
    """Each line is whole, but their sequence has a gap."""
    lines = JOURNAL.splitlines(keepends=True)
    with pytest.raises(JournalCorrupted, match=r"event 2 was expected, got 3"):
        read(b"".join(lines[:2] + lines[3:]))


def test_a_newer_schema_is_refused_with_what_to_do() -> None:
    """A journal of a future version is not misread."""
    newer = _rewritten(JOURNAL.splitlines()[0], b'"v":1', b'"v":2')
    with pytest.raises(JournalFromNewerVersion, match=r"pip install -U"):
        read(newer + b"\n")


def test_an_unknown_kind_and_an_unknown_field_are_skipped() -> None:
    """Kinds and fields only grow, so an older client can follow a newer agent."""
    lines = JOURNAL.splitlines()
    lines[0] = _rewritten(lines[0], b'"sweep_id"', b'"new_field":1,"sweep_id"').rstrip()
    lines[1] = _rewritten(lines[1], b'"DataLoaded"', b'"DataMelted"').rstrip()
    records, _ = read(b"\n".join(lines) + b"\n")
    assert records[1].event is None
    assert replay(records).data is None
    assert replay(records).iterations == replay(RECORDS).iterations


def _rewritten(line: bytes, old: bytes, new: bytes) -> bytes:
    """Change a line and give it the checksum that a writer would have given it."""
    import zlib

    body = line[: line.rindex(b',"crc32"')].replace(old, new)
    return body + b',"crc32":"%08x"}\n' % zlib.crc32(body + b"}")


def test_a_line_that_only_looks_whole_is_damaged() -> None:
    """A right checksum over something that is no event is damage too."""
    with pytest.raises(LineDamaged, match="not an event"):
        decode(_rewritten(JOURNAL.splitlines()[0], b'"seq":0', b'"seq":"0"').rstrip())
    with pytest.raises(LineDamaged, match="SweepStarted"):
        decode(_rewritten(JOURNAL.splitlines()[0], b'"n_cores":2', b'"n_cores":"x"').rstrip())


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile target cannot make the client hold an endless line."""
    monkeypatch.setattr("mlflow_automl_remote.journal.file.MAX_LINE_BYTES", 1000)
    with pytest.raises(JournalCorrupted, match="longer than 1000 bytes"):
        read(b"x" * 1001)


def test_a_writer_goes_on_after_the_last_whole_event(tmp_path: Path) -> None:
    """Reopening keeps whole events, moves a torn line aside and continues the sequence."""
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path, now_ms=lambda: 5) as journal:
        journal.append(started())
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":1,"ti')
    with JournalWriter(path, now_ms=lambda: 6) as journal:
        assert [started()] == [record.event for record in journal.records]
        assert journal.append(SweepFinished(status=SweepStatus.FAILED)).seq == 1
    records, cursor = read(path.read_bytes())
    assert [5, 6] == [record.time_ms for record in records]
    assert cursor.offset == path.stat().st_size
    assert (tmp_path / "journal.jsonl.torn-1").read_bytes() == b'{"v":1,"seq":1,"ti'
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_writer_refuses_a_journal_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    """Going on would hide the damage; the file is left as it was."""
    path = tmp_path / "journal.jsonl"
    damaged = JOURNAL.replace(b"1787", b"1788")
    path.write_bytes(damaged)
    with pytest.raises(JournalCorrupted):
        JournalWriter(path, now_ms=lambda: 5)
    assert damaged == path.read_bytes()


def test_a_score_that_is_not_a_number_cannot_be_written_as_one() -> None:
    """JSON has no NaN; undefined metrics are None."""
    event = IterationFinished(
        iteration=0,
        state=IterationState.COMPLETED,
        started_ms=0,
        ended_ms=1,
        metrics={"AUC_weighted": float("nan")},
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(Record(seq=0, time_ms=0, event=event))


def test_the_state_of_a_sweep_tells_the_best_and_the_order() -> None:
    """Best so far at each end, the earlier of equals, failures last."""
    state = replay(RECORDS)
    assert state.status is SweepStatus.COMPLETED
    assert (0.91, 0.91, 0.97, 0.97, 0.97) == tuple(state.iterations[n].best for n in range(5))
    assert state.best is not None
    assert state.best.number == 2
    assert [2, 3, 4, 0, 1] == [iteration.number for iteration in state.ranked]
    assert state.iterations[1].state is IterationState.FAILED
    assert state.iterations[0].duration_s == 2.5
    assert state.iterations[0].pipeline == "MaxAbsScaler LightGBM"
    assert len(RECORDS) == state.n_events


def test_the_least_error_is_the_best_when_less_is_better() -> None:
    """The direction comes with the sweep."""
    events = sweep_events()
    events[0] = started(greater_is_better=False)
    state = replay(read(as_bytes(events))[0])
    assert state.best_iteration == 0
    assert [0, 4, 2, 3, 1] == [iteration.number for iteration in state.ranked]


def test_for_latency_the_best_is_the_fastest_near_the_best_score() -> None:
    """At each end anew; a faster one that is not near is on the front all the same."""
    settings = {"optimize_for": "latency"}
    scores = [(0.90, 8.0), (0.95, 9.0), (0.945, 2.0), (0.80, 1.0), (0.94, 3.0), (0.99, 5.0)]
    events: list[Event] = [started(settings=settings)]
    for number, (score, ms) in enumerate(scores):
        events += [
            IterationStarted(
                iteration=number, scaler="A", model="B", params={}, proposed_by="portfolio"
            ),
            IterationFinished(
                iteration=number,
                state=IterationState.COMPLETED,
                started_ms=0,
                ended_ms=1,
                metrics={"AUC_weighted": score},
                standard_error=0.01,
                predict_ms_per_row=ms,
            ),
        ]
    records = read(as_bytes(events))[0]
    best = [replay(records[: 3 + 2 * n]).best_iteration for n in range(len(scores))]
    assert [0, 1, 2, 2, 2, 5] == best
    state = replay(records)
    assert (3, 2, 5) == state.front
    assert [0.90, 0.95, 0.945, 0.945, 0.945, 0.99] == [
        state.iterations[n].best for n in range(len(scores))
    ]
    early = replay(records[:11])
    assert [2, 1, 4, 0, 3] == [one.number for one in early.ranked if one.score is not None]
    assert early == replay(records[7:11], replay(records[:7]))


def test_an_iteration_that_runs_again_replaces_the_one_that_was_lost() -> None:
    """After an agent's death the second attempt counts, and a finished iteration stays."""
    again = IterationStarted(
        iteration=0, scaler="A", model="B", params={}, proposed_by="optuna", attempt=2
    )
    state = replay(read(as_bytes([*sweep_events()[:3], again]))[0])
    assert state.iterations[0].attempt == 2
    assert state.finished == ()
    twice = [*sweep_events()[:4], sweep_events()[3]]
    assert replay(read(as_bytes(twice))[0]).finished == (0,)


def test_nothing_yet_is_a_state_too() -> None:
    """A follower can show a sweep whose agent has not written yet."""
    assert replay([]) == SweepState()
    assert SweepState().best is None
    assert SweepState().ranked == ()
