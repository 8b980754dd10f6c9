"""How fast a session captures a large stream, and in how much memory, against a plain reader of a FIFO in the same run.

A result names its streams by their SHA-256, so that what hashing them takes is a bound; it stands beside the other rates.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import docker
from docker.models.containers import Container
from docker.types import Mount
from process import MIB, forget_peak, memory_bytes
from table import Figure

from testronaut_lab import Session
from testronaut_lab.execution.factory import SessionSettings
from testronaut_lab.model.plan import Limits

TOTAL_BYTES = 256 * MIB
LINE_BYTES = 64 * MIB
ROUNDS = 7
_LINES = f"yes '{'0123456789' * 7}' | head -c {TOTAL_BYTES - LINE_BYTES}; head -c {LINE_BYTES} /dev/zero"
SOURCES = {
    "zeros, all one line": f"head -c {TOTAL_BYTES} /dev/zero",
    "lines of 71 bytes, then one of 64 MiB": _LINES,
}


def measure(image: str, rounds: int = ROUNDS) -> list[Figure]:
    """Print a row for each source."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared, tempfile.TemporaryDirectory() as root:
        settings = SessionSettings(limits=Limits(output_bytes=2 * TOTAL_BYTES))
        client = docker.from_env()
        with Session(image, settings=settings, root=Path(root)) as session:
            session.start()
            mounts = [Mount("/shared", shared, type="bind")]
            bare = client.containers.run(
                session.image_id, ["sleep", "3600"], detach=True, init=True, mounts=mounts, nano_cpus=10**9, mem_limit="512m"
            )
            try:
                return _compare(session, bare, Path(shared), rounds)
            finally:
                bare.remove(force=True)
                client.close()


def _compare(session: Session, bare: Container, shared: Path, rounds: int) -> list[Figure]:
    print(f"\n**{TOTAL_BYTES // MIB} MiB of stdout** (n = {rounds} each, in turn, in one run)\n")
    print("| source | plain FIFO reader MiB/s | SHA-256 alone MiB/s | session MiB/s | ratio | our process grew by MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    figures: list[Figure] = []
    for name, script in SOURCES.items():
        plain, ours, grown = zip(*(_one_turn(session, bare, shared, script) for _ in range(rounds)), strict=True)
        hashing = [_hash_s() for _ in range(rounds)]
        plain_rate, hash_rate, rate = (TOTAL_BYTES / MIB / statistics.median(times) for times in (plain, hashing, ours))
        growth_mib = max(grown) / MIB
        print(f"| {name} | {plain_rate:.0f} | {hash_rate:.0f} | {rate:.0f} | {rate / plain_rate:.2f} | {growth_mib:.1f} |")
        figures.append(
            Figure(f"capture: {name}", "≥ 0.5 × a plain reader", f"{rate / plain_rate:.2f} ×", rate >= 0.5 * plain_rate)
        )
        figures.append(Figure("  growth of our process", "< 64 MiB", f"{growth_mib:.1f} MiB", growth_mib < 64))
    return figures


def _one_turn(session: Session, bare: Container, shared: Path, script: str) -> tuple[float, float, int]:
    """Seconds by the plain reader, seconds by the session, growth of our process in bytes at its highest."""
    plain_s = _read_plainly(bare, shared, script)
    forget_peak()
    before = memory_bytes("VmRSS")
    started = time.perf_counter()
    result = session.run(script)
    taken_s = time.perf_counter() - started
    stream = result.check().stdout_stream
    assert (stream.size_bytes, stream.truncated) == (TOTAL_BYTES, False), stream
    assert stream.path is not None
    Path(stream.path).unlink()  # output that is in the store already is not what the next turn should find
    return plain_s, taken_s, memory_bytes("VmHWM") - before


def _hash_s() -> float:
    piece, digest = bytes(MIB), hashlib.sha256()
    started = time.perf_counter()
    for _ in range(TOTAL_BYTES // MIB):
        digest.update(piece)
    return time.perf_counter() - started


def _read_plainly(bare: Container, shared: Path, script: str) -> float:
    fifo = shared / "out"
    os.mkfifo(fifo)
    try:
        bare.exec_run(["sh", "-c", f"{{ {script}; }} >/shared/out"], detach=True)
        fd = os.open(fifo, os.O_RDONLY)  # returns when the writer has opened it
        started = time.perf_counter()
        seen = 0
        while data := os.read(fd, MIB):
            seen += len(data)
        taken_s = time.perf_counter() - started
        os.close(fd)
    finally:
        fifo.unlink()
    assert seen == TOTAL_BYTES, seen
    return taken_s
