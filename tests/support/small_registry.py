"""As much of a registry as a pull needs, on this machine; one that answers at once, late, or never."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD_AT_MOST_S = 60.0


class Registry:
    """It has the one image `thing:1`, which is a layer of `content`. Whoever asks for what has `held` in its path gets half of
    it at once, and the rest once `go` is set."""

    def __init__(self, content: bytes = b"", held: str | None = None, architecture: str = "amd64") -> None:
        self.held = held
        self.go = threading.Event()
        self.asked: list[str] = []
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            if content:
                info = tarfile.TarInfo("file")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        packed = gzip.compress(layer.getvalue())
        diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
        config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "config": {}}
        self.answers: dict[str, tuple[str, bytes]] = {"/v2/": ("application/json", b"{}")}
        kind = "application/vnd.docker.{}".format
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind("distribution.manifest.v2+json"),
            "config": self._blob(kind("container.image.v1+json"), json.dumps(config).encode()),
            "layers": [self._blob(kind("image.rootfs.diff.tar.gzip"), packed)],
        }
        self.layer = str(manifest["layers"][0]["digest"])  # type: ignore[index]
        text = json.dumps(manifest).encode()
        for name in ("1", f"sha256:{hashlib.sha256(text).hexdigest()}"):
            self.answers[f"/v2/thing/manifests/{name}"] = (str(manifest["mediaType"]), text)

    def _blob(self, kind: str, data: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.answers[f"/v2/thing/blobs/{digest}"] = (kind, data)
        return {"mediaType": kind, "size": len(data), "digest": digest}


@contextmanager
def serving(registry: Registry) -> Iterator[str]:
    """HOST:PORT of a registry that answers inside the `with`; engines speak plain HTTP to those of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            kind, data = registry.answers.get(self.path, ("application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'))
            self.send_response(200 if self.path in registry.answers else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self._write(data)

        do_HEAD = do_GET  # noqa: N815

        def _write(self, data: bytes) -> None:
            if registry.held is None or registry.held not in self.path:
                self.wfile.write(data)
                return
            half = len(data) // 2
            self.wfile.write(data[:half])
            self.wfile.flush()
            registry.go.wait(HELD_AT_MOST_S)
            try:
                self.wfile.write(data[half:])
            except OSError:  # the engine gave up
                return

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            registry.go.set()
            server.shutdown()
