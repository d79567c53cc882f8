"""A small server on this machine alone, which the viewer's page is read from."""

import errno
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from medfm3d.evaluation.viewer.assets import niivue_licence, niivue_script, page_asset
from medfm3d.evaluation.viewer.cases import OpenedCase, ViewerCase, open_case
from medfm3d.evaluation.viewer.nifti_stream import NiftiStream
from medfm3d.evaluation.viewer.page import viewer_page
from medfm3d.evaluation.viewer.reduced_copy import reduced_copy
from medfm3d.volumes import VolumeError

HOST = "127.0.0.1"
DEFAULT_PORT = 8765
LARGEST_VOXELS = 512**3  # shown as they are; a browser holds several copies of a scan, and larger ones fail
OPEN_AT_ONCE = 2  # cases in memory
# Nothing is loaded from elsewhere, nor may another page frame this one or read what it is fed.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class ViewerServer:
    """Serves a page on cases, and their scans and masks, on 127.0.0.1.

    A request names a case by its number in the list: no path of the file system is ever taken from it. Addresses hold a
    random token, so that other users of the machine cannot guess them, and a request whose Host is not this server's
    is refused, so that no web site can reach it under a name of its own (DNS rebinding).

    Args:
        cases: what can be looked at.
        organs: name and id of each organ.
        title: heading of the page.
        port: where to listen; 0 for any free port.

    Raises:
        OSError: if the port is taken or may not be used.
        FileNotFoundError: if medfm3d was built without NiiVue.
    """

    def __init__(
        self, cases: Sequence[ViewerCase], organs: Mapping[str, int], title: str, port: int = DEFAULT_PORT
    ) -> None:
        self._cases, self._organs = list(cases), dict(organs)
        self._opened: OrderedDict[int, OpenedCase] = OrderedDict()
        self._lock = threading.Lock()
        token = secrets.token_urlsafe(12)
        self.fixed = {
            "": ("text/html", viewer_page(title, self._cases)),
            "viewer.js": ("text/javascript", page_asset("viewer.js")),
            "viewer.css": ("text/css", page_asset("viewer.css")),
            "view.js": ("text/javascript", page_asset("view.js")),
            "view.css": ("text/css", page_asset("view.css")),
            "niivue.js": ("text/javascript", niivue_script()),
            "niivue-licence.txt": ("text/plain", niivue_licence()),
        }
        try:
            self._server = ThreadingHTTPServer((HOST, port), _Handler)
        except OSError as error:
            what = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
            raise OSError(f"port {port} {what}; choose another with --port, or --port 0 for any") from None
        self._server.daemon_threads = True
        self._server.viewer = self
        self.port = self._server.server_address[1]
        self.prefix = f"/{token}/"
        self.url = f"http://{HOST}:{self.port}{self.prefix}"
        self.hosts = {f"{HOST}:{self.port}", f"localhost:{self.port}"}

    def serve(self) -> None:
        """Answer requests until `close` is called from another thread, or until interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()

    def free_port(self) -> None:
        """Free the port after `serve` was interrupted."""
        self._server.server_close()

    def opened(self, number: int) -> OpenedCase:
        """Return a case, read once for the requests that follow each other; raises as `open_case`."""
        with self._lock:
            if number not in self._opened:
                while len(self._opened) >= OPEN_AT_ONCE:
                    self._opened.popitem(last=False)
                self._opened[number] = _fit(open_case(self._cases[number], self._organs))
            self._opened.move_to_end(number)
            return self._opened[number]

    def answer(self, name: str) -> tuple[str, int, Iterable[bytes]] | None:
        """Return type, length and content of what a name stands for, or None if it stands for nothing."""
        if name in self.fixed:
            kind, text = self.fixed[name]
            content = text.encode()
            return f"{kind}; charset=utf-8", len(content), [content]
        place, _, what = name.removeprefix("case/").partition("/")
        if not name.startswith("case/") or not place.isdecimal() or int(place) >= len(self._cases):
            return None
        if what == "description.json":
            content = json.dumps(self.opened(int(place)).description).encode()
            return "application/json", len(content), [content]
        if what not in ("scan.nii", "mask.nii"):
            return None
        case = self.opened(int(place))
        volume = case.scan if what == "scan.nii" else case.mask
        if volume is None:
            return None
        stream = NiftiStream(volume)
        return "application/octet-stream", len(stream), stream


def _fit(case: OpenedCase) -> OpenedCase:
    """Bring what a browser cannot hold to a coarser grid, and say so; volumes stay those of the whole mask."""
    scan, mask = reduced_copy(case.scan, case.mask, LARGEST_VOXELS)
    shown = None
    if scan.shape != case.scan.shape:
        shown = "reduced to " + " x ".join(f"{size:.3g}" for size in scan.spacing_mm) + " mm, as it is too large"
    return OpenedCase(scan, mask, {**case.description, "shown": shown})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "medfm3d", ""
    timeout = 60

    def do_GET(self) -> None:
        viewer: ViewerServer = self.server.viewer
        if self.headers.get("Host") not in viewer.hosts:
            return self._say(HTTPStatus.FORBIDDEN, f"this server is {viewer.url.split('/')[2]} and no other")
        path = self.path.partition("?")[0]
        if not path.startswith(viewer.prefix):
            return self._say(HTTPStatus.NOT_FOUND, "nothing here; use the whole address that medfm3d view printed")
        try:
            answer = viewer.answer(path.removeprefix(viewer.prefix))
        except (VolumeError, OSError) as error:
            return self._say(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        if answer is None:
            return self._say(HTTPStatus.NOT_FOUND, "nothing here")
        kind, length, content = answer
        self._head(HTTPStatus.OK, kind, length)
        try:
            for part in content:
                self.wfile.write(part)
        except ConnectionError:  # the page went on to another case
            self.close_connection = True
        return None

    def _say(self, status: HTTPStatus, text: str) -> None:
        content = (text + "\n").encode()
        self._head(status, "text/plain; charset=utf-8", len(content))
        self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, length: int) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **SECURITY}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: names of cases are no matter for a terminal's history."""
