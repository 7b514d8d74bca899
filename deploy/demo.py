"""A local page that compares two images. Uploads are bounded, stay in memory and are never stored."""

import base64
import http.server
import pathlib
import urllib.parse
from typing import Any, Optional

from vargfacenet.deploy.faces import Comparison, face_of
from vargfacenet.deploy.server import MOST_BYTES, Address, Handler, Served, make_server
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


def make_demo(served: Served, address: Optional[Address] = None) -> http.server.ThreadingHTTPServer:
    """Return the server of the page, as `make_server` does; without a detector, images are cropped to their middle."""
    return make_server(_Handler, served, address)


_ALIGNED_ALREADY = "Images of 112x112 pixels are taken as aligned faces."
_HOW = {
    "aligned": f"Give two photographs with one face each, which is found and aligned. {_ALIGNED_ALREADY}",
    "cropped": f"{_ALIGNED_ALREADY} Of others the middle square is taken, and the answer is only as good as the face's place "
    "in it: the detector of faces is not installed here.",
}


class _Handler(Handler):
    headers_sent = _HEADERS

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if not self.is_own_request():
            return
        if path == "/about":
            self.answer(200, _about(self.served))
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
            self.answer_with(lambda: self._compare(body[: int(first)], body[int(first) :]))

    def _compare(self, one: bytes, other: bytes) -> dict[str, Any]:
        detector = self.served.detector
        with self.lock:
            faces = [
                face_of(image, f"the {place} image", crop=detector is None, detector=detector)
                for place, image in (("first", one), ("second", other))
            ]
            result = self.served.model.compare_faces(*faces)
        verdict, at = _in_words(result)
        shown = ["data:image/png;base64," + base64.b64encode(encode_png(face)).decode() for face in faces]
        return {**result._asdict(), "verdict": verdict, "at": at, "faces": shown}


def _about(served: Served) -> dict[str, Any]:
    """Return what the page says of the model and of its images."""
    return {
        "how": _HOW["cropped" if served.detector is None else "aligned"],
        "model": f"Model: {served.name or 'without a name'}, {served.model.fingerprint[:12]}.",
        "bytes": MOST_BYTES,
    }


def _in_words(result: Comparison) -> tuple[str, str]:
    """Return the verdict of a comparison, and its basis, for the page."""
    if result.same is None:
        return "No verdict", "The model has no threshold: start with --threshold, or export it with --verify SET.bin."
    far = "" if result.far is None else f", measured at a false accept rate of {result.far:g}"
    verdict, place = ("One person", "is above") if result.same else ("Different people", "is not above")
    return verdict, f"The cosine {place} the threshold of {result.threshold:.4f}{far}."
