"""Which limits hold in a container, the report if one does not, and the refusal if limits are required."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from conftest import MakeSession
from support.command_line import HELLO, Project
from support.control_groups import HYBRID, ID, LAYOUTS, V1, V2, Layout, own, write

from testronaut_lab import Session
from testronaut_lab.container.cgroup import CgroupMeter
from testronaut_lab.container.cgroup_lookup import OwnGroups, own_groups
from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.limits import LimitCheck, from_inside, from_outside, unenforced
from testronaut_lab.container.manager import start_step_container
from testronaut_lab.container.protocol import StepContainerSpec
from testronaut_lab.errors import EngineError, ExitStatus
from testronaut_lab.execution import factory
from testronaut_lab.execution.runner import LiveSession
from testronaut_lab.model.events import Problem
from testronaut_lab.model.plan import Limits
from testronaut_lab.model.result import EngineInfo, ExitKind, Status, Usage
from testronaut_lab.planfile import parse_plan
from testronaut_lab.run.plan_run import RunOptions, run_plans

SPEC = StepContainerSpec("name", "image", ("sh",), "1000:1000", "none", True, memory_bytes=512 * 2**20, cpus=1.0, pids=256)
ALL = ("limits.memory", "limits.cpus", "limits.pids")


def changed(layout: Layout, name: str, text: str | None) -> Layout:
    """The layout with another text in the files of this name, or without them."""
    files: Mapping[str, str] = {
        path: text if path.endswith(f"/{name}") and text is not None else before
        for path, before in layout.files.items()
        if text is not None or not path.endswith(f"/{name}")
    }
    return replace(layout, files=files)


def with_swap(layout: Layout) -> Layout:
    swaps = {"proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/swap file 1 0 -2\n"}
    return replace(layout, files={**layout.files, **swaps})


def lacking(root: Path, layout: Layout) -> tuple[str, ...]:
    return unenforced(SPEC, from_outside(own(write(root, layout)), root))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "rootless with systemd"])
def test_limits_that_are_there_as_asked_for_hold(tmp_path: Path, name: str) -> None:
    assert lacking(tmp_path, LAYOUTS[name]) == ()


def test_a_controller_that_is_not_delegated_has_no_limit(tmp_path: Path) -> None:
    assert lacking(tmp_path, LAYOUTS["rootless with systemd"]) == ("limits.cpus",)


@pytest.mark.parametrize("layout", [V1, V2, HYBRID], ids=["v1", "v2", "hybrid"])
def test_a_container_in_a_group_of_others_has_no_limits(tmp_path: Path, layout: Layout) -> None:
    assert lacking(tmp_path, replace(layout, told=layout.told.replace(ID, "somebody-elses"))) == ALL


@pytest.mark.parametrize(
    ("layout", "name", "text", "limit"),
    [
        (V1, "memory.limit_in_bytes", "9223372036854771712\n", "limits.memory"),
        (V1, "memory.limit_in_bytes", "268435456\n", "limits.memory"),  # lower than requested: a shared group
        (V1, "memory.memsw.limit_in_bytes", "9223372036854771712\n", "limits.memory"),
        (V1, "cpu.cfs_quota_us", "-1\n", "limits.cpus"),
        (V1, "cpu.cfs_period_us", "50000\n", "limits.cpus"),
        (V1, "pids.max", "max\n", "limits.pids"),
        (V1, "pids.max", None, "limits.pids"),
        (V2, "memory.max", "max\n", "limits.memory"),
        (V2, "memory.swap.max", "max\n", "limits.memory"),
        (V2, "cpu.max", "max 100000\n", "limits.cpus"),
        (V2, "cpu.max", "200000 100000\n", "limits.cpus"),
        (V2, "cpu.max", None, "limits.cpus"),
        (V2, "pids.max", "256\n", "limits.pids"),
    ],
)
def test_a_limit_that_is_not_as_asked_for_does_not_hold(
    tmp_path: Path, layout: Layout, name: str, text: str | None, limit: str
) -> None:
    assert lacking(tmp_path, with_swap(changed(layout, name, text))) == (limit,)


@pytest.mark.parametrize(("layout", "name"), [(V1, "memory.memsw.limit_in_bytes"), (V2, "memory.swap.max")], ids=["v1", "v2"])
def test_swap_that_cannot_be_limited_matters_only_where_there_is_some(tmp_path: Path, layout: Layout, name: str) -> None:
    without = changed(layout, name, None)
    assert lacking(tmp_path, without) == ()
    assert lacking(tmp_path, with_swap(without)) == ("limits.memory",)


def test_a_limit_of_memory_is_rounded_to_pages_and_one_of_cpus_to_hundredths(tmp_path: Path) -> None:
    seen = from_outside(own(write(tmp_path, changed(V2, "cpu.max", "34000 100000\n"))), tmp_path)
    assert unenforced(replace(SPEC, memory_bytes=512 * 2**20 + 1000, cpus=0.333), seen) == ()


class Refusing:
    """The client of an engine that reports what the test wants, and refuses CPUs like a Docker that cannot limit them."""

    def __init__(self, **said: object) -> None:
        self._said = said
        self.hooks: dict[str, list[object]] = {"response": []}
        self.asked: list[set[str]] = []

    @property
    def api(self) -> Refusing:
        return self

    def info(self) -> dict[str, object]:
        return self._said

    def create_host_config(self, **options: object) -> dict[str, object]:
        return options

    def create_container(self, image: str, *, host_config: dict[str, object], **more: object) -> dict[str, str]:
        self.asked.append({"nano_cpus", "mem_limit", "memswap_limit", "pids_limit"} & host_config.keys())
        if "nano_cpus" in host_config:
            raise docker.errors.APIError("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler")
        return {"Id": ID}

    def start(self, container_id: str) -> None:
        pass


def test_a_limit_that_the_engine_refuses_and_says_it_lacks_is_left_out() -> None:
    client = Refusing(MemoryLimit=True, PidsLimit=True, CpuCfsQuota=False)
    engine = Engine(client, EngineInfo("docker", "26.1", "1.45"), "/nowhere")  # type: ignore[arg-type]
    assert start_step_container(engine, SPEC).id == ID
    assert client.asked == [
        {"nano_cpus", "mem_limit", "memswap_limit", "pids_limit"},
        {"mem_limit", "memswap_limit", "pids_limit"},
    ]


def test_a_refusal_that_is_not_about_limits_stands() -> None:
    client = Refusing(MemoryLimit=True, PidsLimit=True, CpuCfsQuota=True)
    with pytest.raises(EngineError, match="NanoCPUs"):
        start_step_container(Engine(client, EngineInfo("docker", "26.1", "1.45"), "/nowhere"), SPEC)  # type: ignore[arg-type]
    assert len(client.asked) == 1


def spec_of(limits: Limits) -> StepContainerSpec:
    """The limits in the container spec of a session with these limits."""
    return replace(SPEC, memory_bytes=limits.memory_bytes, cpus=limits.cpus, pids=limits.pids)


def looked_at(check: LimitCheck, engine: Engine, session: LiveSession, spec: StepContainerSpec, *, hidden: bool = False) -> None:
    container = session._container
    groups = OwnGroups({}) if hidden else own_groups(container.id, container.state().pid)
    meter = CgroupMeter(groups)
    try:
        check.container(engine, container, spec, groups, meter)
    finally:
        meter.close()


@pytest.mark.engine
def test_the_limits_of_a_running_container_hold_from_outside_and_from_inside(make_session: MakeSession) -> None:
    limits = Limits(memory_bytes=100_000_000, cpus=0.333, pids=77)
    container = make_session(limits=limits).session._container
    outside, inside = from_outside(own_groups(container.id, container.state().pid)), from_inside(container)
    assert [unenforced(spec_of(limits), seen) for seen in (outside, inside)] == [(), ()]
    other = spec_of(Limits(memory_bytes=200_000_000, cpus=0.5, pids=78))
    assert [unenforced(other, seen) for seen in (outside, inside)] == [ALL, ALL]


@pytest.mark.engine
def test_what_does_not_hold_is_said_once(make_session: MakeSession, engine: Engine) -> None:
    session, told = make_session().session, list[Problem]()
    check = LimitCheck(told.append, required=False)
    for _ in range(2):
        looked_at(check, engine, session, replace(spec_of(Limits()), pids=3))
    assert [problem.message for problem in told] == [
        "in the session's container limits.pids is not enforced: its control group lacks what is needed"
    ]


@pytest.mark.engine
def test_nothing_is_said_where_all_holds(make_session: MakeSession, engine: Engine) -> None:
    session, told = make_session().session, list[Problem]()
    looked_at(LimitCheck(told.append, required=True), engine, session, spec_of(Limits()))
    assert told == []


@pytest.mark.engine
def test_what_is_enforced_out_of_our_sight_is_only_not_measured(make_session: MakeSession, engine: Engine) -> None:
    session, told = make_session().session, list[Problem]()
    looked_at(LimitCheck(told.append, required=False), engine, session, spec_of(Limits()), hidden=True)
    assert [problem.message for problem in told] == [
        "in the session's container CPU time, memory, kills for lack of memory and refused processes are not measured:"
        " no control group of its own can be found for it"
    ]


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose containers' groups cannot be seen from here, as from a job container beside them."""
    monkeypatch.setattr(factory, "own_groups", lambda container_id, pid: OwnGroups({}))


def plan_of(root: Path, *steps: Mapping[str, object]) -> object:
    tree = {
        "version": 1,
        "image": "debian:bookworm-slim",
        "cases": [{"id": str(i), "steps": [step]} for i, step in enumerate(steps)],
    }
    return parse_plan(tree, root=root, name="x")


@pytest.mark.engine
@pytest.mark.usefixtures("hidden")
def test_steps_whose_usage_nobody_can_measure_have_none_and_expectations_on_it_are_errors(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        {"run": "echo fine"},
        {"run": "true", "expect": {"max": {"cpu": "1s"}}},
        {"run": "sleep 0.3", "expect": {"max": {"memory": "1GiB"}}},
        {"run": "kill -9 $$", "expect": {"signal": "KILL"}},
    )
    result = run_plans([plan], RunOptions())  # type: ignore[list-item]
    steps = [case.steps[0] for case in result.plans[0].cases]
    assert [step.status for step in steps] == [Status.PASSED, Status.ERROR, Status.ERROR, Status.ERROR]
    assert {step.usage for step in steps} == {Usage(None, None, None, (ExitKind.OOM, ExitKind.PIDS_LIMIT))}


@pytest.mark.engine
@pytest.mark.usefixtures("hidden")
def test_a_run_that_requires_limits_refuses_to_start_without(tmp_path: Path) -> None:
    result = run_plans([plan_of(tmp_path, {"run": "touch ran"})], RunOptions(require_limits=True))  # type: ignore[list-item]
    (plan,) = result.plans
    assert (result.exit_status, plan.status, [case.steps for case in plan.cases]) == (ExitStatus.ENGINE, Status.ERROR, [()])
    assert plan.error is not None and plan.error.message.startswith("limits are required, and in the session's container")


@pytest.mark.engine
@pytest.mark.usefixtures("hidden")
def test_limits_that_are_required_are_tried_before_any_tool_is_installed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(HELLO.replace("cases:", "tools: ['apt:there-is-no-such-package']\ncases:"))
    said = project.here("run", "--require-limits")
    assert (said.status, said.out.count("limits are required"), "install" in said.out) == (ExitStatus.ENGINE, 1, False)


@pytest.mark.engine
@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(
    ("words", "env", "status"),
    [
        ((), {}, ExitStatus.OK),
        (("--require-limits",), {}, ExitStatus.ENGINE),
        ((), {"TESTRONAUT_LAB_REQUIRE_LIMITS": "on"}, ExitStatus.ENGINE),
        (("--require-limits",), {"TESTRONAUT_LAB_REQUIRE_LIMITS": "off"}, ExitStatus.ENGINE),
    ],
    ids=["not required", "flag", "environment", "flag stands over the environment"],
)
def test_the_command_line_says_what_does_not_hold_and_refuses_where_it_must(
    tmp_path: Path, words: tuple[str, ...], env: Mapping[str, str], status: ExitStatus
) -> None:
    project = Project(tmp_path)
    project.write()
    said = project.here("run", *words, env=env)
    assert said.status == status
    assert said.out.count("no control group of its own can be found") == 1
    assert ("limits are required" in said.out) is (status is ExitStatus.ENGINE)
    assert "hint: docker info" in said.out


@pytest.mark.engine
def test_a_run_that_requires_limits_runs_where_they_hold(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write()
    assert project.here("run", "--require-limits").status == ExitStatus.OK


@pytest.mark.engine
@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(("config", "required"), [("", True), ("require_limits = true", False)], ids=["asked", "configured"])
def test_a_session_that_requires_limits_does_not_start_without(tmp_path: Path, config: str, required: bool) -> None:
    (tmp_path / "testronaut-lab.toml").write_text(config)
    with Session(root=tmp_path, require_limits=required) as session:
        with pytest.raises(EngineError, match="limits are required"):
            session.start()
