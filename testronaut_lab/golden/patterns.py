"""The named rules: what each of them means, and the patterns of the rules that replace single values.

Every pattern takes time in proportion to the text, for any text. Every pattern ends where no letter or digit follows, so
normalising a text twice gives the same as once. Times, durations and sizes get no number, because it is chance whether two of
them are equal. All other values are numbered, and equal values get equal numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from testronaut_lab.model.normalizing import Facts

# Rules are applied in this order, whatever their order in the plan. A plan's own patterns come after `json`.
SHAPES: Final[Mapping[str, str]] = MappingProxyType({
    "crlf": "CR LF at the end of a line becomes LF",
    "progress": "a line written over by carriage returns or backspaces is kept as it looked in the end",
    "ansi": "colours and other control sequences of terminals are dropped",
    "json": "objects and arrays, one or several, are written with sorted keys, indented by two spaces",
})  # fmt: skip
VALUES: Final[Mapping[str, str]] = MappingProxyType({
    "workspace": "the path of the workspace becomes [WORKSPACE]",
    "home": "the path of the home directory becomes [HOME]",
    "tmp": "a name directly below /tmp or /var/tmp, and mktemp's tmp.XXXXXX(XXXX) anywhere, becomes [TMP#1]",
    "host": "the container's id becomes [CONTAINER]; its host name becomes [HOST] behind @ or //, and alone on a line",
    "uuid": "a UUID other than the one of zeros becomes [UUID#1]",
    "kernel": "the kernel's release as `uname -r` says it, and what `uname -v` says, becomes [KERNEL]",
    "timestamp": "a date with a time (ISO 8601, RFC 2822, date, ctime, syslog, ls -l, common log) becomes [TIME]",
    "date": "a day without a time (2026-11-22, 2026/11/22, 22.11.2026, Nov 22, 2026, 22 November 2026) becomes [DATE]",
    "pid": "the number behind pid, ppid or process id, in `name[12]:`, and `$$` and `$!` of a script that names them: [PID#1]",
    "port": "the number behind port, and that of localhost:80, 127.0.0.1:80 or http://name:80, becomes [PORT#1]",
    "version": "the version of an installed tool, and a version number behind the tool's name, becomes [VERSION]",
    "hash": "MD5 and SHA digests in hex, and SHA digests in base64 behind their name, become [HASH#1]",
    "duration": "a number with a unit of time (350ms, 2.3 s, 0m0.004s, 1h 5m, 3 minutes) becomes [DURATION]",
    "size": "a number with a unit of bytes (12 bytes, 1.5 KiB, 3MB, 4.0K) becomes [SIZE]",
})  # fmt: skip
NAMED: Final[Mapping[str, str]] = MappingProxyType({**SHAPES, **VALUES})


@dataclass(frozen=True, slots=True)
class Pattern:
    """The group `value` of a match, or the whole match without such a group, becomes `[LABEL]`; `[LABEL#n]` if `numbered`.

    If `hex`, values that differ only in case count as equal.
    """

    regex: re.Pattern[str]
    label: str
    numbered: bool = False
    hex: bool = False


def _pattern(regex: str, label: str, *, numbered: bool = False, hex: bool = False, flags: int = 0) -> Pattern:
    return Pattern(re.compile(regex, re.ASCII | re.VERBOSE | flags), label, numbered, hex)


@lru_cache(maxsize=256)
def patterns(name: str, facts: Facts) -> tuple[Pattern, ...]:
    """The patterns of a rule of `VALUES`, in order; none if the session lacks the fact that the rule needs."""
    match name:
        case "workspace":
            return _path(facts.workspace, "WORKSPACE")
        case "home":
            return _path(facts.home, "HOME")
        case "tmp":
            return _tmp(facts.tmp)
        case "host":
            return _host(facts)
        case "version":
            return tuple(pattern for tool, version in facts.tools for pattern in _version(tool, version))
        case "pid":
            return (*_FIXED[name], *_pids(facts.pids))
        case "kernel":
            return (*_release(facts.kernel), *_FIXED[name])
    return _FIXED[name]


_NO_PATH_BEFORE = r"(?<![\w.~$)}\]-])"
_NO_WORD_BEHIND = r"(?![\w-]|\.[\w\[])"


def _path(path: str, label: str) -> tuple[Pattern, ...]:
    if path in ("", "/"):
        return ()
    return (_pattern(_NO_PATH_BEFORE + re.escape(path) + _NO_WORD_BEHIND, label),)


def _tmp(folder: str) -> tuple[Pattern, ...]:
    folders = "|".join(re.escape(each) for each in sorted({folder, "/tmp", "/var/tmp"} - {"", "/"}))
    return (
        _pattern(rf"{_NO_PATH_BEFORE} (?:{folders}) / (?P<value> [\w.+@%=~-]* \w )", "TMP", numbered=True),
        _pattern(rf"(?<![\w.-]) tmp\. (?:[A-Za-z0-9]{{10}} | [A-Za-z0-9]{{6}}) {_NO_WORD_BEHIND}", "TMP", numbered=True),
    )


def _host(facts: Facts) -> tuple[Pattern, ...]:
    found: list[Pattern] = []
    if len(facts.container_id) >= 12:
        short, rest = facts.container_id[:12], facts.container_id[12:]
        found.append(_pattern(rf"(?<![0-9A-Za-z]) {short} (?:{rest})? (?![0-9A-Za-z])", "CONTAINER"))
    if name := re.escape(facts.hostname):
        found.append(_pattern(rf"(?<=@) {name} {_NO_WORD_BEHIND} | (?<=//) {name} {_NO_WORD_BEHIND}", "HOST"))
        found.append(_pattern(rf"^ {name} (?=\r?$)", "HOST", flags=re.MULTILINE))
    return tuple(found)


def _pids(pids: tuple[int, ...]) -> tuple[Pattern, ...]:
    """Bare numbers that are known to be process ids of the step."""
    numbers = "|".join(str(pid) for pid in sorted(set(pids)))
    return (_pattern(rf"(?<![\w.#$-]) (?P<value>{numbers}) (?![\w%-]|\.\d)", "PID", numbered=True),) if pids else ()


def _release(kernel: str) -> tuple[Pattern, ...]:
    return (_pattern(rf"(?<![\w.-]) {re.escape(kernel)} {_NO_WORD_BEHIND}", "KERNEL"),) if kernel else ()


_VERSION_TAIL = r"""
    (?:(?:a|b|rc|alpha|beta|dev|p)\d{0,9})?
    (?:[-+~](?:\d|alpha|beta|rc|dev|pre|git|deb|ubuntu)(?:[\w.+~-]*\w)?)?
"""


def _version(tool: str, version: str) -> tuple[Pattern, ...]:
    """A version with two dots or a revision is found anywhere; any other version only behind the tool's name."""
    found = []
    if tool:
        between = r"(?: [,:]? [ \t]{1,3} \(? version:? | ,? )  [ \t/_=(-]{0,3} v?"
        number = rf"(?P<value> \d+ (?:\.\d+)+ {_VERSION_TAIL}) (?!\w)"
        found.append(_pattern(rf"(?<![A-Za-z0-9]) {re.escape(tool)} {between} {number}", "VERSION", flags=re.IGNORECASE))
    if version.count(".") >= 2 or re.search(r"\d[-+~]\d", version):
        found.append(_pattern(rf"(?<![\w.]) v? (?P<value>{re.escape(version)}) {_NO_WORD_BEHIND}", "VERSION"))
    return tuple(found)


_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_CLOCK = r"(?:[01]\d|2[0-4]):[0-5]\d"
_SECONDS = r"(?::(?:[0-5]\d|60)(?:[.,]\d{1,9})?)"
_ZONE_NAME = r"(?:UTC|GMT|[A-Z]{1,3}T)"  # must not match the level of a log line, such as INFO
_ZONE = rf"(?:\ ?[+-]\d\d:?\d\d(?:\ {_ZONE_NAME}\b)?|\ ?(?:Z|{_ZONE_NAME})\b)"
_TIMESTAMP = rf"""
    (?<![0-9A-Za-z]) (?:
        \d{{4}} (?P<dash>[-/]) (?:0[1-9]|1[0-2]) (?P=dash) (?:0[1-9]|[12]\d|3[01])                  # ISO 8601, Go
            [Tt\ _] {_CLOCK} {_SECONDS}? {_ZONE}? (?:\ m=[+-]\d+\.\d+)?
      | \d{{4}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-4])[0-5]\d[0-5]\d Z?         # ISO 8601, basic
      | (?: {_WEEKDAY},\  )? {_DAY} [\ -] {_MONTH} [\ -] \d{{4}} \  {_CLOCK} {_SECONDS}? {_ZONE}?     # RFC 2822, HTTP
            (?:\ \([A-Z]{{3,5}}\))?
      | {_WEEKDAY}\ {_MONTH}\ {{1,2}}{_DAY}\ {_CLOCK}{_SECONDS} (?:\ [AP]M)?                           # date, ctime, git
            (?:\ (?:[A-Z]{{3,5}}|[+-]\d{{2,4}}))? \ \d{{4}} (?:\ [+-]\d{{4}})?
      | \d\d/{_MONTH}/\d{{4}}:{_CLOCK}{_SECONDS} (?:\ [+-]\d{{4}})?                                  # common log
      | {_MONTH}\ {{1,2}}{_DAY}\ {_CLOCK}{_SECONDS}?                                                 # syslog, ls -l
    ) (?![0-9A-Za-z]|:\d)
"""

_MONTH_NAME = (
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
    "|Nov(?:ember)?|Dec(?:ember)?)"
)
# What `uname -v` says: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)`, a date as `date` writes it, or `@0`.
_BUILD = rf"""
    (?<![\w#]) \#\d+ [\w.~+-]* \ (?:SMP|PREEMPT) \b [^\n\#]{{0,80}}?
    (?: \(\d{{4}}-\d\d-\d\d\) | @\d+ | {_WEEKDAY}\ {_MONTH}\ {{1,2}}{_DAY}\ {_CLOCK}{_SECONDS} \ [A-Z]{{3,5}} \ \d{{4}} )
    (?![0-9A-Za-z])
"""
_YEAR = r"(?:19|20)\d\d"
_DATE = rf"""
    (?<![0-9A-Za-z]) (?<!\d[-/.]) (?:
        {_YEAR} (?P<dash>[-/]) (?:0[1-9]|1[0-2]) (?P=dash) (?:0[1-9]|[12]\d|3[01])                  # ISO 8601, date -I
      | (?:0[1-9]|[12]\d|3[01]) (?P<mark>[./]) (?:0[1-9]|1[0-2]) (?P=mark) {_YEAR}                 # day first
      | (?:0[1-9]|1[0-2]) / (?:0[1-9]|[12]\d|3[01]) / {_YEAR}                                      # month first
      | (?: (?: {_WEEKDAY} | \w{{3,6}}day ) ,?\  )? (?:
            {_DAY} (?P<gap>[\ -]) {_MONTH_NAME} (?P=gap) {_YEAR}                                    # RFC 2822
          | {_MONTH_NAME} \.? \ {{1,2}} {_DAY} (?: ,\ | \ {{1,2}} ) {_YEAR}                          # in words; ls -l of long ago
        )
    ) (?![0-9A-Za-z]|[-/.]\d|[\ _]\d{{1,2}}:\d\d)
"""

_TIME_UNIT = r"""(?: ns | nsecs? | nanoseconds? | [uµμ]s | usecs? | microseconds? | ms | msecs? | milliseconds?
    | s | secs? | seconds? | mins? | minutes? | hrs? | hours? | days? | weeks? )"""
_DURATION = rf"""
    (?<![\w.,]) (?<!\d:) (?:
        (?: \d+ \ ? (?: days? | d | hours? | hrs? | h | minutes? | mins? | m ) ,? \ ? ){{1,4}}
            \d+ (?:[.,]\d+){{0,3}} \ ? (?: {_TIME_UNIT} | m | h )
      | \d+ (?:[.,]\d+){{0,3}} \ ? {_TIME_UNIT}
    ) (?!\w)
"""
_SIZE = r"""
    (?<![\w.,]) \d+ (?:[.,]\d+){0,4}
    (?: \ ?(?: [kKMGTPE]i?B | [kmg]b | [bB]ytes? | B ) | [KMGTP]i? ) (?!\w)
"""
_DIGESTS = " | ".join(rf"[0-9A-Fa-f]{{{length}}}" for length in (128, 96, 64, 56, 40, 32))
_BETWEEN = r"""["']? [ \t]{0,3} [:=]? [ \t]{0,3} ["']?"""

_FIXED: Final[Mapping[str, tuple[Pattern, ...]]] = MappingProxyType({
    "uuid": (
        _pattern(
            r"(?<![0-9A-Za-z]) (?!0{8}-0{4}-0{4}-0{4}-0{12}) [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} (?![0-9A-Za-z])",
            "UUID", numbered=True, hex=True, flags=re.IGNORECASE,
        ),
    ),
    "timestamp": (_pattern(_TIMESTAMP, "TIME"),),
    "date": (_pattern(_DATE, "DATE"),),
    "pid": (
        _pattern(
            rf"(?<![A-Za-z]) (?: p?pid | process[ _-]?id ) {_BETWEEN} (?P<value>\d{{1,10}}) (?!\w|\.[\d\[])",
            "PID", numbered=True, flags=re.IGNORECASE,
        ),
        _pattern(r"(?<=[\w)]) \[ (?P<value>\d{1,10}) \] (?=:)", "PID", numbered=True),
    ),
    "port": (
        _pattern(
            rf"(?<![A-Za-z]) port {_BETWEEN} (?P<value>\d{{1,5}}) (?!\w|\.[\d\[])", "PORT", numbered=True, flags=re.IGNORECASE
        ),
        _pattern(
            r"""(?: (?<![\w.]) (?: localhost | \d{1,3}(?:\.\d{1,3}){3} ) | \[HOST\] | \[[0-9A-Fa-f:.]{2,45}\] | (?<!\S)\*
                | ://[^\s/:@\[\]]{1,255} ) : (?P<value>\d{1,5}) (?![\w:]|\.[\d\[])""",
            "PORT", numbered=True,
        ),
    ),
    "hash": (
        _pattern(rf"(?<![0-9A-Za-z]) (?:{_DIGESTS}) (?![0-9A-Za-z])", "HASH", numbered=True, hex=True),
        _pattern(
            r"(?<![A-Za-z0-9]) sha(?:256|384|512) [:-] (?P<value>[A-Za-z0-9+/]{86} | [A-Za-z0-9+/]{64} | [A-Za-z0-9+/]{43})"
            r" (?![A-Za-z0-9+/]) ={0,2}",
            "HASH", numbered=True, flags=re.IGNORECASE,
        ),
    ),
    "kernel": (_pattern(_BUILD, "KERNEL"),),
    "duration": (_pattern(_DURATION, "DURATION"),),
    "size": (_pattern(_SIZE, "SIZE"),),
})  # fmt: skip
