"""Turns a plan as it is written back into the tree of its file: the inverse of `grammar/`.

Only what differs from the default is written. A matrix is not written back, because a plan with one is read one cell at a time.
`yaml.py` turns the tree into YAML.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, assert_never

from pydantic import JsonValue

from testronaut_lab.model.expect import ChangesExpect, ExitExpect, FileExpect, MaxExpect, TextExpect
from testronaut_lab.model.interaction import (
    DEFAULT_DEADLINE_S,
    AwaitOutput,
    AwaitScreen,
    AwaitSettled,
    Interaction,
    PressKey,
    Ready,
    Resize,
    SendText,
    Tty,
)
from testronaut_lab.model.normalizing import Normalizer, Rule
from testronaut_lab.model.plan import (
    Bootstrap,
    Build,
    FileSpec,
    ImageSpec,
    InstallSpec,
    Limits,
    Load,
    Retry,
    Rootfs,
    Save,
    ToolSpec,
)
from testronaut_lab.model.units import parse_duration, parse_size
from testronaut_lab.planfile.grammar.raw import (
    Expectations,
    ExpectFail,
    Golden,
    RawCase,
    RawPlan,
    RawStep,
    Stdin,
    When,
)
from testronaut_lab.planfile.grammar.tools import shorthand
from testronaut_lab.planfile.identity import command_of, slug

Tree = dict[str, JsonValue]

# Keys of a plan that hold one word each.
SETTINGS: Final = ("isolation", "network", "user", "rootfs", "shell")
_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def plan_tree(plan: RawPlan, folder: Path, explicit: Collection[str] = ()) -> Tree:
    """Return the tree of a plan whose file is in `folder`.

    Keys in `explicit`, such as `network` or `limits.timeout`, are written even if they hold the default.
    """
    spell = _Spelling(folder)
    default = RawPlan(image=plan.image)
    settings: Tree = {
        key: value
        for key in SETTINGS
        if (value := getattr(plan, key)) is not None and (key in explicit or value != getattr(default, key))
    }
    tree: Tree = {"version": plan.version, "name": plan.name, "image": spell.image(plan.image)}
    tree |= {"tools": [spell.tool(tool) for tool in plan.tools], **settings, "env": dict(plan.env)}
    tree |= {
        "files": {path: spell.file(file) for path, file in plan.files.items()},
        "limits": _limits(plan.limits, explicit),
        "normalize": [_rule(rule) for rule in plan.normalize],
        "ignore": list(plan.ignore),
        "golden": None if plan.golden is None else _golden(plan.golden),
        "expect": spell.expectations(plan.expect),
        "setup": [spell.step(step) for step in plan.setup],
        "teardown": [spell.step(step) for step in plan.teardown],
        "cases": [spell.case(case) for case in plan.cases],
        "steps": [spell.step(step) for step in plan.steps],
    }
    return {key: value for key, value in tree.items() if key in explicit or value not in (None, {}, [])}


def duration(seconds: float) -> JsonValue:
    """Return `5s` or `200ms` where that is exact, otherwise the number of seconds."""
    for unit, size_s in (("s", 1.0), ("ms", 0.001)):
        count = round(seconds / size_s)
        if count > 0 and parse_duration(text := f"{count}{unit}") == seconds:
            return text
    return seconds


def size(bytes_: int) -> JsonValue:
    """Return `512MiB` or the like where that is exact, otherwise the number of bytes."""
    for unit, each in _SIZES:
        if bytes_ % each == 0 and parse_size(text := f"{bytes_ // each}{unit}") == bytes_:
            return text
    return bytes_


class _Spelling:
    """Writes each part of a plan as a tree. Paths are relative to `folder`, the plan's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tool(self, tool: ToolSpec) -> JsonValue:
        alone = shorthand(tool)
        if alone is not None:
            return f"{alone.strategy}:{self._spec(alone)}"
        tree: Tree = {"name": tool.name}
        if tool.command is not None:
            tree["command"] = tool.command
        ways = [self._way(way) for way in tool.install]
        tree["install"] = ways if len(ways) > 1 else ways[0]
        if tool.importable:
            tree["importable"] = True
        if tool.verify is not None:
            tree["verify"] = _present({"run": tool.verify.run, "matches": tool.verify.matches})
        return tree

    def _way(self, way: InstallSpec) -> JsonValue:
        if way.more:
            return {way.strategy: [way.spec, *way.more]}
        if way.sha256 is None and not way.strip:
            return f"{way.strategy}:{self._spec(way)}"
        return _present({way.strategy: self._spec(way), "sha256": way.sha256, "strip": way.strip or None})

    def _spec(self, way: InstallSpec) -> str:
        return way.spec if way.source is None else self._path(way.source)

    def file(self, file: FileSpec) -> JsonValue:
        mode = None if file.mode is None else f"{file.mode:04o}"
        if file.source is not None:
            return {"source": self._path(file.source)}
        text = _text(file.content or b"")
        if text is None:
            return _present({"base64": _base64(file.content or b""), "mode": mode})
        return text if mode is None else {"text": text, "mode": mode}

    def case(self, case: RawCase) -> Tree:
        tree: Tree = {"id": case.id, "tags": list(case.tags), "env": dict(case.env)}
        tree |= {"when": _when(case.when), "expect_fail": _expect_fail(case.expect_fail)}
        tree["golden"] = None if case.golden is None else _golden(case.golden)
        tree["expect"] = self.expectations(case.expect)
        return {**_filled(tree), "steps": [self.step(step) for step in case.steps]}

    def step(self, step: RawStep) -> JsonValue:
        """Return the script alone if the step has no other key. An id that would be made from the command anyway is left out."""
        named = None if step.id is None or step.id == slug(command_of(step)) else step.id
        tree: Tree = {"id": named, "background": step.background, "run": step.run, "argv": list(step.argv or ())}
        tree |= {"stop": step.stop, "signal": dict(step.signal), "stdin": self._stdin(step.stdin), "env": dict(step.env)}
        tree |= {"cwd": step.cwd, "timeout": None if step.timeout_s is None else duration(step.timeout_s)}
        tree |= {"continue": step.continue_ or None, "skip_if": step.skip_if, "retry": _retry(step.retry)}
        tree |= {"when": _when(step.when)}
        tree |= {"merge": step.merge or None, "tty": None if step.tty is None else _tty(step.tty)}
        tree |= {"interact": [self._interaction(item) for item in step.interact], "ready": _ready(step.ready)}
        tree |= {"save": {name: _save(save) for name, save in step.save.items()}}
        tree |= {"golden": None if step.golden is None else _golden(step.golden)}
        tree |= {"expect": self.expectations(step.expect)}
        # an empty stdin or golden has a meaning; an empty table or list under another key has none
        kept: Tree = {
            key: value for key, value in tree.items() if value not in (None, {}, []) or (key == "golden" and value == {})
        }
        return kept["run"] if list(kept) == ["run"] else kept

    def expectations(self, expect: Expectations) -> Tree:
        return {key: value for name, wanted in expect.items() for key, value in self._expectation(name, wanted).items()}

    def _expectation(self, name: str, wanted: object) -> Tree:
        match wanted:
            case ExitExpect():
                return _exit(wanted)
            case TextExpect():
                return {name: self._matchers(wanted)}
            case ChangesExpect():
                return {name: _changes(wanted)}
            case MaxExpect():
                return {name: _max(wanted)}
            case Mapping():
                return {name: {str(path): self._file_expect(each) for path, each in wanted.items()}}
        raise TypeError(f"there is no spelling of the expectation {name}: {wanted!r}")

    def _file_expect(self, expect: FileExpect) -> JsonValue:
        if expect.absent:
            return "absent"
        own: Tree = {"type": expect.type and expect.type.value, "mode": None if expect.mode is None else f"{expect.mode:04o}"}
        own |= {"target": expect.target, "owner": expect.owner}
        own = _present(own)
        text = expect.text or (None if own else TextExpect(matches=""))
        if text is None:
            return own
        matchers = self._matchers(text)
        if isinstance(matchers, dict):
            return {**matchers, **own}
        return {"equals": matchers, **own} if own or matchers == "absent" else matchers

    def _matchers(self, text: TextExpect) -> JsonValue:
        if text == TextExpect(equals=text.equals):
            return text.equals
        tree: Tree = {"equals": text.equals, "contains": list(text.contains), "not_contains": list(text.not_contains)}
        tree |= {"matches": text.matches}
        kept = _filled(tree)
        if text.has_json:
            kept["json"] = text.json
        rest: Tree = {"json_path": dict(text.json_path), "lines": text.lines, "empty": text.empty}
        return kept | _filled(rest) | ({} if text.file is None else {"file": self._path(text.file)})

    def _stdin(self, stdin: Stdin | None) -> JsonValue:
        if stdin is None:
            return None
        if stdin.file is not None:
            return {"file": self._path(stdin.file)}
        return stdin.content.decode() if stdin.is_text else {"base64": _base64(stdin.content)}

    def _interaction(self, item: Interaction) -> JsonValue:
        match item:
            case AwaitScreen(expect):
                tree: Tree = {"screen": self._screen(expect)}
            case AwaitSettled(quiet_s):
                tree = {"settled": duration(quiet_s)}
            case AwaitOutput(pattern):
                tree = {"expect": pattern}
            case SendText(text):
                tree = {"send": text}
            case PressKey(key):
                tree = {"key": key}
            case Resize(cols, rows):
                tree = {"resize": {"cols": cols, "rows": rows}}
            case _:
                assert_never(item)
        return tree if item.timeout_s == DEFAULT_DEADLINE_S else {**tree, "timeout": duration(item.timeout_s)}

    def _screen(self, expect: TextExpect) -> JsonValue:
        """Write an awaited screen, where a plain text means `contains`, not `equals`."""
        if len(expect.contains) == 1 and expect == TextExpect(contains=expect.contains):
            return expect.contains[0]
        return {"equals": expect.equals} if expect == TextExpect(equals=expect.equals) else self._matchers(expect)

    def image(self, image: ImageSpec) -> JsonValue:
        match image.source:
            case None:
                return image.ref if image == ImageSpec(image.ref) else {"ref": image.ref, "pull": image.pull}
            case Build(folder):
                return {"build": self._path(folder)}
            case Load(file):
                return {"load": self._path(file)}
            case Rootfs(file):
                return {"rootfs": self._path(file)}
            case Bootstrap():
                return {"bootstrap": image.ref.partition(":")[2]}
            case _:
                assert_never(image.source)

    def _path(self, path: Path) -> str:
        return os.path.relpath(path, self._folder)


def _present(tree: Tree) -> Tree:
    return {key: value for key, value in tree.items() if value is not None}


def _filled(tree: Tree) -> Tree:
    return {key: value for key, value in tree.items() if value not in (None, {}, [])}


def _limits(limits: Limits, explicit: Collection[str]) -> Tree:
    default = _every_limit(Limits())
    return {key: value for key, value in _every_limit(limits).items() if f"limits.{key}" in explicit or value != default[key]}


def _every_limit(limits: Limits) -> Tree:
    return {
        "timeout": duration(limits.timeout_s),
        "case_timeout": duration(limits.case_timeout_s),
        "memory": size(limits.memory_bytes),
        "cpus": limits.cpus,
        "pids": limits.pids,
        "output": size(limits.output_bytes),
        "workspace": size(limits.workspace_bytes),
        "files": limits.files,
    }


def _when(when: When) -> Tree:
    tree: Tree = {}
    for key, values in when.items():
        tree[key] = [*sorted(values)]
    return tree


def _expect_fail(expected: ExpectFail | None) -> JsonValue:
    if expected is None or not expected.when:
        return None if expected is None else expected.reason
    return {"reason": expected.reason, "when": _when(expected.when)}


def _rule(rule: Rule) -> JsonValue:
    return {"matches": rule.matches, "replace": rule.replace} if isinstance(rule, Normalizer) else rule


def _golden(golden: Golden) -> JsonValue:
    if isinstance(golden, bool):
        return golden
    tree: Tree = {}
    for key, value in golden.items():
        items = list(value) if isinstance(value, tuple) else []
        tree[key] = [_rule(item) for item in items] if key == "normalize" else [str(item) for item in items]
    return tree


def _exit(expect: ExitExpect) -> Tree:
    if expect.signal is not None:
        return {"signal": expect.signal}
    if expect.ended_by is not None or expect.nonzero:
        return {"exit": "nonzero" if expect.ended_by is None else expect.ended_by.value}
    return {"exit": expect.codes[0] if len(expect.codes) == 1 else list(expect.codes)}


def _changes(expect: ChangesExpect) -> JsonValue:
    kinds = ("added", "modified", "deleted", "retyped")
    tree: Tree = {kind: list(getattr(expect, kind)) for kind in kinds if getattr(expect, kind)}
    tree |= {} if expect.outside is None else {"outside": _changes(expect.outside)}
    return tree or "none"


def _max(expect: MaxExpect) -> Tree:
    tree: Tree = {
        "duration": None if expect.duration_s is None else duration(expect.duration_s),
        "cpu": None if expect.cpu_s is None else duration(expect.cpu_s),
        "memory": None if expect.memory_bytes is None else size(expect.memory_bytes),
    }
    return _present(tree)


def _retry(retry: Retry | None) -> JsonValue:
    if retry is None:
        return None
    tree: Tree = {"times": retry.times}
    return tree if retry == Retry(retry.times) else {**tree, "delay": duration(retry.delay_s)}


def _tty(tty: Tty) -> JsonValue:
    default = Tty()
    return {key: getattr(tty, key) for key in ("cols", "rows", "term") if getattr(tty, key) != getattr(default, key)} or True


def _ready(ready: Ready | None) -> JsonValue:
    if ready is None:
        return None
    tree: Tree = {ready.aspect: getattr(ready, ready.aspect)}
    return tree if ready.timeout_s == DEFAULT_DEADLINE_S else {**tree, "timeout": duration(ready.timeout_s)}


def _save(save: Save) -> Tree:
    return _present({
        "from": None if save.from_ == "stdout" else save.from_, "json_path": save.json_path, "matches": save.matches,
    })  # fmt: skip


def _text(content: bytes) -> str | None:
    """Return the content as text if YAML can hold it, otherwise None."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
