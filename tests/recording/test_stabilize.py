"""What of a step's output can be its golden: rules for what differs from run to run, nothing of what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from test_draft import captured, seen

from testronaut_lab.execution.context import StepRequest
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import GoldenSpec, Step
from testronaut_lab.model.result import Exit, ExitKind, Mismatch
from testronaut_lab.recording.draft import Choice
from testronaut_lab.recording.journal import Seen
from testronaut_lab.recording.stabilize import Fix, first_choice, fix, passing

NOW = datetime(2026, 3, 5, 12, 30, tzinfo=UTC)
GOLDEN = (Mismatch("golden", "", ""),)
ASKED = StepRequest("x", "", "x")


def did(out: bytes = b"", err: bytes = b"", code: int = 0, **more: object) -> Seen:
    more.setdefault("stderr_stream", captured(err))
    return seen(ASKED, Exit(ExitKind.EXITED, code), out, **more)  # type: ignore[arg-type]


def with_facts(ran: Seen) -> Seen:
    return replace(ran, facts=Facts(kernel="6.1.0-28-amd64", pids=(4711,)))


def after(session: Seen, replayed: Seen, choice: Choice | None = None) -> Fix:
    choice = choice or Choice()
    step = Step("x", "a.lab.yaml::main::x", run="x", golden=GoldenSpec(streams=choice.streams, normalize=choice.rules))  # type: ignore[arg-type]
    return fix(step, choice, session, replayed)


@pytest.mark.parametrize(
    ("out", "rules"),
    [
        (b"now 2026-03-05T12:30:01Z", ("timestamp",)), (b"-rw-r--r-- 1 lab lab 3 Mar  5 12:30 a", ("timestamp",)),
        (b"Thu Mar  5 12:30:01 UTC 2026", ("timestamp",)), (b"born 1999-12-31T23:59:59Z", ()), (b"1.2.3", ()),
        (b"id 0b7a4f3e-6f0a-4c43-9a34-6a3d6f2d9b01", ("uuid",)), (b"/tmp/tmp.aB3dE6gH1j", ("tmp",)), (b"pid 42", ("pid",)),
        (b"built 2026-03-05", ("date",)), (b"March 5, 2026", ("date",)), (b"1999-12-31", ()), (b"6.1.0-28-amd64", ("kernel",)),
        (b"4711\n", ("pid",)),
    ],
)  # fmt: skip
def test_what_surely_differs_is_seen_in_the_output_itself(out: bytes, rules: tuple[str, ...]) -> None:
    choice, note = first_choice(passing(with_facts(did(out)), "4711 is given", NOW))
    assert (rules, bool(rules)) == (choice.rules, note.startswith("normalised, as it would differ elsewhere or later: "))


def test_what_is_normalised_without_a_difference_is_said_with_its_value() -> None:
    _, note = first_choice(passing(did(b"at 2026-03-05T12:30:01Z pid 42"), "", NOW))
    assert note.endswith("later: timestamp ('2026-03-05T12:30:01Z'), pid ('42')")


def test_what_the_session_was_given_is_no_such_thing() -> None:
    given = '{"at": "2026-03-05T12:30:01Z", "id": "0b7a4f3e-6f0a-4c43-9a34-6a3d6f2d9b01"}'
    assert {} == passing(did(given.encode()), given, NOW)


def test_the_rule_that_makes_two_runs_the_same_is_found_and_no_other() -> None:
    found = after(did(b"took 12 ms, 3 files"), did(b"took 7 ms, 3 files", mismatches=GOLDEN))
    said = "stdout was 'took 12 ms, 3 files', then 'took 7 ms, 3 files'; normalised: duration"
    assert Fix(Choice(rules=("duration",)), said) == found


def test_rules_that_were_there_stay() -> None:
    choice = Choice(rules=("timestamp",))
    found = after(did(b"2026-03-05 12:30:01 took 12 ms"), did(b"2026-03-05 12:30:01 took 7 ms", mismatches=GOLDEN), choice)
    assert ("timestamp", "duration") == (found.choice or Choice()).rules


def test_what_no_rule_helps_is_kept_as_it_was_replayed_first() -> None:
    replayed = did(b"b", mismatches=GOLDEN)
    found = after(did(b"a"), replayed)
    assert found == Fix(Choice(shown=replayed), "stdout was 'a', then 'b'; kept as it was when replayed")


def test_and_if_it_differs_again_that_stream_is_left_out() -> None:
    found = after(did(b"a", b"took 1 s"), did(b"c", b"took 3 s", mismatches=GOLDEN), Choice(shown=did(b"b", b"took 2 s")))
    assert Choice(rules=("duration",), streams=("stderr",)) == found.choice
    assert "stdout differs from run to run and is not kept: stdout was 'b', then 'c'" == found.note


def test_only_the_first_line_that_differs_is_shown_and_not_all_of_a_long_one() -> None:
    found = after(did(b"same\n" + b"x" * 100 + b"\n1\n"), did(b"same\n" + b"y" * 100, mismatches=GOLDEN))
    assert found.note.startswith(f"stdout was {'x' * 60!r} …, then {'y' * 60!r} …; ")


def test_of_a_terminal_the_screen_is_expected_where_what_painted_it_differs() -> None:
    found = after(did(b"a", screen="same"), did(b"c", screen="same", mismatches=GOLDEN), Choice(shown=did(b"b", screen="same")))
    assert Choice(golden=False, screen="same") == found.choice


def test_a_command_line_or_changes_that_differ_leave_no_golden() -> None:
    found = after(did(touched=["a"]), did(touched=["c"], mismatches=GOLDEN), Choice(shown=did(touched=["b"])))
    assert Choice(golden=False) == found.choice


def test_exit_statuses_that_differ_are_all_expected() -> None:
    wrong = (Mismatch("exit", "exit 0", "exit 1"),)
    assert Choice(golden=False, codes=(0, 1)) == after(did(), did(code=1, mismatches=wrong)).choice
    assert Choice(golden=False, codes=(0, 1, 2)) == after(did(), did(code=2, mismatches=wrong), Choice(codes=(0, 1))).choice


def test_what_ended_otherwise_and_what_was_expected_by_hand_cannot_be_mended() -> None:
    timeout = seen(ASKED, Exit(ExitKind.TIMEOUT), mismatches=(Mismatch("exit", "exit 0", "timed out"),))
    assert after(did(), timeout).choice is None
    found = after(did(b"a"), did(b"b", mismatches=(Mismatch("stdout.contains", "a", "b"), *GOLDEN)))
    assert (None, "does not meet its expectations again: stdout.contains, golden") == (found.choice, found.note)
