"""A loopback server that misbehaves as asked, and small cohorts on disk."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from medfm3d.volumes import Volume, write_volume


class LoopbackServer(ThreadingHTTPServer):
    """Serves `files`, and notes each request's Range in `ranges`.

    The first `drops` answers break off half-way, the next `busy` ones are a 503; of a range it sends `longest`
    bytes at the most.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.etag: str | None = '"first"'
        self.drops = 0
        self.busy = 0
        self.knows_ranges = True
        self.longest: int | None = None
        self.ranges: list[str | None] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing where a client hangs up, as some tests do."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        content = self.server.files.get(self.path.removeprefix("/"))
        if content is None:
            return self.send_error(404)
        if self.server.busy and not self.server.drops:
            self.server.busy -= 1
            return self.send_error(503)
        start = 0
        same_file = self.headers.get("If-Range") in (None, self.server.etag)
        if asked and self.server.knows_ranges and same_file:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        end = min(len(content), start + self.server.longest) if start and self.server.longest else len(content)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.server.drops:
            self.server.drops -= 1
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content[start:end])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def write_case() -> Callable[..., None]:
    """Writes an image and perhaps a label map with {label value: voxels}, 10 x 10 x 10 voxels of 1 x 1 x 2 mm."""

    def write(image: Path, label: Path | None = None, organs: dict[int, int] | None = None) -> None:
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        image.parent.mkdir(parents=True, exist_ok=True)
        write_volume(Volume(np.arange(1000, dtype=np.float32).reshape(10, 10, 10), affine), image)
        if label is not None:
            values = np.repeat(list(organs or {1: 10}), list((organs or {1: 10}).values()))
            array = np.pad(values, (0, 1000 - values.size)).astype(np.uint8).reshape(10, 10, 10)
            label.parent.mkdir(parents=True, exist_ok=True)
            write_volume(Volume(array, affine), label)

    return write
