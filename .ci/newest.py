"""Runs the tests that need no engine under a newer python3 than this machine's: that of a Debian release, in a container.

    .venv/bin/python .ci/newest.py [RELEASE]        RELEASE is a codename; trixie (python 3.13) if none is given

The image with the release's python3 is kept by the engine like that of any tool. The checkout is mounted read-only and copied;
the packages are those of constraints.txt. Exits with pytest's status, or with 3 where it does not come to that.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from docker.types import Mount

from testronaut_lab.errors import LabError
from testronaut_lab.execution.factory import SessionFactory
from testronaut_lab.installation.trust import host_trust
from testronaut_lab.model.plan import ImageSpec, InstallSpec, ToolSpec
from testronaut_lab.model.releases import release_called
from testronaut_lab.store.blobs import BlobStore

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON = ToolSpec("python3", (InstallSpec("apt", "python3-venv"),), command="python3")
SCRIPT = r"""
set -e
mkdir -p /tmp/lab/.git && cd /checkout && tar -c --exclude ./.venv --exclude ./.git --exclude ./.testronaut . | tar -x -C /tmp/lab
cd /tmp/lab
python3 -m venv /tmp/venv
/tmp/venv/bin/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
useradd --user-group ordinary
chown -R ordinary: /tmp/lab
exec setpriv --reuid ordinary --regid ordinary --clear-groups /tmp/venv/bin/pytest --no-cov -p no:cacheprovider -m 'not engine'
"""


def main(release: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        bench = SessionFactory(lambda _: None, BlobStore(Path(folder)))
        try:
            image = bench.prepare(0, ImageSpec(release_called(f"{release}-slim")), (PYTHON,))
            return _test_in(bench, image)
        finally:
            bench.close()


def _test_in(bench: SessionFactory, image: str) -> int:
    """Show what the tests say as they say it. Only root reads what is mounted; the tests run as an ordinary user."""
    trust = host_trust(os.environ)
    with trust.mounts() as mounts:
        places = {"/checkout": CHECKOUT, **mounts}
        container = bench.engine.client.containers.create(
            image,
            ["sh", "-c", SCRIPT],
            init=True,
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],  # some tests make namespaces
            environment={"HOME": "/tmp", "LANG": "C.UTF-8", **dict(trust.env)},
            mounts=[Mount(target, str(source), type="bind", read_only=True) for target, source in places.items()],
        )
        try:
            container.start()
            for data in container.logs(stream=True, follow=True):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "trixie"))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3)
