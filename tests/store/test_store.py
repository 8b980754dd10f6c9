"""The results database: facts that `wait` confirmed survive a kill, and runs are listed, found and read back."""

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from testronaut_lab.errors import CaptureError, ExitStatus, UsageError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import (
    CaseFinished,
    InstallLogged,
    PlanStarted,
    Problem,
    Progress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepJudged,
    StepStarted,
    StepsUndone,
)
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.result import Captured, Exit, ExitKind, Phase, Status, StepResult
from testronaut_lab.model.runs import new_run_id
from testronaut_lab.model.undo import UndoHow
from testronaut_lab.store.database import Store

RUN = "20261122-184512-3f9a"
SHA = "ab" * 32


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / ".testronaut" / "results.db")


def query(store: Store, sql: str) -> list[tuple]:
    connection = sqlite3.connect(store.file)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def step(id_: str, code: int = 0, **more) -> StepFinished:
    return StepFinished(0, "p::c", StepResult(id_, f"p::c::{id_}", Exit(ExitKind.EXITED, code), Status.PASSED, run="x", **more))


def write(store: Store, *bodies, run: str = RUN) -> EventLog:
    log = EventLog()
    writer = store.writer(run, log)
    for body in bodies:
        log.emit(body)
    writer.close()
    return log


def whole_run(run: str = RUN, started: str = "2026-11-22T18:45:12Z") -> tuple:
    return (
        RunStarted(run, started),
        PlanStarted(0, "p", "p.lab.yaml", "debian", "none", "lab", (("c", "p::c", (), 2),)),
        step("a", 3),
        StepJudged(0, "p::c", "p::c::a", Status.FAILED),
        StepStarted(0, "p::c", "b", "p::c::b", Phase.STEPS, "x"),
        StepJudged(0, "p::c", "p::c::b", Status.SKIPPED),
        CaseFinished(0, "p::c", Status.FAILED, 0.5),
        RunFinished("2026-11-22T18:45:13Z", Status.FAILED, ExitStatus.FAILED),
    )


def test_events_come_back_as_they_were_emitted(store):
    log = write(store, *whole_run())
    assert list(store.events(RUN)) == log.subscribe().drain()


def test_more_events_than_a_page_come_back_in_order(store):
    write(store, *(InstallLogged(0, "jq", f"line {n}") for n in range(1203)))
    assert [event.body.line for event in store.events(RUN)] == [f"line {n}" for n in range(1203)]


def test_hints_are_not_stored(store):
    write(store, Problem("a"), Progress("image", "pulling"), Problem("b"))
    assert [event.seq for event in store.events(RUN)] == [1, 3]


def test_a_finished_run_is_summarised(store):
    write(store, *whole_run())
    (run,) = store.runs()
    assert (run.id, run.started, run.finished) == (RUN, "2026-11-22T18:45:12Z", "2026-11-22T18:45:13Z")
    assert (run.status, run.plans, run.totals["failed"], run.totals["passed"]) == (Status.FAILED, ("p.lab.yaml",), 1, 0)


def test_steps_are_indexed_with_their_verdicts(store):
    write(store, *whole_run())
    rows = query(store, "SELECT nodeid, status, exit_kind, code FROM steps ORDER BY seq")
    assert rows == [("p::c::a", "failed", "exited", 3), ("p::c::b", "skipped", None, None)]


def test_a_run_being_written_is_running_and_one_that_was_left_is_interrupted(store):
    log = EventLog()
    writer = store.writer(RUN, log)
    writer.wait(log.emit(RunStarted(RUN, "2026-11-22T18:45:12Z")).seq)
    assert [run.status for run in store.runs()] == ["running"]
    writer.close()
    assert [run.status for run in store.runs()] == ["interrupted"]


def test_the_lock_of_a_finished_run_is_gone(store):
    write(store, *whole_run())
    assert list((store.file.parent / "runs").iterdir()) == []


def test_a_run_without_a_start_is_dated_by_its_first_event(store):
    log = EventLog(wall=lambda: 0.0)
    writer = store.writer(RUN, log)
    log.emit(step("a"))
    writer.close()
    assert store.runs()[0].started == "1970-01-01T00:00:00.000+00:00"


def test_waiting_for_a_hint_waits_for_the_facts_before_it(store):
    log = EventLog()
    writer = store.writer(RUN, log)
    log.emit(Problem("a"))
    writer.wait(log.emit(Progress("image", "x")).seq)
    assert writer.committed_seq == 1
    writer.close()


def test_a_second_writer_of_one_run_is_refused(store):
    writer = store.writer(RUN, EventLog())
    with pytest.raises(CaptureError, match="another process began this run"):
        store.writer(RUN, EventLog())
    writer.close()


def test_a_failing_write_is_raised_by_wait_and_by_close(store):
    log = EventLog()
    writer = store.writer(RUN, log)
    connection = sqlite3.connect(store.file)
    connection.execute("DROP TABLE events")
    connection.close()
    seq = log.emit(Problem("a")).seq
    with pytest.raises(CaptureError, match=r"storing run .* no such table"):
        writer.wait(seq)
    with pytest.raises(CaptureError, match="no such table"):
        writer.close()


def test_text_that_has_no_stored_form_is_a_capture_error(store):
    log = EventLog()
    writer = store.writer(RUN, log)
    log.emit(Problem("\ud800"))
    with pytest.raises(CaptureError, match="storing run"):
        writer.close()


def test_wait_gives_up_after_its_timeout(store):
    log = EventLog()
    writer = store.writer(RUN, log)
    blocker = sqlite3.connect(store.file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(CaptureError, match=r"was not on disk after 0\.05 s"):
        writer.wait(log.emit(Problem("a")).seq, timeout_s=0.05)
    blocker.execute("COMMIT")
    blocker.close()
    writer.close()
    assert len(list(store.events(RUN))) == 1


def test_a_damaged_event_is_told(store):
    write(store, Problem("a"))
    connection = sqlite3.connect(store.file)
    with connection:
        connection.execute("UPDATE events SET payload = x'7b7d'")
    connection.close()
    with pytest.raises(CaptureError, match="event 1 is damaged or of a newer version"):
        list(store.events(RUN))


def test_runs_are_listed_newest_first(store):
    for second in (1, 3, 2):
        write(store, RunStarted(f"r{second}", f"2026-11-22T18:45:0{second}Z"), run=f"r{second}")
    assert [run.id for run in store.runs()] == ["r3", "r2", "r1"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("last", "20261122-190000-0002"), ("20261122-18", "20261122-180000-0001"), ("20261122-180000-0001", "20261122-180000-0001")],
)
def test_a_run_is_found_by_a_prefix_or_as_the_last(store, wanted, found):
    for hour, n in ((18, 1), (19, 2)):
        run = f"20261122-{hour}0000-000{n}"
        write(store, RunStarted(run, f"2026-11-22T{hour}:00:00Z"), run=run)
    assert store.find(wanted) == found


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("2026", "'2026' is the start of 2 runs: 20261122-184512-3f9b, 20261122-184512-3f9a"),
        ("20261122-184512-3fff", "no stored run .*; the nearest is 20261122-184512-3f9"),
        ("", "no stored run ''"),
    ],
)
def test_a_run_that_is_not_one_is_refused(store, wanted, message):
    for run in (RUN, "20261122-184512-3f9b"):
        write(store, RunStarted(run, "2026-11-22T18:45:12Z"), run=run)
    with pytest.raises(UsageError, match=message) as refusal:
        store.find(wanted)
    assert refusal.value.hint == "testronaut-lab runs"


def test_finding_the_last_of_no_runs_says_so(store):
    with pytest.raises(UsageError, match="there are no runs yet"):
        store.find("last")


def test_referenced_blobs_are_large_streams_and_changed_files(store):
    change = FileChange(ChangeKind.ADDED, "out", FileType.FILE, 0o644, 3, "cd" * 32)
    write(store, step("a", stdout_stream=Captured(20_000, SHA, None), changes=(change,)))
    assert store.referenced_blobs() == {SHA, "cd" * 32}


def test_a_newer_database_is_refused(store):
    connection = sqlite3.connect(store.file)
    with connection:
        connection.execute("UPDATE meta SET version = 2")
    connection.close()
    with pytest.raises(UsageError, match="it has version 2, and this program knows up to 1"):
        Store.open(store.file)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "x.db").write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(CaptureError, match="file is not a database"):
        Store.open(tmp_path / "x.db")


def test_a_disk_that_is_full_when_the_database_is_opened_is_told(tmp_path):
    opening = "from pathlib import Path; from testronaut_lab.store.database import Store; import resource, sys\n"
    opening += "from testronaut_lab.errors import CaptureError\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, -1))\n"
    opening += "try: Store.open(Path(sys.argv[1]))\nexcept CaptureError as error: print(error.message)\n"
    opening += "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))"  # for those who measure this process
    said = subprocess.run([sys.executable, "-c", opening, tmp_path / "r.db"], capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr) == (f"using the results database {tmp_path}/r.db: disk I/O error\n", "")


def test_the_database_is_durable_by_its_settings(store):
    assert query(store, "PRAGMA journal_mode") == [("wal",)]
    with store._engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "busy_timeout")]
    assert settings == [2, 10_000]


def test_a_url_of_sqlite_names_a_file(tmp_path):
    assert Store.open(f"sqlite:///{tmp_path}/x.db").file == tmp_path / "x.db"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://h/d", "a postgresql database is not supported yet"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("://", "not a database URL"),
    ],
)
def test_other_urls_are_refused(url, message):
    with pytest.raises(UsageError, match=message):
        Store.open(url)


def test_a_run_id_tells_the_second_and_four_digits():
    assert new_run_id(datetime(2026, 11, 22, 18, 45, 12), 0x123F9A) == RUN  # noqa: DTZ001


WRITER = """
import sys
from pathlib import Path
from testronaut_lab.eventlog import EventLog
from testronaut_lab.model.events import Problem, RunStarted
from testronaut_lab.store.database import Store

log = EventLog()
run, count = sys.argv[2], int(sys.argv[3])
writer = Store.open(Path(sys.argv[1])).writer(run, log)
log.emit(RunStarted(run, "2026-11-22T18:45:12Z"))
for n in range(count):
    for _ in range(n % 3):
        log.emit(Problem("more"))
    event = log.emit(Problem("x" * 500))
    writer.wait(event.seq)
    print(event.seq, flush=True)
writer.close()
"""


def writing(store: Store, run: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(store.file), run, str(count)], stdout=subprocess.PIPE, cwd=ROOT)


ROOT = Path(__file__).parents[2]


def test_sigkill_loses_nothing_that_wait_returned_for(store):
    for n in range(20):
        process = writing(store, f"run-{n}", 10**6)
        lines = [process.stdout.readline() for _ in range(1 + n % 7)]
        os.kill(process.pid, signal.SIGKILL)
        promised = [int(line) for line in (*lines, *process.stdout) if line.endswith(b"\n")]
        process.communicate()
        stored = [event.seq for event in store.events(f"run-{n}")]
        assert stored == list(range(1, len(stored) + 1))
        assert stored[-1] >= max(promised)
    assert query(store, "PRAGMA integrity_check") == [("ok",)]
    assert {run.status for run in store.runs()} == {"interrupted"}


def test_two_processes_write_at_once(tmp_path):
    store = Store.open(tmp_path / "results.db")
    processes = [writing(store, run, 60) for run in ("one", "two")]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert [len(list(store.events(run))) for run in ("one", "two")] == [121, 121]


def test_a_database_opened_first_by_two_processes_at_once_is_made_once(tmp_path):
    opening = "import sys; from testronaut_lab.store.database import Store; Store.open(sys.argv[1])"
    command = [sys.executable, "-c", opening, str(tmp_path / "x.db")]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]


def test_undone_steps_are_in_the_events_and_not_in_the_index(store: Store):
    undone = StepsUndone(0, "p::c", ("p::c::a", "p::c::b"), UndoHow.SHELL, ("a note",))
    write(store, RunStarted(RUN, "2026"), step("a"), step("a"), step("b"), undone)
    assert query(store, "select nodeid from steps") == [("p::c::a",)]
    assert [event.body for event in store.events(RUN)][-1] == undone
