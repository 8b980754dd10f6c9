"""Plans with terminals and background programs: what becomes of their keys, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from testronaut_lab.errors import UsageError
from testronaut_lab.model.expect import TextExpect
from testronaut_lab.model.interaction import AwaitOutput, AwaitScreen, AwaitSettled, PressKey, Ready, Resize, SendText, Tty
from testronaut_lab.model.plan import Plan, Step, substitute
from testronaut_lab.model.result import Phase
from testronaut_lab.planfile import parse_plan
from testronaut_lab.planfile.load import plan_schema

SERVER = {"id": "start", "background": "web", "run": "serve"}


def plan(*steps: object, **keys: object) -> Plan:
    tree = {"image": "debian", "steps": list(steps), **keys}
    jsonschema.validate(tree, plan_schema())
    return parse_plan(tree, root=Path("/nonexistent"), name="x")


def only(**keys: object) -> Step:
    return plan({"run": "x", **keys}).cases[0].steps[0]


def message_for(*steps: object) -> str:
    with pytest.raises(UsageError) as raised:
        parse_plan({"image": "debian", "steps": list(steps)}, root=Path("/nonexistent"), name="x")
    return raised.value.message.removeprefix("x: ")


def test_a_terminal_has_its_defaults() -> None:
    assert (only(tty=True).tty, only(tty={"cols": 100}).tty, only(tty=False).tty) == (Tty(), Tty(100), None)


def test_interactions_keep_their_order_and_deadlines() -> None:
    step = only(
        tty=True,
        interact=[
            {"screen": "3/3", "timeout": "5s"}, {"screen": {"matches": "^a"}}, {"settled": "300ms"}, {"expect": r"\\x1b"},
            {"send": "cher"}, {"key": "enter"}, {"resize": {"cols": 100, "rows": 30}},
        ],
    )  # fmt: skip
    assert step.interact == (
        AwaitScreen(TextExpect(contains=("3/3",)), 5.0), AwaitScreen(TextExpect(matches="^a")), AwaitSettled(0.3),
        AwaitOutput(r"\\x1b"), SendText("cher"), PressKey("enter"), Resize(100, 30),
    )  # fmt: skip


def test_a_screen_is_expected() -> None:
    step = only(tty=True, expect={"screen": {"contains": ["a"], "lines": 2}})
    assert step.expect.screen == TextExpect(contains=("a",), lines=2)


def test_saved_values_reach_what_is_typed_and_expected_of_a_screen() -> None:
    saving = {"run": "x", "save": {"a": {"matches": "."}}}
    talk = [{"send": "${{a}}"}, {"screen": "${{a}}"}, {"expect": "${{a}}"}]
    step = plan(saving, {"run": "y", "tty": True, "interact": talk}).cases[0].steps[1]
    screen = AwaitScreen(TextExpect(contains=("1.5",)))
    assert substitute(step, {"a": "1.5"}).interact == (SendText("1.5"), screen, AwaitOutput(r"1\.5"))


@pytest.mark.parametrize("way", [{"port": 80}, {"log": "up"}, {"file": "a/b"}, {"run": "true"}])
def test_a_background_program_is_ready_one_way(way: dict[str, object]) -> None:
    step = only(background="web", ready={**way, "timeout": "3s"})
    assert (step.background, step.ready) == ("web", Ready(**way, timeout_s=3.0))  # type: ignore[arg-type]


def test_a_program_that_no_step_stops_is_stopped_after_teardown() -> None:
    made = plan(SERVER, "x", teardown=["clean"]).cases[0]
    assert [step.id for step in made.steps] == ["start", "x"]
    assert [(step.id, step.stop, step.phase) for step in made.teardown] == [
        ("clean", None, Phase.TEARDOWN),
        ("stop-web", "web", Phase.TEARDOWN),
    ]


def test_in_one_session_for_all_a_program_ends_with_its_own_case() -> None:
    made = plan(SERVER, isolation="plan", setup=[{"background": "db", "run": "x"}]).cases[0]
    assert [(step.stop, step.phase) for step in made.steps[1:]] == [("web", Phase.TEARDOWN)]
    assert [step.stop for step in made.teardown] == ["db"]


def test_a_program_that_is_stopped_needs_no_other_end() -> None:
    assert plan(SERVER, {"stop": "web"}).cases[0].teardown == ()


def test_any_end_of_a_stopped_program_will_do_unless_one_is_expected() -> None:
    made = plan(SERVER, {"stop": "web"}, SERVER | {"id": "again"}, {"stop": "web", "expect": {"exit": 0}}, expect={"exit": 3})
    ends = [step.expect.exit.codes for step in made.cases[0].steps if step.stop]
    assert ends == [tuple(range(256)), (0,)]


def test_defaults_are_not_for_programs_that_go_on() -> None:
    made = plan(SERVER, {"signal": {"web": "HUP"}}, {"stop": "web"}, golden=True, expect={"stderr": {"empty": True}})
    assert [(step.golden, step.expect.stderr) for step in made.cases[0].steps] == [(None, None)] * 3


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"run": "x", "interact": [{"key": "enter"}]}], "steps[0].interact: 'interact' needs 'tty' beside it"),
        ([{"run": "x", "tty": False, "interact": [{"key": "enter"}]}], "steps[0].interact: 'interact' needs 'tty' beside it"),
        ([{"run": "x", "ready": {"port": 1}}], "steps[0].ready: 'ready' needs 'background' beside it"),
        ([{"run": "x", "tty": True, "stdin": "a"}], "steps[0].stdin: 'tty' and 'stdin' exclude each other"),
        ([{"run": "x", "tty": True, "background": "a"}], "steps[0].background: 'tty' and 'background' exclude each other"),
        ([{**SERVER, "expect": {"exit": 0}}], "steps[0].expect: 'background' and 'expect' exclude each other"),
        ([{"stop": "web"}], "steps[0].stop: no background program 'web' runs here; no step before this one starts one"),
        ([SERVER, {"stop": "wep"}], "steps[1].stop: no background program 'wep' runs here; did you mean 'web'?"),
        ([SERVER, {"stop": "web"}, {"signal": {"web": "HUP"}}],
         "steps[2].signal: no background program 'web' runs here; no step before this one starts one"),
        ([SERVER, {**SERVER, "id": "b"}], "steps[1].background: a background program 'web' runs already"),
        ([SERVER, {"stop": "web", "env": {"A": "b"}}], "steps[1].env: 'stop' and 'env' exclude each other"),
        ([{"run": "x", "stop": "web"}], "steps[0]: 'run' and 'stop' exclude each other"),
        ([{"run": "x", "expect": {"screen": {"lines": 1}}}], "steps[0].expect: 'screen' needs 'tty' in the step"),
        ([{"run": "x", "tty": True, "interact": [{"key": "entr"}]}],
         "steps[0].interact[0].key: unknown key 'entr'; did you mean 'enter'?"),
        ([{"run": "x", "tty": True, "interact": [{"expect": "("}]}],
         "steps[0].interact[0].expect: cannot read the regex '(': missing ), unterminated subpattern at position 0"),
        ([{"run": "x", "tty": {"cols": 0}}], "steps[0].tty.cols: expected columns from 1 to 1000, found 0"),
        ([{**SERVER, "ready": {"port": 1, "log": "a"}}], "steps[0].ready: 'port' and 'log' exclude each other"),
        ([{**SERVER, "ready": {"file": "/a"}}], "steps[0].ready.file: expected a path relative to the workspace, found '/a'"),
        ([SERVER, {"signal": {"web": "NONE"}}], "steps[1].signal.web: expected a signal such as KILL or TERM, found 'NONE'"),
    ],
)  # fmt: skip
def test_what_cannot_stand_is_named(steps: list[object], message: str) -> None:
    assert message_for(*steps) == message


def test_a_step_is_merged_where_it_says_so() -> None:
    assert (only(merge=True).merge, only(merge=False, tty=True).merge, only().merge) == (True, False, False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tty": True}, "'merge' and 'tty' exclude each other"),
        ({"background": "web"}, "'merge' and 'background' exclude each other"),
        ({"expect": {"stderr": {"empty": True}}}, "'merge' leaves nothing on stderr; expect it of 'stdout'"),
        ({"save": {"a": {"from": "stderr", "matches": "x"}}}, "'merge' leaves nothing on stderr; save it from 'stdout'"),
    ],
)
def test_what_a_merged_step_cannot_have_is_refused(keys: dict[str, object], message: str) -> None:
    assert message in message_for({"run": "x", "merge": True, **keys})


def test_a_default_for_stderr_cannot_hold_for_a_merged_step() -> None:
    tree = {"image": "debian", "expect": {"stderr": ""}, "setup": [{"run": "y", "merge": True}], "steps": [{"run": "x"}]}
    parse_plan(tree, root=Path("/nonexistent"), name="x")  # it does not hold for setup
    with pytest.raises(UsageError, match="'merge' leaves nothing there"):
        parse_plan({**tree, "steps": [{"run": "x", "merge": True}]}, root=Path("/nonexistent"), name="x")
