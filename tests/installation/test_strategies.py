"""The table of install strategies: valid names, filled commands, classified errors."""

from __future__ import annotations

from itertools import pairwise

import pytest

from testronaut_lab.errors import UsageError
from testronaut_lab.installation.faults import HINTS, Fault, classify
from testronaut_lab.installation.strategies import STRATEGIES, Words, fill, package_name, strategy_for
from testronaut_lab.planfile import parse_tool

PACKAGES = [name for name, row in STRATEGIES.items() if row.takes == "package"]
# Names with a special meaning for a shell, an option parser, a version control system or a file system.
HOSTILE = [
    "bash; touch /pwned", "-oAPT::Update::Pre-Invoke::=touch /pwned", "--index-url=x", "-rx", "$(touch /pwned)", "`touch /pwned`",
    "a b", "a\nb", "a|b", "a&b", "../x.deb", "./x", "/x.deb", "x/y", "git+ssh://git@host/x", "git://host/x", "https://host/x.whl",
    "file:///x", "x@git+ssh://host/x", "x @ file:///x", "x@npm:y", "x@file:y", "x@../y", "x.tgz", "x.tar.gz", "", " ", "{home}",
    "~/x", "x\0", ".", "..",
]  # fmt: skip


@pytest.mark.parametrize("strategy", PACKAGES)
@pytest.mark.parametrize("spec", HOSTILE)
def test_what_is_no_name_of_a_package_is_refused_as_a_wrong_command_line(strategy: str, spec: str) -> None:
    if (strategy, spec) in {("apt", "x.tgz"), ("apt", "x.tar.gz")}:
        return  # a plain name: apt looks for a file only if there is a slash
    with pytest.raises(UsageError) as caught:
        parse_tool(f"{strategy}:{spec}")
    assert (caught.value.exit_status, "is no package of" in caught.value.message) == (2, True)
    with pytest.raises(UsageError, match="no package of"):
        package_name(STRATEGIES[strategy], spec)


@pytest.mark.parametrize("spec", ["jq-", "jq+", "j*q", "^jq$", "jq=", "jq=-1", "JQ", "bash-", "jq:amd64", "jq\n"])
def test_what_apt_would_read_as_more_than_a_name_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="no package of apt"):
        package_name(STRATEGIES["apt"], spec)


@pytest.mark.parametrize(
    ("strategy", "spec", "name"),
    [
        ("apt", "jq", "jq"),
        ("apt", "g++", "g++"),
        ("apt", "libstdc++6", "libstdc++6"),
        ("apt", "jq=1.6-2.1+deb12u1", "jq"),
        ("apt", "jq=1.6*", "jq"),
        ("apt", "7zip", "7zip"),
        ("pip", "httpie==3.2.*", "httpie"),
        ("pip", "ruamel.yaml>=0.18,<0.20", "ruamel.yaml"),
        ("pip", "httpie[socks]~=3.2", "httpie"),
        ("pipx", "black===24.1.0", "black"),
        ("npm", "cowsay@^1.5", "cowsay"),
        ("npm", "@angular/cli@latest", "@angular/cli"),
        ("npm", "json@>=11", "json"),
        ("npm", "prettier@3.x", "prettier"),
        ("deb", "../out/my-tool_1.2-3_amd64.deb", "my-tool"),
        ("wheel", "dist/my_tool-1.2.dev0-py3-none-any.whl", "my_tool"),
        ("npm-pack", "my-tool-1.2.0.tgz", "my-tool"),
        ("archive", "ripgrep-14.1.0-x86_64.tar.gz", "ripgrep"),
        ("copy", "build/my tool", "my tool"),
        ("script", "install-it.sh", "install-it"),
    ],
)
def test_what_is_a_name(strategy: str, spec: str, name: str) -> None:
    assert package_name(STRATEGIES[strategy], spec) == name


def test_an_unknown_strategy_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="'brew' is not supported yet") as caught:
        strategy_for("brew")
    assert "apt" in (caught.value.hint or "")


def test_a_spec_is_one_word_behind_the_end_of_options() -> None:
    words = Words(spec="jq=1.6*", options=("-o", "A=b"))
    [argv] = STRATEGIES["apt"].install
    assert fill(argv, words)[-2:] == ["--", "jq=1.6*"]
    assert fill(argv, words)[:3] == ["apt-get", "-o", "A=b"]


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    assert fill(("{name}", "x{file}"), Words(name="{file}", file="/f", spec="s")) == ["{file}", "x/f"]


@pytest.mark.parametrize("row", STRATEGIES.values(), ids=lambda row: row.name)
def test_no_row_puts_a_name_into_what_a_shell_reads(row: object) -> None:
    """A script is the word behind -c or -e; it is the same whatever is installed."""
    for field in ("manager", "refresh", "identify", "installed", "files", "available"):
        check_constant(getattr(row, field))
    for argv in (*row.install, *row.clean):  # type: ignore[attr-defined]
        check_constant(argv)


def check_constant(argv: tuple[str, ...]) -> None:
    scripts = [word for before, word in pairwise(argv) if before in ("-c", "-e")]
    filled = fill(argv, Words("N4ME", "5PEC", "/H0ME", "/F1LE", "/W0RK", "/CA"))
    for script in scripts:
        assert script in filled


@pytest.mark.parametrize("row", STRATEGIES.values(), ids=lambda row: row.name)
def test_every_row_says_what_it_accepts(row: object) -> None:
    assert row.accepts  # type: ignore[attr-defined]


# --- errors, in the managers' own words


@pytest.mark.parametrize(
    ("strategy", "said", "fault"),
    [
        ("apt", "E: Unable to locate package no-such", Fault.NO_PACKAGE),
        ("apt", "E: Version '9*' for 'jq' was not found", Fault.NO_VERSION),
        ("apt", "Err:1 http://x bookworm InRelease\n  Temporary failure resolving 'x'", Fault.NETWORK),
        ("apt", "E: Failed to fetch http://x  503  Service Unavailable", Fault.NETWORK),
        ("apt", "E: Failed to fetch http://x  Hash Sum mismatch", Fault.NETWORK),
        ("apt", "  Could not connect to x:80 (10.0.0.1), connection timed out", Fault.NETWORK),
        ("apt", "E: Failed to fetch http://x  404  Not Found", Fault.OTHER),
        ("apt", "  Certificate verification failed: The certificate is NOT trusted.", Fault.TLS),
        ("apt", "E: You don't have enough free space in /var/cache/apt/archives/.", Fault.DISK_FULL),
        ("apt", "dpkg: error processing archive x: cannot copy: No space left on device", Fault.DISK_FULL),
        ("apt", "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7", Fault.LOCKED),
        ("apt", "The following packages have unmet dependencies:\n x : Depends: y but it is not installable", Fault.PREREQUISITE),
        ("deb", "dpkg: error: trying to overwrite '/usr/bin/jq', which is also in package jq", Fault.CONFLICT),
        ("pip", "ERROR: Could not find a version that satisfies the requirement x (from versions: none)", Fault.NO_PACKAGE),
        ("pip", "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1, 2)", Fault.NO_VERSION),
        (
            "pip",
            "WARNING: Retrying … NewConnectionError('Failed to establish a new connection')\n(from versions: none)",
            Fault.NETWORK,
        ),
        ("pip", "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))\n(from versions: none)", Fault.TLS),
        ("pip", "ERROR: ResolutionImpossible: for help visit", Fault.CONFLICT),
        ("pip", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", Fault.DISK_FULL),
        ("wheel", "ERROR: x-1-cp27-none-win32.whl is not a supported wheel on this platform.", Fault.UNFIT),
        ("npm", "npm ERR! code E404\nnpm ERR! 404 Not Found", Fault.NO_PACKAGE),
        ("npm", "npm ERR! code ETARGET\nnpm ERR! notarget No matching version found for cowsay@^99.", Fault.NO_VERSION),
        ("npm", "npm ERR! code EAI_AGAIN", Fault.NETWORK),
        ("npm", "npm ERR! code E503", Fault.NETWORK),
        ("npm", "npm ERR! code UNABLE_TO_GET_ISSUER_CERT_LOCALLY", Fault.TLS),
        ("npm", "npm ERR! code ENOSPC", Fault.DISK_FULL),
        ("npm", "npm ERR! code EBADPLATFORM", Fault.UNFIT),
        ("script", "something else", Fault.OTHER),
    ],
)
def test_what_an_error_is_told_as(strategy: str, said: str, fault: Fault) -> None:
    assert classify(said, STRATEGIES[strategy].rules) is fault


def test_every_kind_of_error_has_a_hint_but_those_whose_hint_is_the_rows() -> None:
    assert set(Fault) - set(HINTS) == {Fault.NO_PACKAGE, Fault.NO_VERSION, Fault.OTHER}


def test_a_size_of_five_hundred_bytes_is_no_answer_of_a_server() -> None:
    rules = STRATEGIES["apt"].rules
    assert classify("Need to get 0 B/508 B of archives.\n trying to overwrite '/usr/bin/x'", rules) is Fault.CONFLICT
    assert (
        classify("Err:1 http://x.invalid bookworm InRelease\n  503  Service Unavailable [IP: 192.0.2.1 80]", rules)
        is Fault.NETWORK
    )
