"""What runs and sessions are made of: the engine, images with tools in them, containers with their directories.

The concrete parts meet here, each made when it is first needed. What is done with a session, and what is told to whom, is
in `testronaut_lab/api.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

from testronaut_lab.capture import overlay
from testronaut_lab.capture.engine_diff import ArchivedImage, EngineDiff
from testronaut_lab.capture.file_capture import ScanLimits
from testronaut_lab.capture.live_watch import LiveWatch
from testronaut_lab.capture.outside import Root
from testronaut_lab.capture.stream import Blobs
from testronaut_lab.container import manager, security
from testronaut_lab.container.cgroup import CgroupMeter
from testronaut_lab.container.cgroup_lookup import own_groups
from testronaut_lab.container.engine.connect import Engine, connect
from testronaut_lab.container.image.builder import tool_tag
from testronaut_lab.container.image.local import ResolvedImage, inspect
from testronaut_lab.container.image.resolve import origin_of, resolve
from testronaut_lab.container.image.usage import image_uses
from testronaut_lab.container.limits import LimitCheck
from testronaut_lab.container.network import create_network, remove_network
from testronaut_lab.container.owner import Claim
from testronaut_lab.container.protocol import BindMount, Container, StepContainerSpec
from testronaut_lab.container.rootfs import ContainerRoot, check_seen
from testronaut_lab.container.stepuser import CallerInside, StepUser, caller_inside
from testronaut_lab.errors import EngineError, FilesUnseen, LabError, SessionLost
from testronaut_lab.execution.context import FIXED_ENVIRONMENT, WORKSPACE, SessionLimits, SessionPlace
from testronaut_lab.execution.directory import SessionDir
from testronaut_lab.execution.driver import probe
from testronaut_lab.execution.driver.channel import REPORTS, Channel
from testronaut_lab.execution.driver.fast.driver import FastDriver
from testronaut_lab.execution.driver.plain.driver import PlainDriver
from testronaut_lab.execution.driver.protocol import Driver
from testronaut_lab.execution.driver.script import RUN_DIR, ShellSpec
from testronaut_lab.execution.late_output import LateKeeper
from testronaut_lab.execution.reap import reap
from testronaut_lab.execution.runner import Emit, LiveSession
from testronaut_lab.execution.undo.cache import UndoCache
from testronaut_lab.execution.undo.undo import History
from testronaut_lab.installation.installer import InstalledImage, install
from testronaut_lab.model.events import EngineFound, ImageReady, InstallLogged, Problem, Progress, ToolReady
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import ImageSpec, Limits, Plan, ToolSpec
from testronaut_lab.model.result import EngineInfo

_HOLD_ATTEMPTS = 3

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a plan says of its sessions; the defaults are a plan's. For Python only: `watch`, whether the workspace is watched
    live, beside the scans, and `undo`, how many steps can be undone (at most 4; None: as many for a `Session`, none in a plan).
    """

    network: Literal["none", "internet"] = "none"
    user: Literal["lab", "root"] = "lab"
    rootfs: Literal["read-only", "writable"] = "read-only"
    shell: str = "sh"
    limits: Limits = field(default_factory=Limits)
    watch: bool = True
    undo: int | None = None

    @classmethod
    def of(cls, plan: Plan) -> SessionSettings:
        return cls(plan.network, plan.user, plan.rootfs, plan.shell, plan.limits)


class SessionFactory:
    """Connects to the engine on first use. `emit` hears of everything that is waited for. `watch` and `orphan_timeout_s` are
    the project's settings.

    With `require_limits` no session starts whose limits are not enforced or measured; without, that is said once.
    """

    def __init__(
        self, emit: Emit, blobs: Blobs, *, watch: bool = True, require_limits: bool = False, orphan_timeout_s: float = 3600.0
    ) -> None:
        self._emit = emit
        self._blobs = blobs
        self._watch = watch
        self._limits = LimitCheck(emit, required=require_limits)
        self._orphan_timeout_s = orphan_timeout_s
        self._in_memory = True  # whether the engine was not yet found to see nothing of this machine's /dev/shm
        self._driver: str | None = None
        self._told: EngineInfo | None = None  # what was last emitted of the engine
        self._held: dict[str, int] = {}  # the images that are in use until the end, and the files that say so
        self._versions: dict[str, tuple[tuple[str, str], ...]] = {}  # by image: of its tools, and of their programs

    @cached_property
    def engine(self) -> Engine:
        """Raises EngineError. What dead owners left behind is removed on the way."""
        self._driver = probe.forced(os.environ)
        engine = connect()
        self._told = replace(engine.info, driver=self._driver or engine.info.driver)
        self._emit(EngineFound(self._told))
        reaped = reap(engine)
        for name in reaped.removed:
            self._emit(Problem(f"removed {name}, which an earlier run that was killed had left behind"))
        for failure in reaped.failures:
            self._emit(Problem(failure.message, failure.hint))
        return engine

    @cached_property
    def _caller_inside(self) -> CallerInside:
        return caller_inside(self.engine)

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])
        engine = self.__dict__.pop("engine", None)
        if engine is not None:
            engine.close()

    def prepare(self, plan: int, image: ImageSpec, tools: tuple[ToolSpec, ...], settings: SessionSettings | None = None) -> str:
        """The id of the image with the tools in it. Raises EngineError, InstallError.

        Where limits are required, a session with these `settings` is tried in the bare image before any tool is installed.
        """
        base = self._held_base(image)
        self._emit(ImageReady(plan, base.info, base.note))
        if settings is not None and self._limits.required:
            self.session(base.info.id, replace(settings, network="none", watch=False, undo=None), {}).close()
        if not tools:
            return base.info.id
        installed = self._held_tools(plan, base, tools)
        for tool in installed.tools:
            self._emit(ToolReady(plan, tool, installed.cached))
        versions = {tool.name: tool.version for tool in installed.tools}
        programs = {tool.command: versions[tool.name] for tool in tools if tool.command and tool.name in versions}
        self._versions[installed.id] = tuple((versions | programs).items())
        return installed.id

    def session(
        self, image_id: str, settings: SessionSettings, env: Mapping[str, str], succeeds: LiveSession | None = None
    ) -> LiveSession:
        """A started session in a new container of the image; one that it `succeeds` ends, and leaves it its files.

        Raises EngineError, CaptureError, UsageError, leaving nothing behind.
        """
        user = StepUser.choose(settings.user, self._caller_inside)
        if succeeds is not None:  # its files are gone from it after the first try, and its engine saw this machine's
            return self._session(image_id, settings, env, user, succeeds)
        return self._seen_by_engine(lambda: self._session(image_id, settings, env, user, None))

    def _seen_by_engine(self, make: Callable[[], _T]) -> _T:
        """Make something that the engine mounts files into; once more, without /dev/shm, where it cannot see this machine's."""
        try:
            return make()
        except FilesUnseen:
            if not self._in_memory:
                raise
            self._in_memory = False
            return make()

    def _session(
        self, image_id: str, settings: SessionSettings, env: Mapping[str, str], user: StepUser, succeeds: LiveSession | None
    ) -> LiveSession:
        directory = SessionDir.create(user, in_memory=self._in_memory)
        with ExitStack() as undo:
            undo.callback(self._abandon, directory)
            place = _place(directory, user)
            watch: LiveWatch | None = None
            if self._watch and settings.watch:  # it gets ready while the container does
                watch = LiveWatch(directory.workspace, directory.cookies, self._emit)
                undo.callback(watch.close)
            history = History(settings.undo, UndoCache(place.undo)) if settings.undo else None
            if succeeds is not None:
                history = succeeds.hand_over(place) or history
            session = self._open(image_id, settings, env, user, directory, place, watch, history)
            undo.pop_all()
        return session

    def _abandon(self, directory: SessionDir) -> None:
        """Remove what there is of a session that did not start. What cannot be removed now is a later run's to remove."""
        try:
            name = directory.claim(self._orphan_timeout_s).name
            manager.remove_by_name(self.engine, name)
            remove_network(self.engine, _network_name(name))
        except EngineError:
            return
        finally:
            directory.remove()

    def _held_base(self, image: ImageSpec) -> ResolvedImage:
        for _ in range(_HOLD_ATTEMPTS):
            base = resolve(self.engine, image, self._tell_image)
            if not base.tag or self._hold(base.tag, origin_of(image)):
                return base
        raise _removed_again(image.ref)

    def _held_tools(self, plan: int, base: ResolvedImage, tools: tuple[ToolSpec, ...]) -> InstalledImage:
        for _ in range(_HOLD_ATTEMPTS):
            installed = self._seen_by_engine(lambda: self._install(plan, base, tools))
            if self._hold(tool_tag(installed.key)):
                return installed
        raise _removed_again(", ".join(tool.name for tool in tools))

    def _hold(self, tag: str, origin: str = "") -> bool:
        """Whether the image is in use now and still there: until it is held, another process may remove it."""
        file = image_uses(self.engine).hold(tag, origin)
        if file is not None:
            if tag in self._held:
                os.close(self._held[tag])
            self._held[tag] = file
        return inspect(self.engine, tag) is not None

    def _tell_image(self, line: str) -> None:
        self._emit(Progress("image", line))

    def _install(self, plan: int, base: ResolvedImage, tools: tuple[ToolSpec, ...]) -> InstalledImage:
        # while its lease is held, what is made for it is not taken for left over
        directory = SessionDir.create(StepUser.choose("lab"), in_memory=self._in_memory)
        claim = directory.claim(self._orphan_timeout_s)
        try:

            def tell(tool: str, line: str) -> None:
                self._emit(InstallLogged(plan, tool, line))

            def tell_progress(tool: str, text: str) -> None:
                self._emit(Progress("install", f"{tool}: {text}"))

            return install(self.engine, base, tools, tell, claim=claim, on_progress=tell_progress)
        finally:
            directory.remove()

    def _open(
        self,
        image_id: str,
        settings: SessionSettings,
        env: Mapping[str, str],
        user: StepUser,
        directory: SessionDir,
        place: SessionPlace,
        watch: LiveWatch | None,
        history: History | None,
    ) -> LiveSession:
        network = "none"
        claim = directory.claim(self._orphan_timeout_s)
        if settings.network == "internet":
            network = create_network(self.engine, _network_name(claim.name), claim.labels)
        channel = Channel(directory.run)
        spec = _spec(image_id, settings, user, directory, claim, network)
        with ExitStack() as undo:
            undo.callback(channel.close)
            container = manager.start_step_container(self.engine, spec)
            groups = own_groups(container.id, container.state().pid)
            meter = CgroupMeter(groups)
            undo.pop_all()
        shell = ShellSpec(settings.shell, user.spec, {"HOME": user.home, **FIXED_ENVIRONMENT, **env}, WORKSPACE)
        with ExitStack() as undo:
            undo.callback(meter.close)
            late = LateKeeper(self._blobs, settings.limits.output_bytes, self._emit)
            try:
                self._limits.container(self.engine, container, spec, groups, meter)
                driver = self._start_driver(container, channel, shell, meter, late)
            except SessionLost:
                check_seen(self.engine, container.id, security.KEEPER_FIFO, directory.keeper)
                raise
            undo.pop_all()
        limits = settings.limits
        bounds = SessionLimits(limits.timeout_s, limits.output_bytes, limits.workspace_bytes, limits.files)

        def release(keep: bool) -> None:
            if keep:
                directory.keep()
                return
            try:
                remove_network(self.engine, _network_name(claim.name))
            finally:
                directory.remove()

        root = self._root(container, settings, user)
        facts = Facts(
            WORKSPACE, user.home, "/tmp", spec.hostname, container.id, self._versions.get(image_id, ()), self.engine.kernel
        )
        session = LiveSession(
            container, driver, meter, place, bounds, self._blobs, self._emit, release, watch, facts, root, history, late
        )
        with ExitStack() as undo:
            undo.callback(_close_anyhow, session)
            session.start()
            directory.seal()
            undo.pop_all()
        return session

    def _root(self, container: Container, settings: SessionSettings, user: StepUser) -> Root | None:
        """The container's root file system if steps can change it, by its directories where we can read them."""
        if settings.rootfs == "read-only":
            return None
        limits = ScanLimits(entries=settings.limits.files * 10)
        kept = ContainerRoot(self.engine, container.id, container.name)
        layers = kept.layers()
        if layers is not None and overlay.readable(layers.upper):
            layered = overlay.ImageLayers(layers.lower, limits)
            return Root(overlay.UpperDirectory(layers.upper, layered, limits), layered, user.home, kept.mounted())
        image = ArchivedImage(lambda: kept.image_files, kept.close, limits)
        return Root(EngineDiff(kept.changed, kept.files, image, limits), image, user.home, kept.mounted())

    def _start_driver(
        self, container: Container, channel: Channel, shell: ShellSpec, meter: CgroupMeter, late: LateKeeper
    ) -> Driver:
        """The driver that is forced, or that this engine was found to need, or what the probe of the first session finds."""

        def plain() -> PlainDriver:
            return PlainDriver(container, channel, shell, meter, late.hear)

        if self._driver == "plain":
            channel.close()
            return probe.started(plain())
        fast = FastDriver(container, channel, shell, meter, late.hear)
        if self._driver == "fast":
            return self._tell_of(probe.started(fast))
        driver = probe.start_fast_or_plain(fast, plain, lambda: probe.look_through(container, channel, shell.user), container)
        self._driver = driver.name
        return self._tell_of(driver)

    def _tell_of(self, driver: Driver) -> Driver:
        """Emit what has become known of the engine with this session's driver."""
        copies = driver.copies if isinstance(driver, FastDriver) else None
        known = replace(self.engine.info, driver=driver.name, copies=copies)
        if known != self._told:
            self._told = known
            self._emit(EngineFound(known))
        return driver


def _removed_again(what: str) -> EngineError:
    return EngineError(
        f"getting the image of {what} ready: each time it was made, another process removed it", hint="testronaut-lab images"
    )


def _close_anyhow(session: LiveSession) -> None:
    """Whoever called removes what is left, and the error that led here is the one to tell."""
    with suppress(LabError):
        session.close()


def _place(directory: SessionDir, user: StepUser) -> SessionPlace:
    return SessionPlace(directory.run, directory.workspace, directory.home, directory.tmp, user.home, user.owner, directory.undo)


def _network_name(container: str) -> str:
    return f"{container}-net"


def _spec(
    image_id: str, settings: SessionSettings, user: StepUser, directory: SessionDir, claim: Claim, network: str
) -> StepContainerSpec:
    return StepContainerSpec(
        name=claim.name,
        image=image_id,
        keeper=security.keeper(orphan_timeout_s=claim.orphan_timeout_s),
        user=user.spec,
        network=network,
        read_only=settings.rootfs == "read-only",
        memory_bytes=settings.limits.memory_bytes,
        cpus=settings.limits.cpus,
        pids=settings.limits.pids + (settings.undo or 0),  # each level is one parked copy of the shell more
        capabilities=user.capabilities,
        user_namespace=user.user_namespace,
        mounts=(
            BindMount(directory.run, RUN_DIR, read_only=True),
            BindMount(directory.run / REPORTS, f"{RUN_DIR}/{REPORTS}"),
            BindMount(directory.workspace, WORKSPACE),
            BindMount(directory.home, user.home),
            BindMount(directory.tmp, "/tmp"),
            BindMount(directory.etc / "passwd", "/etc/passwd", read_only=True),
            BindMount(directory.etc / "group", "/etc/group", read_only=True),
        ),
        labels=claim.labels,
    )
