"""The application to which each verb adds itself, and what several verbs need: options and opening the store."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from testronaut_lab.errors import EXIT_STATUS_MEANING

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter, Parameter

    from testronaut_lab.golden.pending import PendingStore
    from testronaut_lab.store.database import Store

_EPILOG = "\b\nExit status:\n" + "\n".join(f"  {status.value:<4} {meaning}" for status, meaning in EXIT_STATUS_MEANING.items())

# The order of the help: what is done every day comes first.
_VERBS = (
    "run", "tui", "record", "pending", "diff", "review", "accept", "reject", "prune", "runs", "show", "replay", "export",
    "install", "images", "clean", "shell", "engine", "doctor", "import", "schema", "demo",
)  # fmt: skip


_TYPE = re.compile(r" <[^<>]*>$")


class _Verbs(TyperGroup):
    """Lists all verbs in that order. Typer would put verbs with subcommands last."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(self.commands, key=_VERBS.index)


class Verb(TyperCommand):
    """A verb whose help shows arguments as they are typed, without typer's types behind them."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        pieces = [_usage(param) for param in self.get_params(ctx) if param.param_type_name == "argument" and not _hidden(param)]
        return ["[OPTIONS]", *pieces]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        for kind in ("argument", "option"):
            params = [param for param in self.get_params(ctx) if param.param_type_name == kind]
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(f"{kind.title()}s"):
                    formatter.write_dl([(_TYPE.sub("", name), about) for name, about in records])


def _usage(param: Parameter) -> str:
    """Return the usage of an argument: `RUN`, `[RUN]`, `GLOB...` or `[GLOB]...`."""
    name = param.metavar or (param.name or "").upper()
    return f"{name if param.required else f'[{name}]'}{'...' if param.nargs == -1 else ''}"


def _hidden(param: Parameter) -> bool:
    return bool(getattr(param, "hidden", False))


app = typer.Typer(
    cls=_Verbs,
    name="testronaut-lab",
    help="Run command-line tools in throw-away containers and keep what they did as tests.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"testronaut-lab {version('testronaut-lab')}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


STORE = typer.Option(metavar="URL", help="Results database, in place of .testronaut/results.db.")


def shown(location: str | Path) -> str:
    """Return the path as the user would type it from the current directory."""
    path = Path(location)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(location)


def again(store: str | None, root: Path) -> str:
    """Return the option with which `show`, from the current directory, finds a run of the project at `root`."""
    from testronaut_lab.config import load_config, project_root

    if store is None and root != project_root(Path.cwd()):
        store = shown(load_config(root).store_location)
    return of_store(store)


def of_store(store: str | None) -> str:
    """Return the `--store` option, to repeat it in another command; empty without a store."""
    return "" if store is None else f" --store {shlex.quote(store)}"


def open_store(location: str | None) -> Store:
    """Open the results database for reading: the given one or the project's."""
    from testronaut_lab.config import load_config, project_root
    from testronaut_lab.store.database import Store

    return Store.to_read(location or load_config(project_root(Path.cwd())).store_location)


def open_pending(root: Path | None = None) -> PendingStore:
    """Open the pending goldens of the project at `root`; None means the project of the current directory."""
    from testronaut_lab.config import project_root
    from testronaut_lab.golden.names import SNAPSHOTS
    from testronaut_lab.golden.pending import PendingStore
    from testronaut_lab.golden.store import GoldenStore

    return PendingStore(GoldenStore((root or project_root(Path.cwd())) / SNAPSHOTS))
