"""A local page that compares two images. Uploads are bounded, stay in memory and are never stored."""

import base64
import http.server
import pathlib
import threading
import urllib.parse
from typing import Any, Optional

from vargfacenet.deploy.faces import Comparison, Detector, FaceModel, face_of
from vargfacenet.deploy.server import MOST_BYTES, Handler, listen
from vargfacenet.errors import VarGFaceNetError
from vargfacenet.formats.images import encode_png

PAGE = pathlib.Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    **Handler.headers_sent,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data: blob:",
}


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
    return listen(handler, host, port)


_ALIGNED_ALREADY = "Images of 112x112 pixels are taken as aligned faces."
_HOW = {
    "aligned": f"Give two photographs with one face each, which is found and aligned. {_ALIGNED_ALREADY}",
    "cropped": f"{_ALIGNED_ALREADY} Of others the middle square is taken, and the answer is only as good as the face's place "
    "in it: the detector of faces is not installed here.",
}


class _Handler(Handler):
    headers_sent = _HEADERS

    # Set by `make_server`.
    model: FaceModel
    detector: Optional[Detector]
    about: dict[str, Any]
    lock: threading.Lock

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if not self.is_own_request():
            return
        if path == "/about":
            self.answer(200, self.about)
            return
        if path not in _FILES:
            self.answer(404, {"error": "this page does not exist"})
            return
        name, kind = _FILES[path]
        self.send(200, (PAGE / name).read_bytes(), kind)

    def do_POST(self) -> None:
        self.close_connection = True  # the unread rest of a refused upload is not a next request
        address = urllib.parse.urlsplit(self.path)
        if not self.is_own_request():
            return
        if address.path != "/compare":
            self.answer(404, {"error": "this page does not exist"})
            return
        first = urllib.parse.parse_qs(address.query).get("first", [""])[0]
        length = self.headers.get("Content-Length", "")
        numbers = all(text.isdecimal() and len(text) < 16 for text in (length, first))
        if not (numbers and int(first) <= int(length)):
            self.answer(400, {"error": "two images are expected, and the size of the first"})
            return
        body = self.read_body()
        if body is not None:
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
            self.answer(422, {"error": str(error)})
            return
        verdict, at = _in_words(result)
        shown = ["data:image/png;base64," + base64.b64encode(encode_png(face)).decode() for face in faces]
        self.answer(200, {**result._asdict(), "verdict": verdict, "at": at, "faces": shown})


def _in_words(result: Comparison) -> tuple[str, str]:
    """Return the verdict of a comparison, and its basis, for the page."""
    if result.same is None:
        return "No verdict", "The model has no threshold: start with --threshold, or export it with --verify SET.bin."
    far = "" if result.far is None else f", measured at a false accept rate of {result.far:g}"
    verdict, place = ("One person", "is above") if result.same else ("Different people", "is not above")
    return verdict, f"The cosine {place} the threshold of {result.threshold:.4f}{far}."
