"""Formats an installation: every line that package managers write, then what was verified of each tool and what came with it.

It is for the verb `install`, which is a run without cases, and for the stored log of any run. In a run of plans, `formatter.py`
gives each tool one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from rich.text import Text

from testronaut_lab.model.events import Event, ImageReady, InstallLogged, PlanFinished, PlanStarted, RunFinished, ToolReady
from testronaut_lab.model.lastwords import without_said
from testronaut_lab.model.result import ErrorInfo, Package, ToolInfo
from testronaut_lab.report.state.view import RunView
from testronaut_lab.report.text.formatter import Formatter
from testronaut_lab.report.text.lines import INDENT, STYLES, WORDS, duration_text, error_lines, labelled
from testronaut_lab.safetext import clipped, safe_line, safe_text

_SHOWN_PACKAGES = 12
Kept = Callable[[str], Sequence[tuple[str, str]] | None]


class InstallNarrator(Formatter):
    """Like `Formatter`, with the whole log and more about each tool."""

    def lines(self, view: RunView, event: Event) -> list[Text]:
        match event.body:
            case InstallLogged(line=line):
                return [*super().lines(view, event), *logged_lines(line)]
            case ToolReady(tool=ready, cached=cached):
                return tool_lines(ready, cached=cached)
            case PlanFinished(status=status, error=ErrorInfo() as error) as body:
                plan = view.plan(body.plan)
                error = replace(error, message=without_said(error.message, (entry.line for entry in plan.install_log)))
                return [labelled(WORDS[status], safe_line(plan.name), STYLES[status]), *error_lines(error)]
            case RunFinished():
                return self.summary(view)
            case _:
                return super().lines(view, event)

    def outcome(self, view: RunView) -> Text:
        plans = list(view.plans.values())
        tools = [tool for plan in plans for tool in plan.tools]
        took = f" in {duration_text(view.elapsed_s())}"
        if view.finished is None or any(plan.error is not None for plan in plans) or not tools:
            return Text("not installed", "bold red").append(took, "not bold default")
        ready = f"{len(tools)} tool{'s' if len(tools) > 1 else ''} ready"
        return Text(ready, "bold green").append(
            took + (", from the cache" if all(cached for _, cached in tools) else ""), "default"
        )


def is_installation(events: Iterable[Event]) -> bool:
    """Whether the events are of a run of the verb `install`, whose plans have no cases."""
    plans = [event.body for event in events if isinstance(event.body, PlanStarted)]
    return bool(plans) and not any(plan.cases for plan in plans)


def log_lines(events: Iterable[Event], kept: Kept) -> Iterator[Text]:
    """Yield the stored log of a run's installations. For an image from the cache, `kept` returns the log of its making,
    by key.
    """
    told: set[str] = set()
    last = ""
    said: list[str] = []
    for event in events:
        match event.body:
            case PlanStarted(name=name, file=file):
                last, said = "", []
                yield Text(safe_line(name), "bold").append(f"  {safe_line(file or '')}", "not bold dim")
            case ImageReady(image=image):
                yield labelled("image", Text(safe_line(image.ref)).append(f"  {safe_line(image.source)}", "dim"))
            case InstallLogged(tool=tool, line=line):
                if tool != last:
                    yield labelled("install", safe_line(tool))
                last = tool
                said.append(line)
                yield from logged_lines(line)
            case ToolReady(tool=ready, cached=True):
                yield from tool_lines(ready, cached=True)
                if ready.key not in told:
                    told.add(ready.key)
                    yield from _kept_lines(kept(ready.key))
            case ToolReady(tool=ready):
                yield from tool_lines(ready, cached=False)
            case PlanFinished(status=status, error=ErrorInfo() as error):
                yield labelled(WORDS[status], "", STYLES[status])
                yield from error_lines(replace(error, message=without_said(error.message, said)))
            case _:
                continue


def _kept_lines(found: Sequence[tuple[str, str]] | None) -> Iterator[Text]:
    if found is None:
        yield Text(f"{INDENT}the log of that time is not kept any more", "dim italic")
        return
    yield Text(f"{INDENT}what was written at that time:", "dim italic")
    last = ""
    for tool, line in found:
        if tool != last:
            yield labelled("install", safe_line(tool))
        last = tool
        yield from logged_lines(line)


def logged_lines(line: str) -> list[Text]:
    shown = safe_text(clipped(line)).replace("\t", "    ").split("\n")
    return [labelled("│", Text(each.rstrip(), "dim")) for each in shown]


def tool_lines(tool: ToolInfo, *, cached: bool) -> list[Text]:
    way = f"{tool.strategy}:{tool.spec}" if tool.spec else tool.strategy
    head = Text(safe_line(f"{tool.name} {tool.version}"), "bold").append(f"  {safe_line(way)}", "not bold dim")
    lines = [labelled("tool", head.append(", from the cache" if cached else "", "not bold dim"), "green")]
    if tool.program or tool.built:
        lines.append(_fact("starts", tool.program or nothing_started(tool)))
    if tool.packages:
        lines.append(_fact("added", _packages(tool.packages)))
    if tool.built and cached:
        lines.append(_fact("built", tool.built))
    return lines


def nothing_started(tool: ToolInfo) -> str:
    """Say what was verified of a package that brings no program."""
    return f"nothing: it brings no program; {tool.strategy} knows it, in version {tool.version}"


def _fact(name: str, text: str) -> Text:
    return Text(INDENT).append(f"{name:<8}", "dim").append(safe_line(text))


def _packages(packages: Sequence[Package]) -> str:
    """Return the number of packages of each manager, and the first packages by name."""
    counts = Counter(package.manager for package in packages)
    many = " and ".join(f"{count} of {manager}" for manager, count in counts.items())
    shown = ", ".join(f"{package.name} {package.version}" for package in packages[:_SHOWN_PACKAGES])
    more = f" and {len(packages) - _SHOWN_PACKAGES} more" if len(packages) > _SHOWN_PACKAGES else ""
    return f"{many}: {shown}{more}"
