"""What a session costs on this machine's engine beside `docker run --rm`, as JSON: `python sessionfigures.py IMAGE`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from testronaut_lab.execution.context import StepRequest
from testronaut_lab.model.result import ExitKind
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.workbench import SessionSettings, Workbench

RUNS = 3
STEPS = 20
TIMEOUT_S = 1.0


def main(ref: str) -> None:
    docker_run_s = median(
        _took_s(lambda: subprocess.run(["docker", "run", "--rm", ref, "true"], check=True)) for _ in range(RUNS)
    )
    image_id = subprocess.run(
        ["docker", "inspect", "-f", "{{.Id}}", ref], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        runs = [_session(image_id, Path(folder)) for _ in range(RUNS)]
    figures = {name: median(run[name] for run in runs) for name in runs[0]}
    print(json.dumps({"docker run --rm, s": docker_run_s, **figures}))


def _session(image_id: str, folder: Path) -> Mapping[str, float]:
    bench = Workbench(lambda _: None, BlobStore(folder))
    try:
        assert bench.engine
        started = time.monotonic()
        session = bench.session(image_id, SessionSettings(), {})
        start_s = time.monotonic() - started
        step_s = median(_took_s(lambda: session.run(StepRequest("s", "f::s", run=":"))) for _ in range(STEPS))
        late = session.run(StepRequest("s", "f::s", run="sleep 300", timeout_s=TIMEOUT_S))
        assert late.exit.kind is ExitKind.TIMEOUT
        end_s = _took_s(session.close)
    finally:
        bench.close()
    return {
        "start of a session, s": start_s,
        "a step, ms": step_s * 1000,
        "a timeout, later than asked, ms": (late.duration_s - TIMEOUT_S) * 1000,
        "end of a session, s": end_s,
    }


def _took_s(do: Callable[[], object]) -> float:
    started = time.monotonic()
    do()
    return time.monotonic() - started


if __name__ == "__main__":
    main(sys.argv[1])
