"""What a step in a terminal of its own is given, and when a program in the background counts as ready.

How a terminal is driven is in `execution/sidecar/terminal.py`, how a program is kept going in `execution/sidecar/background.py`.
"""

from __future__ import annotations

from typing import Final

from pydantic.dataclasses import dataclass

from testronaut_lab.model.expect import STRICT, TextExpect

DEFAULT_DEADLINE_S: Final = 10.0

_ESC: Final = "\x1b"
# What the keys send, as xterm does it; those of the cursor send SS3 instead of CSI where the program asked for that.
_CURSOR: Final = {"up": "A", "down": "B", "right": "C", "left": "D", "home": "H", "end": "F"}
_EDITING: Final = {"insert": 2, "delete": 3, "page-up": 5, "page-down": 6}
_FUNCTION: Final = {"f1": "OP", "f2": "OQ", "f3": "OR", "f4": "OS"} | {
    f"f{number}": f"[{code}~" for number, code in zip(range(5, 13), (15, 17, 18, 19, 20, 21, 23, 24), strict=True)
}
_PLAIN: Final = {"enter": "\r", "tab": "\t", "esc": _ESC, "space": " ", "backspace": "\x7f", "shift-tab": f"{_ESC}[Z"}
_CONTROL: Final = {f"ctrl-{letter}": chr(ord(letter) & 0x1F) for letter in "abcdefghijklmnopqrstuvwxyz\\]"}
_SENT: Final = (
    _PLAIN
    | _CONTROL
    | {name: f"{_ESC}[{code}~" for name, code in _EDITING.items()}
    | {name: f"{_ESC}{rest}" for name, rest in _FUNCTION.items()}
)
KEYS: Final = tuple(sorted({*_SENT, *_CURSOR}))


def key_bytes(name: str, *, application: bool = False) -> bytes:
    """What a key of `KEYS` sends; `application` is the mode in which full-screen programs want the cursor's keys."""
    if name in _CURSOR:
        return f"{_ESC}{'O' if application else '['}{_CURSOR[name]}".encode()
    return _SENT[name].encode()


@dataclass(frozen=True, slots=True, config=STRICT)
class Tty:
    """A terminal of the step's own. `term` is its TERM."""

    cols: int = 80
    rows: int = 24
    term: str = "xterm-256color"


@dataclass(frozen=True, slots=True, config=STRICT)
class AwaitScreen:
    """Wait until the screen, as `screen_text` has it, holds what is expected."""

    expect: TextExpect
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class AwaitSettled:
    """Wait until the screen has shown nothing new for `quiet_s`, counted from when the waiting began."""

    quiet_s: float
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class AwaitOutput:
    """Wait for a match of the regex in the bytes that came after the last match; what is matched is used up."""

    pattern: str
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class SendText:
    """Type this text, exactly; a line ends with the key `enter`."""

    text: str
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class PressKey:
    """Press one of `KEYS`."""

    key: str
    timeout_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True, config=STRICT)
class Resize:
    """Give the terminal another size, which its programs are told by SIGWINCH."""

    cols: int
    rows: int
    timeout_s: float = DEFAULT_DEADLINE_S


Interaction = AwaitScreen | AwaitSettled | AwaitOutput | SendText | PressKey | Resize


@dataclass(frozen=True, slots=True, config=STRICT)
class Ready:
    """When a background program is ready; exactly one is set.

    A TCP `port` that is listened on inside the container, a regex that its output (`log`) matches, a path in the workspace
    (`file`) that exists, a script (`run`) that ends with status 0 in the session's shell, run apart.
    """

    port: int | None = None
    log: str | None = None
    file: str | None = None
    run: str | None = None
    timeout_s: float = DEFAULT_DEADLINE_S

    @property
    def aspect(self) -> str:
        """Its key in a plan, and what stands there."""
        return next(name for name in ("port", "log", "file", "run") if getattr(self, name) is not None)

    def describe(self) -> str:
        """In words, for a message."""
        match self.aspect:
            case "port":
                return f"port {self.port} listened on"
            case "log":
                return f"output that matches {self.log}"
            case "file":
                return f"a path {self.file} in the workspace"
            case _:
                return f"exit status 0 of `{self.run}`"


def describe_screen(expect: TextExpect) -> str:
    """What `screentext.shows` looks for, in words."""
    wanted = [f"equal to {expect.equals!r}"] if expect.equals is not None else []
    wanted += [f"with {text!r}" for text in expect.contains]
    wanted += [f"without {text!r}" for text in expect.not_contains]
    wanted += [f"with a match of {expect.matches}"] if expect.matches is not None else []
    wanted += [f"of {expect.lines} lines"] if expect.lines is not None else []
    wanted += ["that is empty" if expect.empty else "that is not empty"] if expect.empty is not None else []
    return "a screen " + ", ".join(wanted)
