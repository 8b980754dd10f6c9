"""Classifies a failed installation by the package manager's output, and says what to do about each kind.

The patterns here hold for all managers. `strategies.py` has the patterns of one manager. The patterns here are tried first,
because a manager that cannot reach its index may report that there is no such package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum


class Fault(StrEnum):
    """The kind of a failure. Each value is the text for messages."""

    NO_PACKAGE = "no such package"
    NO_VERSION = "no such version"
    NETWORK = "the network failed"
    TLS = "a certificate was not accepted"
    DISK_FULL = "no space left"
    CONFLICT = "it conflicts with something"
    LOCKED = "the package manager is locked"
    UNFIT = "it is not made for this image"
    PREREQUISITE = "a prerequisite is missing"
    TIMEOUT = "it took too long"
    NOT_RUNNING = "it is installed and does not run"
    OTHER = "it failed"


Rules = Sequence[tuple[Fault, re.Pattern[str]]]

# The order matters: the output about a certificate or a full disk often speaks of the network, too.
COMMON: Rules = (
    (Fault.DISK_FULL, re.compile(r"No space left on device|not enough free space|don't have enough free space|ENOSPC|Errno 28")),
    (
        Fault.TLS,
        re.compile(
            r"CERTIFICATE_VERIFY_FAILED|certificate verif|SSLError|SELF_SIGNED_CERT|self[- ]signed certificate|"
            r"UNABLE_TO_(?:GET|VERIFY)_|certificate has expired|CERT_HAS_EXPIRED|No system certificates available|x509:",
            re.IGNORECASE,
        ),
    ),
    (Fault.LOCKED, re.compile(r"Could not get lock|Unable to acquire the dpkg frontend lock|frontend lock was locked|EBUSY")),
    (
        Fault.NETWORK,
        re.compile(
            r"Temporary failure (?:resolving|in name resolution)|Could not resolve|Name or service not known|"
            r"[Cc]onnection (?:failed|timed out|refused|reset|broken|aborted)|Unable to connect|Could not connect|"
            r"[Nn]etwork is unreachable|No route to host|Hash Sum mismatch|\b50[0-9]  ?[A-Z][a-z]|Read timed out|ReadTimeout|"
            r"\b(?:ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNRESET|ECONNREFUSED|ERR_SOCKET_TIMEOUT)\b|"
            r"\bE50[0-9]\b|50[0-9] Server Error|too many 50[0-9] error responses|"
            r"Failed to establish a new connection|Incomplete ?Read|network timeout"
        ),
    ),
)

HINTS: dict[Fault, str] = {
    Fault.NETWORK: "check the network of this machine, or its proxy settings",
    Fault.TIMEOUT: "check the network of this machine, or its proxy settings",
    Fault.TLS: "name the certificates of your network in SSL_CERT_FILE",
    Fault.DISK_FULL: "make room for the engine: `testronaut-lab images`, `testronaut-lab clean`",
    Fault.CONFLICT: "install it by another strategy, or in a plan of its own",
    Fault.UNFIT: "take the build of it for this image's system and processor",
    Fault.LOCKED: "run it again when the other installation has ended",
    Fault.PREREQUISITE: "use an image that has it, or one of Debian or Ubuntu, where it can be installed",
    Fault.NOT_RUNNING: "say how it is started: command: NAME",
}


def classify(text: str, rules: Rules) -> Fault:
    """Return the kind of the first pattern that matches. `rules` are the manager's own; they come after `COMMON`."""
    return next((fault for fault, pattern in (*COMMON, *rules) if pattern.search(text)), Fault.OTHER)
