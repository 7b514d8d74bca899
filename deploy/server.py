"""The HTTP server under the demo's page and the service: bounded requests, no name that leads here, one line for a fault."""

import contextlib
import http.server
import ipaddress
import json
import logging
import socket
import sys
import threading
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Optional

from vargfacenet.deploy.faces import Detector, FaceModel
from vargfacenet.deploy.gallery import Gallery
from vargfacenet.errors import SettingError, SetupError, VarGFaceNetError

MOST_BYTES = 16 << 20  # of the body of a request
MOST_CONNECTIONS = 32
SECONDS = 20  # until a silent connection is closed
REQUEST_SECONDS = 120  # until one is closed that has not sent its whole request, however busy it is

log = logging.getLogger(__name__)


class Served(NamedTuple):
    """The model, detector and gallery of a server.

    ``name`` is that of the model in answers. With a ``detector``, faces in images that are not 112x112 are aligned.
    ``gallery`` is searched by the service; None where there is none.
    """

    model: FaceModel
    name: str
    detector: Optional[Detector] = None
    gallery: Optional[Gallery] = None


class Address(NamedTuple):
    """The address on which a server listens, and by which requests may call it.

    Attributes
    ----------
    host
        A name or address of this machine; the default accepts connections from this machine alone.
    port
        0 for any free port.
    names
        Names of this machine by which requests may call it, in addition to addresses and localhost.
    most_connections
        Connections at a time; further ones are answered by 503.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    names: Collection[str] = ()
    most_connections: int = MOST_CONNECTIONS


def make_server(
    handler: type["Handler"], served: Served, address: Optional[Address] = None
) -> http.server.ThreadingHTTPServer:
    """Return a server that is bound and ready for ``serve_forever()``.

    Raises
    ------
    SettingError
        Where one of the names is not that of a host.
    SetupError
        Where the server cannot listen on the address.
    """
    host, port, names, most_connections = address or Address()
    # Decoded images are large: one request at a time is worked on, the others wait.
    fixed = {"served": served, "names": frozenset(map(_checked_name, names)), "lock": threading.Lock()}
    try:
        return _Server((host, port), type("Handler", (handler,), fixed), most_connections)
    except (OSError, OverflowError, UnicodeError) as error:
        raise SetupError(
            f"cannot listen on {host or 'an empty host'} port {port}: {getattr(error, 'strerror', None) or error}"
        ) from error


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type["Handler"], most_connections: int) -> None:
        self._free = threading.BoundedSemaphore(most_connections)
        families = {family for family, *_ in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)}
        self.address_family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, as long as there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        try:
            request.settimeout(1)
            request.sendall(_BUSY)
            request.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            pass
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that closes its connection; log any other error in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, _GONE):
            log.error("a request failed: %s: %s", type(error).__name__, error)


_GONE = (ConnectionError, socket.timeout)  # the latter is TimeoutError, except on Python 3.9
_BUSY_BODY = b'{"error": "too many connections: try again later"}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BUSY_BODY), _BUSY_BODY)
)


class Refused(Exception):
    """An error of a request, by its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests of this machine's own pages and programs."""

    # Set by `make_server`.
    served: Served
    lock: threading.Lock
    names: Collection[str] = ()  # hosts by which the server may be called, in addition to addresses and localhost

    timeout = SECONDS
    _is_read = False  # one request in a connection
    server_version, sys_version = "vargfacenet", ""
    headers_sent: Mapping[str, str] = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }

    def setup(self) -> None:
        super().setup()
        self._deadline = threading.Timer(REQUEST_SECONDS, self._hang_up)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        super().finish()

    def _hang_up(self) -> None:
        """Close a connection that is still sending: each byte may come before the time of a silent one is over."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer_with(self, make: Callable[[], Any]) -> None:
        """Send what a function returns as JSON; None where it has answered itself. Errors are answers too."""
        try:
            content = make()
        except Refused as refused:
            self.drain()
            self.answer(refused.status, {"error": str(refused)})
        except VarGFaceNetError as error:
            self.answer(422, {"error": str(error)})
        except _GONE:
            raise
        except Exception as error:  # noqa: BLE001 - the client learns of it, the log has one line
            path = urllib.parse.urlsplit(self.path).path
            log.error("%s failed: %s: %s", path, type(error).__name__, error)
            self.answer(500, {"error": "the request failed by a fault of the server; its log has more"})
        else:
            if content is not None:
                self.answer(200, content)

    def is_own_request(self) -> bool:
        """Return True for a request by address, localhost or a known name; refuse those that another site's page sends."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        known = _is_address(host) or _name_of(host) in self.names
        if known and origin in (None, f"http://{host}", f"https://{host}"):
            return True
        self.answer(403, {"error": "this server answers only its own page, opened by address or as localhost"})
        return False

    def read_body(self) -> "bytes | None":
        """Return the body of a request; None after an answer where it has no length, is too long, or is cut."""
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and len(length) < 16):
            self.answer(411, {"error": "the request must state its length (Content-Length)"})
            return None
        if int(length) > MOST_BYTES:
            self.drain()
            size = f"{int(length) / 2**20:.1f} MiB together; at most {MOST_BYTES >> 20} are taken"
            self.answer(413, {"error": f"the images are {size}: make them smaller first"})
            return None
        body = self.rfile.read(int(length))
        self._is_read = True
        self._deadline.cancel()
        return body if len(body) == int(length) else None

    def drain(self) -> None:
        """Read an unread body, up to four times the limit: a client that is still sending does not see an answer."""
        length = self.headers.get("Content-Length", "")
        readable = not self._is_read and length.isdecimal() and len(length) < 16
        left = min(int(length), 4 * MOST_BYTES) if readable else 0
        while left > 0:
            try:
                part = self.rfile.read1(1 << 16)  # type: ignore[attr-defined]
            except OSError:  # the connection is closed or silent
                return
            if not part:
                return
            left -= len(part)

    def answer(self, status: int, content: object, **headers: str) -> None:
        """Send JSON."""
        self.send(status, json.dumps(content).encode(), "application/json", **headers)

    def send(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        """Send bytes of a media type."""
        self.send_response(status)
        length = {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in {**self.headers_sent, **length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: Any = None, explain: Any = None) -> None:
        """Send an error of the protocol as JSON too, such as an unknown method."""
        self.close_connection = True
        self.answer(code, {"error": str(message or self.responses.get(code, ("",))[0])})

    def log_message(self, format: str, *values: object) -> None:
        log.debug(format, *values)


def _name_of(host: str) -> str:
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _checked_name(text: str) -> str:
    """Return the name of a host as requests state it; SettingError for another text."""
    name = _name_of(text)
    if not name or name != text.lower():
        raise SettingError(
            f"host {text!r}: expected a name alone, such as faces.example, without scheme, port and path"
        )
    return name


def _is_address(host: str) -> bool:
    """Return True where a Host header is an IP address or localhost: the owner of a name can make it lead here."""
    name = _name_of(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True
