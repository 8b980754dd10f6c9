"""Order, replay and loss in the event log."""

import threading
import time

import pytest

from testronaut_lab.eventlog import MAX_QUEUED_HINTS, EventLog
from testronaut_lab.model.events import OutputChunk, Problem, Progress


def fact(text: str = "x") -> Problem:
    return Problem(text)


def hint() -> Progress:
    return Progress("image", "pulling")


def test_seq_counts_from_one_over_facts_and_hints():
    log = EventLog()
    assert [log.emit(body).seq for body in (fact(), hint(), fact())] == [1, 2, 3]


def test_an_event_carries_both_clocks():
    event = EventLog(wall=lambda: 5.0, mono=lambda: 7.0).emit(fact())
    assert (event.wall, event.mono) == (5.0, 7.0)


def test_a_late_reader_gets_all_facts_and_then_follows():
    log = EventLog()
    log.emit(fact("a"))
    log.emit(hint())
    reader = log.subscribe()
    log.emit(hint())
    log.emit(fact("b"))
    assert [event.seq for event in reader.drain()] == [1, 3, 4]


def test_a_reader_without_hints_gets_facts_only():
    log = EventLog()
    reader = log.subscribe(hints=False)
    log.emit(hint())
    log.emit(fact())
    assert [event.seq for event in reader.drain()] == [2]


def test_hints_are_dropped_for_a_slow_reader_and_facts_never():
    log = EventLog()
    slow, quick = log.subscribe(), log.subscribe()
    for _ in range(MAX_QUEUED_HINTS + 5):
        log.emit(OutputChunk("n", "stdout", b"x", 0.0))
        quick.drain()
    log.emit(fact())
    assert (slow.dropped_hints, quick.dropped_hints) == (5, 0)
    assert slow.drain()[-1].body.kind == "problem"


def test_hints_flow_again_after_the_reader_caught_up():
    log = EventLog()
    reader = log.subscribe()
    for _ in range(MAX_QUEUED_HINTS + 1):
        log.emit(hint())
    assert reader.get() is not None
    log.emit(hint())
    assert (reader.dropped_hints, len(reader.drain())) == (1, MAX_QUEUED_HINTS)


def test_closing_the_log_ends_iteration_after_the_queue_is_empty():
    log = EventLog()
    reader = log.subscribe()
    log.emit(fact())
    log.close()
    assert not reader.ended
    assert [event.seq for event in reader] == [1]
    assert reader.ended


def test_a_closed_log_still_replays_to_a_new_reader():
    log = EventLog()
    log.emit(fact())
    log.close()
    assert [event.seq for event in log.subscribe()] == [1]


def test_a_fact_after_close_is_refused_and_a_hint_goes_nowhere():
    log = EventLog()
    log.close()
    log.emit(hint())
    with pytest.raises(RuntimeError, match="problem came after"):
        log.emit(fact())


def test_get_returns_none_after_its_timeout():
    reader = EventLog().subscribe()
    assert reader.get(timeout_s=0.01) is None
    assert not reader.ended


def test_closing_a_subscription_wakes_the_thread_that_waits_in_it():
    reader = EventLog().subscribe()
    thread = threading.Thread(target=lambda: list(reader))
    thread.start()
    reader.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_closed_subscription_gets_nothing_more():
    log = EventLog()
    with log.subscribe() as reader:
        log.emit(fact())
    log.emit(fact())
    assert reader.drain() == []


def test_last_fact_passes_over_hints():
    log = EventLog()
    for body in (fact(), hint(), fact(), hint()):
        log.emit(body)
    assert (log.last_fact(), log.last_fact(2), log.last_fact(0)) == (3, 1, 0)


def test_every_reader_sees_the_same_order_whatever_thread_emits():
    log = EventLog()
    readers = [log.subscribe() for _ in range(3)]
    threads = [threading.Thread(target=lambda: [log.emit(fact()) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert [list(range(1, 2001))] * 3 == [[event.seq for event in reader] for reader in readers]


def test_emitting_without_a_reader_takes_microseconds():
    log, body = EventLog(), hint()
    rounds = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(500):
            log.emit(body)
        rounds.append((time.perf_counter() - start) / 500)
    assert min(rounds) < 10e-6
