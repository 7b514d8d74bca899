"""A small HTTP service: embeddings, comparisons and a search in a gallery. Uploads are bounded and never stored."""

import http.server
import urllib.parse
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from vargfacenet.deploy.faces import face_of
from vargfacenet.deploy.multipart import read_parts
from vargfacenet.deploy.openapi import FIELD, MOST_IMAGES, MOST_TOP, describe
from vargfacenet.deploy.server import Address, Handler, Refused, Served, make_server
from vargfacenet.errors import DataError


def make_service(served: Served, address: Optional[Address] = None) -> http.server.ThreadingHTTPServer:
    """Return the service, as `make_server` does; DataError where the gallery is empty or of another network.

    Without a detector, images that are not 112x112 are refused.
    """
    if served.gallery is not None:
        served.gallery.check_searchable(served.model)
    return make_server(_Handler, served, address)


class _Handler(Handler):
    def do_GET(self) -> None:
        self._route({"/health": self._health, "/openapi.json": self._describe}, "GET")

    def do_POST(self) -> None:
        self._route({"/embed": self._embed, "/compare": self._compare, "/search": self._search}, "POST")

    do_HEAD = do_GET

    def _route(self, answers: dict[str, Callable[[], Any]], method: str) -> None:
        self.close_connection = True  # the unread rest of a refused upload is not a next request
        path = urllib.parse.urlsplit(self.path).path
        if not self.is_own_request():
            return
        if path not in answers:
            self.drain()
            other = _METHODS.get(path)
            if other:
                self.answer(405, {"error": f"{path} is asked by {other}, not by {method}"}, Allow=other)
            else:
                self.answer(404, {"error": f"there is no such path; there are {', '.join(_METHODS)}"})
            return
        self.answer_with(answers[path])

    def _health(self) -> dict[str, Any]:
        model, gallery = self.served.model, self.served.gallery
        searched = {"faces": len(gallery.names), "people": len(set(gallery.names))} if gallery else None
        return {
            "status": "ok",
            **self._about(),
            "threshold": model.threshold,
            "far": model.far,
            "aligns": self.served.detector is not None,
            "gallery": searched,
        }

    def _about(self) -> dict[str, str]:
        return {"model": self.served.name, "fingerprint": self.served.model.fingerprint}

    def _describe(self) -> dict[str, Any]:
        return describe()

    def _embed(self) -> Optional[dict[str, Any]]:
        images = self._images(1, MOST_IMAGES)
        if images is None:
            return None
        return {**self._about(), "embeddings": [[float(number) for number in row] for row in self._rows(images)]}

    def _compare(self) -> Optional[dict[str, Any]]:
        images = self._images(2, 2)
        if images is None:
            return None
        with self.lock:
            result = self.served.model.compare_faces(*map(self._face, images, (1, 2)))
        return {**self._about(), **result._asdict()}

    def _search(self) -> Optional[dict[str, Any]]:
        gallery, threshold = self.served.gallery, self.served.model.threshold
        if gallery is None:
            raise Refused(404, "this service has no gallery: start it with --gallery FOLDER")
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        text = query.get("top", ["5"])[0]
        if not (text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST_TOP):
            raise Refused(400, f"top={text[:20]!r}: expected a whole number of 1 .. {MOST_TOP}")
        images = self._images(1, MOST_IMAGES)
        if images is None:
            return None
        found = [
            [
                {"name": hit.name, "cosine": hit.cosine, "same": None if threshold is None else hit.cosine > threshold}
                for hit in gallery.nearest(row, top=int(text))
            ]
            for row in self._rows(images)
        ]
        return {**self._about(), "threshold": threshold, "found": found}

    def _images(self, least: int, most: int) -> Optional[list[bytes]]:
        """Return the images of the form in the request; None after an answer, where it has no usable body."""
        kind = self.headers.get("Content-Type", "")
        if kind.partition(";")[0].strip().lower() != "multipart/form-data":
            raise Refused(415, f"expected multipart/form-data with images in fields {FIELD!r}")
        body = self.read_body()
        if body is None:
            return None
        try:
            parts = read_parts(kind, body)
        except DataError as error:
            raise Refused(400, str(error)) from None
        others = [name for name, _ in parts if name != FIELD]
        if others:
            raise Refused(400, f"unknown field {others[0][:40]!r}: expected images in fields {FIELD!r}")
        if not least <= len(parts) <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            raise Refused(400, f"{len(parts)} images, expected {expected} in fields {FIELD!r}")
        return [content for _, content in parts]

    def _rows(self, images: list[bytes]) -> np.ndarray:
        with self.lock:
            return self.served.model.embed([self._face(one, place) for place, one in enumerate(images, 1)])

    def _face(self, image: bytes, place: int) -> np.ndarray:
        return face_of(image, f"image {place}", detector=self.served.detector)


_METHODS = {"/health": "GET", "/openapi.json": "GET", "/embed": "POST", "/compare": "POST", "/search": "POST"}
