"""A local page that compares two images. Uploads are bounded, stay in memory and are never stored."""

import base64
import http.server
import ipaddress
import json
import logging
import pathlib
import sys
import threading
import urllib.parse
from typing import Any, Optional

from vargfacenet.deploy.faces import Comparison, Detector, FaceModel, face_of
from vargfacenet.errors import SetupError, VarGFaceNetError
from vargfacenet.formats.images import encode_png

MOST_BYTES = 16 << 20  # of both images together
SECONDS = 20  # until a silent connection is closed
PAGE = pathlib.Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data: blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


def make_server(
    model: FaceModel,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str = "",
    detector: Optional[Detector] = None,
) -> http.server.ThreadingHTTPServer:
    """Return a server that is bound and ready for ``serve_forever()``.

    Parameters
    ----------
    host
        An address of this machine; the default accepts connections from this machine alone.
    port
        0 for any free port.
    name
        The name of the model on the page.
    detector
        Finds faces in photographs, as for `vargfacenet.deploy.face_of`; without it the middle square is taken.

    Raises
    ------
    SetupError
        Where the server cannot listen on the address.
    """
    about = {
        "how": _HOW["cropped" if detector is None else "aligned"],
        "model": f"Model: {name or 'without a name'}, {model.fingerprint[:12]}.",
        "bytes": MOST_BYTES,
    }
    # Decoded images are large: one comparison at a time, over all requests.
    fixed = {"model": model, "detector": detector, "about": about, "lock": threading.Lock()}
    handler = type("Handler", (_Handler,), fixed)
    try:
        return _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise SetupError(f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}") from error


_ALIGNED_ALREADY = "Images of 112x112 pixels are taken as aligned faces."
_HOW = {
    "aligned": f"Give two photographs with one face each, which is found and aligned. {_ALIGNED_ALREADY}",
    "cropped": f"{_ALIGNED_ALREADY} Of others the middle square is taken, and the answer is only as good as the face's place "
    "in it: the detector of faces is not installed here.",
}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that closes its connection; log any other error in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            log.error("a request failed: %s: %s", type(error).__name__, error)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = SECONDS
    server_version, sys_version = "vargfacenet", ""

    # Set by `make_server`.
    model: FaceModel
    detector: Optional[Detector]
    about: dict[str, Any]
    lock: threading.Lock

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if not self._is_own_request():
            return
        if path == "/about":
            self._answer(200, self.about)
            return
        if path not in _FILES:
            self._answer(404, {"error": "this page does not exist"})
            return
        name, kind = _FILES[path]
        self._send(200, (PAGE / name).read_bytes(), kind)

    def do_POST(self) -> None:
        self.close_connection = True  # the unread rest of a refused upload is not a next request
        address = urllib.parse.urlsplit(self.path)
        if not self._is_own_request():
            return
        if address.path != "/compare":
            self._answer(404, {"error": "this page does not exist"})
            return
        length = self.headers.get("Content-Length", "")
        first = urllib.parse.parse_qs(address.query).get("first", [""])[0]
        numbers = all(text.isdecimal() and len(text) < 16 for text in (length, first))
        if not (numbers and int(first) <= int(length)):
            self._answer(400, {"error": "two images are expected, and the size of the first"})
            return
        if int(length) > MOST_BYTES:
            self._drain()
            size = f"{int(length) / 2**20:.1f} MiB together; at most {MOST_BYTES >> 20} are taken"
            self._answer(413, {"error": f"the images are {size}: make them smaller first"})
            return
        body = self.rfile.read(int(length))
        if len(body) == int(length):
            self._compare(body[: int(first)], body[int(first) :])

    def _compare(self, one: bytes, other: bytes) -> None:
        try:
            with self.lock:
                crop, detector = self.detector is None, self.detector
                faces = [
                    face_of(image, f"the {place} image", crop=crop, detector=detector)
                    for place, image in (("first", one), ("second", other))
                ]
                result = self.model.compare_faces(*faces)
        except VarGFaceNetError as error:
            self._answer(422, {"error": str(error)})
            return
        verdict, at = _in_words(result)
        shown = ["data:image/png;base64," + base64.b64encode(encode_png(face)).decode() for face in faces]
        self._answer(200, {**result._asdict(), "verdict": verdict, "at": at, "faces": shown})

    def _is_own_request(self) -> bool:
        """Return True for a request of this server's own page; refuse those that another site's page sends."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if _is_address(host) and origin in (None, f"http://{host}"):
            return True
        self._answer(403, {"error": "this server answers only its own page, opened by address or as localhost"})
        return False

    def _drain(self) -> None:
        """Read up to four times the limit: a browser that is still sending does not see an answer."""
        left = min(int(self.headers["Content-Length"]), 4 * MOST_BYTES)
        while left > 0:
            try:
                part = self.rfile.read1(1 << 16)
            except OSError:  # the connection is closed or silent
                return
            if not part:
                return
            left -= len(part)

    def _answer(self, status: int, content: object) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        log.debug(format, *values)


def _in_words(result: Comparison) -> tuple[str, str]:
    """Return the verdict of a comparison, and its basis, for the page."""
    if result.same is None:
        return "No verdict", "The model has no threshold: start with --threshold, or export it with --verify SET.bin."
    far = "" if result.far is None else f", measured at a false accept rate of {result.far:g}"
    verdict, place = ("One person", "is above") if result.same else ("Different people", "is not above")
    return verdict, f"The cosine {place} the threshold of {result.threshold:.4f}{far}."


def _is_address(host: str) -> bool:
    """Return True where a Host header is an IP address or localhost: the owner of a name can make it lead here."""
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        ipaddress.ip_address(name)
    except ValueError:
        return host.partition(":")[0] == "localhost"
    return True
