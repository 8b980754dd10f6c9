"""Random commands with random undos leave a session as a new one is that only ever ran the commands that survive."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from conftest import SOAK
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from testronaut_lab.api import Session
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.model.undo import MAX_UNDO, UndoHow

pytestmark = pytest.mark.engine

SEQUENCES = 1000 if SOAK else 40

NAMES = st.sampled_from(["A", "B", "C"])
VALUES = st.text(st.sampled_from("ab '\"$\\*\n;&é"), max_size=6)
PATHS = st.sampled_from(["f", "g", "d/h", "d/e/i", "/tmp/f", "~/f", "'a\nb'"])
PLACES = st.sampled_from(["d", "d/e", "..", "/workspace", "/tmp", "~", "-"])
COMMANDS = st.one_of(
    st.builds("cd {}".format, PLACES),
    st.builds(lambda how, name, value: f"{how}{name}={shlex.quote(value)}", st.sampled_from(["", "export "]), NAMES, VALUES),
    st.builds("unset {}".format, NAMES),
    st.builds("set {}".format, st.sampled_from(["-u", "+u", "-f", "+f", "-C", "+C", "-a", "+a", "-- x 'y z'", "--"])),
    st.builds("umask {}".format, st.sampled_from(["022", "077", "002"])),
    st.builds(lambda value, path: f"printf %s {shlex.quote(value)} >|{path}", VALUES, PATHS),
    st.builds("echo more >>{}".format, PATHS),
    st.builds("{} {}".format, st.sampled_from(["rm -rf", "touch", "chmod 640", "chmod 000", "mkfifo", "truncate -s 3"]), PATHS),
    st.builds("mv {} {}".format, PATHS, PATHS),
    st.builds("ln -s {} {}".format, PATHS, PATHS),
    st.builds("mkdir -p {}".format, st.sampled_from(["d", "d/e", "f", "/tmp/d", "~/d"])),
    st.builds("rm -rf {}".format, st.sampled_from(["d", "d/e", "./*", "/workspace/*", "/tmp/*", "~/*"])),
    st.builds("f() {{ echo {}; }}".format, st.sampled_from(["1", "2"])),
    st.sampled_from(
        ["mkdir -p d/e; cd d/e; echo here >i", "cd /workspace; rm -rf d", "exit 3", "kill -9 $$", "false", "unset -f f",
         "if then", "no-such-program", "chmod 700 d", "chmod 500 d", "exec true", "seq 100 | split -l 1 - x", "f", "pwd",
         "exec 3>fd", "exec 3>&-"]
    ),
)  # fmt: skip
STEPS = st.lists(COMMANDS, min_size=1, max_size=3).map("; ".join)
ACTIONS = st.lists(st.one_of(STEPS, STEPS, st.integers(1, 3)), min_size=2, max_size=9)
CLEAN = r"""cd /; set +efuCax; set --; exec 3>&-; umask 022; unset A B C; unset -f f; chmod -R 700 /workspace /tmp/* ~ 2>/dev/null
rm -rf /workspace/* /tmp/* ~/*; chmod 755 /workspace ~; chmod 1777 /tmp; cd /; cd /workspace"""

# What any later command could tell of shell and files, but for times and pids.
STATE = r"""pwd; [ . -ef "$PWD" ] || echo elsewhere; echo "$OLDPWD"
for v in A B C; do eval "printf '%s=[%s]\n' $v \"\${$v-unset}\""; done; umask; echo "$# $*" $-
f 2>/dev/null || echo no f; env | grep -aE '^[ABC]=' | sort
cd /; for t in /workspace /tmp ~; do stat -c '%A %n' $t
find $t -mindepth 1 -printf '%P\0%y\0%m\0%l\0%U\0' | sort -z | tr '\0' '|'
find $t -type f -exec md5sum {} + | sort; done; exit 0"""


@pytest.fixture(scope="module", params=["dash", "bash"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Session]]:
    """A session to be undone in, and one to compare it with."""
    setting = SessionSettings(shell="bash" if request.param == "bash" else "sh")
    root = tmp_path_factory.mktemp("project")
    with Session(root=root, settings=setting) as undone, Session(root=root, settings=setting, undo=0) as plain:
        yield undone, plain


def state(session: Session) -> str:
    """Told by a subshell, so that the session stays as it is."""
    return session.run(f"( {STATE} )").out


def follow(session: Session, actions: list[str | int]) -> tuple[list[str], bool]:
    """Do them; the commands that survive, and whether the shell that ran them is still the one."""
    survivors: list[str] = []
    undoable = 0
    for action in actions:
        if isinstance(action, str):
            session.run(action)
            survivors.append(action)
            undoable = min(undoable + 1, MAX_UNDO)
        elif undoable:
            steps = min(action, undoable)
            how = session.undo(steps).how
            del survivors[-steps:]
            undoable -= steps
            if how is UndoHow.CONTAINER:
                return survivors, False
    return survivors, True


@settings(
    max_examples=SEQUENCES // 2,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    phases=[Phase.generate] if SOAK else [Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(actions=ACTIONS)
@pytest.mark.timeout(4 * 3600 if SOAK else 240)
def test_what_survives_is_all_there_is(both: tuple[Session, Session], actions: list[str | int]) -> None:
    undone, plain = both
    for session in both:
        session.run(CLEAN)
    survivors, is_whole = follow(undone, actions)
    for command in survivors:
        plain.run(command)
    if is_whole:
        assert state(undone) == state(plain), f"after {actions}"
    else:
        assert state(undone).partition("/workspace\n")[2] == state(plain).partition("/workspace\n")[2], f"after {actions}"
