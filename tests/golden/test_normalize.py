"""Each named normaliser: texts that it must change, texts that it must not change, and properties of all normalisers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden import normalize as normalizing_module
from testronaut_lab.golden.normalize import Normalizing, normalize
from testronaut_lab.golden.patterns import NAMED
from testronaut_lab.golden.timed import replaced
from testronaut_lab.model.normalizing import Facts, Normalizer, Rule

CID = "0123456789abcdef" * 4
FACTS = Facts(
    container_id=CID, tools=(("jq", "1.6-2.1"), ("httpie", "3.2.4"), ("http", "3.2.4"), ("noted", "7")), kernel="6.1.0-28-amd64",
    pids=(4711,),
)  # fmt: skip
UUID_A, UUID_B = "6e7f5a1c-90ab-4cde-8f01-23456789abcd", "AAAAAAAA-90ab-1cde-8f01-23456789ABCD"
SHA256, MD5 = "a3" * 32, "d41d8cd98f00b204e9800998ecf8427e"


def normalized(text: str, *rules: Rule, facts: Facts = FACTS) -> str:
    return normalize(text.encode(), rules, facts).data.decode()


TOUCHED = [
    ("crlf", "a\r\nb\r\r\nc\rd", "a\nb\nc\rd"),
    ("ansi", "\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x1b(B.", "red link."),
    ("progress", " 10%\r 50%\r100%\ndone\n", "100%\ndone\n"),
    ("progress", "loading...\rok\n", "ok" + "ading...\n"),
    ("progress", "loading...\r\x1b[Kok\n", "ok\n"),
    ("progress", "busy   \r       \rready\n", "ready\n"),
    ("progress", "|\b/\b-\bdone\r\n", "done\r\n"),
    ("json", '{"b":1.0,"a":[{}, [] ,null]}\n', '{\n  "a": [\n    {},\n    [],\n    null\n  ],\n  "b": 1.0\n}\n'),
    ("workspace", "/workspace: /workspace/a.txt -C/x '/workspace'.", "[WORKSPACE]: [WORKSPACE]/a.txt -C/x '[WORKSPACE]'."),
    ("home", "HOME=/home/lab /home/lab/.cfg", "HOME=[HOME] [HOME]/.cfg"),
    ("tmp", "/tmp/tmp.AbC123/x /tmp/tmp.AbC123 /var/tmp/b.", "/tmp/[TMP#1]/x /tmp/[TMP#1] /var/tmp/[TMP#2]."),
    ("tmp", "made tmp.aBcDeFgHiJ and ./tmp.aBcDeF", "made [TMP#1] and ./[TMP#2]"),
    ("host", f"{CID} {CID[:12]} lab@lab http://lab:80/ //lab/x\nlab\n",
     "[CONTAINER] [CONTAINER] lab@[HOST] http://[HOST]:80/ //[HOST]/x\n[HOST]\n"),
    ("uuid", f"{UUID_A} {UUID_A.upper()} id-{UUID_B}.", "[UUID#1] [UUID#1] id-[UUID#2]."),
    ("pid", "pid 12, PID: 13 ppid=12 \"pid\": 14 process id 12 cron[99]: x",
     'pid [PID#1], PID: [PID#2] ppid=[PID#1] "pid": [PID#3] process id [PID#1] cron[[PID#4]]: x'),
    ("pid", "4711\n/proc/4711/stat pid 4711 x=4711.", "[PID#1]\n/proc/[PID#1]/stat pid [PID#1] x=[PID#1]."),
    ("kernel", "Linux lab 6.1.0-28-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22) x86_64 GNU/Linux",
     "Linux lab [KERNEL] [KERNEL] x86_64 GNU/Linux"),
    ("kernel", "#12~22.04.1-Ubuntu SMP Sun Nov 22 22:15:53 UTC 2026 (6.1.0-28-amd64)", "[KERNEL] ([KERNEL])"),
    ("kernel", "#1 SMP PREEMPT_DYNAMIC @0 x86_64", "[KERNEL] x86_64"),
    ("port", "port 8080, 127.0.0.1:8080 localhost:81 [::1]:82 http://web:83/ 'port': 8080 *:84",
     "port [PORT#1], 127.0.0.1:[PORT#1] localhost:[PORT#2] [::1]:[PORT#3] http://web:[PORT#4]/ 'port': [PORT#1] *:[PORT#5]"),
    ("version", "jq-1.6 jq 1.7rc1, JQ/1.6.1 jq version 1.5 (jq v1.6-2.1) 3.2.4 v3.2.4 HTTP 3.2.4.",
     "jq-[VERSION] jq [VERSION], JQ/[VERSION] jq version [VERSION] (jq v[VERSION]) [VERSION] v[VERSION] HTTP [VERSION]."),
    ("version", "jq-1.6.tar.gz jq-1.6-linux64", "jq-[VERSION].tar.gz jq-[VERSION]-linux64"),
    ("hash", f"{SHA256}  f\nsha256:{SHA256.upper()} {MD5}", "[HASH#1]  f\nsha256:[HASH#1] [HASH#2]"),
    ("hash", "sha256-" + "A+/z" * 10 + "abc= SHA256:" + "B" * 43, "sha256-[HASH#1]= SHA256:[HASH#2]"),
    ("size", "12 bytes, 1.5 KiB 3MB 4.0K 1,024 B 7 MB/s 1 byte",
     "[SIZE], [SIZE] [SIZE] [SIZE] [SIZE] [SIZE]/s [SIZE]"),
    ("duration", "in 350ms, 2.3 s; 0m0.004s 1h 5m took:7µs 3 minutes; 2d3h -0.5s 5 seconds ago",
     "in [DURATION], [DURATION]; [DURATION] [DURATION] took:[DURATION] [DURATION]; [DURATION] -[DURATION] [DURATION] ago"),
]  # fmt: skip

TIMES = [
    "2026-11-22T22:15:53Z", "2026-11-22T22:15:53.123456789+01:00", "2026-11-22 22:15:53,123", "2026-11-22 22:15",
    "2026/11/22 22:15:53", "2026-11-22 22:15:53.12 +0000 UTC m=+0.0123", "20261122T221553Z",
    "Sun, 22 Nov 2026 22:15:53 +0000", "Sun, 22 Nov 2026 22:15:53 GMT", "22 Nov 2026 22:15 +0000 (UTC)", "22-Nov-2026 22:15:53",
    "Sun Nov 22 22:15:53 UTC 2026", "Sun Nov  1 02:15:53 2026", "Sun Nov 22 10:15:53 PM UTC 2026",
    "Sun Nov 22 22:15:53 2026 +0000", "Nov 22 22:15:53", "Nov  2 22:15", "22/Nov/2026:22:15:53 +0000",
]  # fmt: skip

DATES = [
    "2026-11-22", "2026/11/22", "22.11.2026", "11/22/2026", "22/11/2026", "22 Nov 2026", "22-Nov-2026", "Sun, 22 Nov 2026",
    "Nov 22, 2026", "November 22, 2026", "Sun Nov 22 2026", "Sunday, 22 November 2026", "Nov  2  2026", "Sept. 1 2026",
]  # fmt: skip

UNTOUCHED = [
    ("crlf", "a\rb\n\r"),
    ("ansi", "[31mred \x1b é \x1b\n [0m"),
    ("progress", "plain\r\ntext \twith  blanks  \r\n\x1b[Kx"),
    ("json", "{not json}"), ("json", '{"a": 1} and more'), ("json", "1 2 3\n"), ("json", '"b"'), ("json", '[NaN]'),
    ("workspace", "/workspaces /workspace-2 /home/workspace /x/workspace/a /workspace.old workspace"),
    ("home", "/home/labs /home/lab2 /mnt/home/lab /home"),
    ("tmp", "/tmp /tmp/ /tmp/../x /workspace/tmp/x tmp.abc tmp.abcdefghijk tmpfs x/tmp/y tmp.abcdef.txt mytmp.abcdef"),
    ("host", f"lab lab@laboratory lab-1 //lab.example a{CID} {CID[:11]} label\n lab\n"),
    ("uuid", "00000000-0000-0000-0000-000000000000 6e7f5a1c-90ab-4cde-8f01-23456789abcde 6e7f5a1c-90ab-4cde-8f01"),
    ("timestamp", "2026-13-22T22:15:53 2026-11-32 10:00 1.2.3 22:15:53 2026-11-22 1700000000"),
    ("timestamp", "Sun Nov 22 INFO 12345-11-22 22:15:53 2026-11-22 22:15:53x"),
    ("timestamp", "Nov 22  2025 Nov 22 Mayor 12 10:20:30 Dec 32 10:00 12/11/2026 10 Nov 2026"),
    ("date", "2026-11-32 2026-13-01 1526-11-22 12026-11-22 2026-11-22T22:15:53 2026-11-22 22:15 2026-11-2 20261122 11/22/26"),
    ("date", "1.22.11.2026 22.11.2026.1 10.0.2026 Nov 2026 22 Nov Nov 22 22:15 2026/11-22 22 Nov-2026 v2026-11-22 Mayor 12 2026"),
    ("pid", "rapid 5 pids 5 pid file pid x5 12 processes process 12 files pid 1.5 list[3] = 4"),
    ("pid", "14711 47110 4711.5 #4711 -4711 4711% x4711 [PID#4711]"),
    ("kernel", "6.1.0 6.1.0-28 6.1.0-28-amd64-dbg 16.1.0-28-amd64 #1 SMP only, issue #12 (2024-11-22)"),
    ("port", "import 5 report 5 ports 80 support: 1 port 808080 port 1.5 12:30 10:20:30 a:80 127.0.0.1:8080:9"),
    ("version", "1.6 1.6-2 jqx 1.6 ajq-1.6 jq 7 3.2.45 13.2.4 jq reads 1.6 noted a 7"),
    ("hash", f"{SHA256}0 {MD5[:31]} deadbeef {MD5}x cafe1234cafe1234"),
    ("size", "12 3 Bananas 5M2 4x 10 Kelvin 1.2.3 v3M 5 M 100 Bit"),
    ("duration", "5 12:30:45 v1.2s 3sx file2s.txt 5m; 2h; 100 messages 5 metres 1.2.3.4.5.6 10:20s 3 M abc1s"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "expected"), TOUCHED)
def test_what_a_normaliser_is_for_is_replaced(rule: str, text: str, expected: str) -> None:
    assert normalized(text, rule) == expected


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("around", ["{}", "at {}.", "[{}] x", "log-{}.txt", '"{}"'])
def test_a_date_with_a_time_is_one_timestamp(time: str, around: str) -> None:
    assert normalized(around.format(time), "timestamp") == around.format("[TIME]")


@pytest.mark.parametrize("day", DATES)
@pytest.mark.parametrize("around", ["{}", "on {}.", "[{}] x", "log-{}.txt", '"{}"', "{} at 22:15"])
def test_a_day_without_a_time_is_one_date(day: str, around: str) -> None:
    assert normalized(around.format(day), "date") == around.format("[DATE]")


def test_a_day_with_its_time_is_one_timestamp_beside_the_date_of_another_line() -> None:
    text = "built 2026-11-22\n2026-11-22 22:15:53 done\n"
    assert normalized(text, "date", "timestamp") == "built [DATE]\n[TIME] done\n"
    assert normalized(text, "date") == "built [DATE]\n2026-11-22 22:15:53 done\n"


@pytest.mark.parametrize("text", ["\x1b[2026-11-22T22:15:53Z", "\x1b[2026-11-22 22:15\n", "\x1b[2026-11-22é", "\r\x1b[m\n"])
def test_a_sequence_that_is_cut_short_is_dropped_so_that_no_label_completes_it(text: str) -> None:
    once = normalized(text, "ansi", "crlf", "date", "timestamp")
    assert normalized(once, "ansi", "crlf", "date", "timestamp") == once


@pytest.mark.parametrize(("rule", "text"), UNTOUCHED)
def test_what_only_looks_like_it_is_left_alone(rule: str, text: str) -> None:
    assert normalized(text, rule) == text


def test_every_normaliser_has_both_kinds_of_examples() -> None:
    assert {rule for rule, _, _ in TOUCHED} | {"timestamp", "date"} == {rule for rule, _ in UNTOUCHED} == set(NAMED)


def test_equal_values_have_equal_numbers_over_all_parts_of_a_step() -> None:
    step = Normalizing(["uuid"])
    parts = [step.content(part.encode()).decode() for part in (UUID_B, f"{UUID_A} {UUID_B}", UUID_A)]
    assert parts == ["[UUID#1]", "[UUID#2] [UUID#1]", "[UUID#2]"]
    assert step.fired == {"uuid": 4}


def test_a_word_behind_a_time_is_no_zone() -> None:
    text = "2026-11-22 22:15:53 INFO a, 2026-11-22 22:15:53 CEST b, 22 Nov 2026 22:15 ERROR c"
    assert normalized(text, "timestamp") == "[TIME] INFO a, [TIME] b, [TIME] ERROR c"


def test_times_have_no_numbers_because_it_is_chance_whether_two_are_equal() -> None:
    assert normalized("2026-11-22 22:15:53 2026-11-22 22:15:53", "timestamp") == "[TIME] [TIME]"


def test_the_order_of_names_in_a_plan_does_not_matter() -> None:
    text = f"\x1b[32m 10%\r\x1b[K/tmp/{UUID_A} 2026-11-22 22:15:53 pid 3 s\x1b[0m\r\n"
    names = list(NAMED)
    assert normalized(text, *names) == normalized(text, *reversed(names)) == "/tmp/[TMP#1] [TIME] pid [PID#1] s\n"


def test_own_patterns_come_behind_shapes_and_before_named_values() -> None:
    own = Normalizer(r"^took 5s$", "took five")
    assert normalized("\x1b[1mtook 5s\x1b[0m\r\n", "duration", own, "ansi", "crlf") == "took five\n"


def test_own_patterns_are_applied_in_the_order_they_are_written() -> None:
    done = normalize(b"a1 a2", (Normalizer(r"a(\d)", r"b\1"), Normalizer("b1", "c"), Normalizer("z", "")))
    assert (done.data, done.fired) == (b"c b2", {r"a(\d)": 2, "b1": 1, "z": 0})


def test_a_rule_that_is_written_twice_is_applied_once() -> None:
    assert normalize(b"a", (Normalizer("a", "aa"), Normalizer("a", "aa"))).data == b"aa"


def test_what_the_session_does_not_have_is_not_looked_for() -> None:
    nothing = Facts(workspace="", home="/", tmp="/tmp", hostname="", container_id="", tools=(("", ""),))
    text = "/workspace / @ // 1.2.3"
    assert normalized(text, "workspace", "home", "host", "version", facts=nothing) == text


def test_json_lines_and_several_values_are_each_in_one_form() -> None:
    assert normalized('{"b":1,"a":2}\n[3]\n{"c": "é\\u00e9\\n"}', "json") == (
        '{\n  "a": 2,\n  "b": 1\n}\n[\n  3\n]\n{\n  "c": "éé\\n"\n}'
    )
    assert normalize(b"{} []", ["json"]).fired == {"json": 2}


def test_json_keeps_numbers_and_double_keys_as_they_are_written() -> None:
    text = '{"n": [1.0, 1, 1e400, 123456789012345678901234567890.5, -0], "b": 1, "a": 2, "b": 3}'
    lines = normalized(text, "json").split("\n")
    assert lines[1:4] == ['  "a": 2,', '  "b": 1,', '  "b": 3,']
    assert [line.strip(" ,") for line in lines[5:10]] == ["1.0", "1", "1e400", "123456789012345678901234567890.5", "-0"]


def test_json_with_half_surrogates_is_written_as_it_was() -> None:
    assert normalized('["\\udc80\\ud83d\\ude00"]', "json") == '[\n  "\\udc80😀"\n]'


def test_json_that_is_not_utf_8_or_nested_too_deep_is_left_alone() -> None:
    for data in (b'["\xff"]', b"[" * 200 + b"]" * 200, b"[" * 100_000):
        assert normalize(data, ["json"]).data == data


def test_random_json_keys_have_their_place_by_what_they_become() -> None:
    texts = [f'{{"m": 1, "{first}": 2, "{second}": 3}}' for first, second in ((UUID_A, UUID_B), ("0" + UUID_B[1:], UUID_A))]
    assert len({normalized(text, "json", "uuid") for text in texts}) == 1


def test_names_and_commands_keep_their_shape() -> None:
    step = Normalizing(["ansi", "progress", "crlf", "json", "uuid"])
    assert step.normalize_text(f'{{"b":1,"a":\r\n"{UUID_A}\x1b[0m"}}') == '{"b":1,"a":\r\n"[UUID#1]\x1b[0m"}'


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no normaliser of that name"):
        normalize(b"", ("timestmap",))


def test_more_than_can_be_normalised_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalizing_module, "MAX_BYTES", 10)
    assert normalize(b"x" * 11, ()).data == b"x" * 11
    with pytest.raises(CaptureError, match="normalising 11 bytes: more than 10 are not"):
        normalize(b"x" * 11, ("uuid",))


# --- whatever the text -----------------------------------------------------------------------------------------------------

PIECES = [text for _, text, _ in TOUCHED] + [text for _, text in UNTOUCHED] + TIMES + DATES + [
    "\r", "\n", "\r\n", "\x1b", "\x1b[", "\x1b]", "m", "[0m", "\b", "\t", "世", "e\u0301", "[", "]", "#1]", "[UUID#1]", "{", "}",
    ",", ":", '"', "-", ".", "/", "@", " ", "5", "s", "K", "pid ", "port ", "0m", "/tmp/", "lab", "jq", "\udcff", "\0",
    '{"a": 1}', f'{{"{UUID_A}": "{UUID_B}", "b": 5, "7f5a": 3}}',
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, rules=st.lists(st.sampled_from(sorted(NAMED)), unique=True, min_size=1))
def test_normalising_twice_changes_nothing_more(text: str, rules: list[str]) -> None:
    data = text.encode(errors="ignore")
    once = normalize(data, rules, FACTS).data
    assert normalize(once, rules, FACTS).data == once


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_of_which_nothing_matches_come_back_exactly(data: bytes) -> None:
    rules = [*(name for name in NAMED if name not in ("crlf", "progress")), Normalizer("never this", "x")]
    done = normalize(data, rules, FACTS)
    if not any(done.fired.values()):
        assert done.data == data
    assert normalize(b"\xff\0\r\n\x80\r" + data, [Normalizer("never this", "x"), "uuid"]).data.startswith(b"\xff\0\r\n\x80\r")


@settings(max_examples=100, deadline=None)
@given(data=st.binary())
def test_without_rules_every_byte_comes_back(data: bytes) -> None:
    assert normalize(data, ()).data == data


HOSTILE = [
    "1", "1.", "a", " ", "\x1b[", "\x1b]", "\x1b", "[", "\r", "\b", "x\r", "1 d ", "1h", "pid ", "port", "://", "0a", "/tmp/",
    "jq", "jq ", "tmp.", "1-", "-", "{", '{"a":', "Nov ", "Sun, 1 ", "2026-11-22 ",
    "01/", "Sunday, ", "22 November ", "sha256:", "127.0.0.1", "\x1b[1m\r世",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_makes_the_named_ones_slow(piece: str) -> None:
    data = (piece * 400_000)[:400_000].encode()
    started = time.thread_time()
    normalize(data, list(NAMED), FACTS)
    assert time.thread_time() - started < 30  # a pattern that is not linear takes minutes at least


def test_a_pattern_that_would_take_for_ever_is_given_up() -> None:
    with pytest.raises(UsageError, match=r"normalising 41 characters by '\(a\+\)\+\$': not done after 0\.3 s"):
        replaced(["a" * 40 + "!"], [Normalizer("(a+)+$", "x")], time_limit_s=0.3)


@pytest.mark.parametrize("pattern", ["(?:b|b)*c", r"b+\d*", "((x))", "(?x) (b +) + c", r"[)*]\)*"])
def test_work_done_in_a_process_of_its_own_is_the_same(pattern: str) -> None:
    texts = ["bbbc1 é\udcff\0" + "b" * 3000 + "1)*", "", "x"]
    rules = [Normalizer(pattern, r"<\g<0>>"), Normalizer("b1", "")]
    expected = [replaced([text], [rule]) for text in ("bbbc", "x") for rule in rules]
    assert [replaced([text, "q" * 100_000], [rule])[:1] for text in ("bbbc", "x") for rule in rules] == expected
    assert [text for text, _ in replaced(texts, [Normalizer("never", "")])] == texts


def test_a_replacement_that_cannot_be_made_is_refused_for_large_texts_too() -> None:
    for size in (1, 100_000):
        with pytest.raises(UsageError, match="replacing"):
            replaced(["a" * size], [Normalizer("a+b*", r"\2")])
