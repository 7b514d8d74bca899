"""The HTTP server under the demo's page and the service: bounded requests, no name that leads here, one line for a fault."""

import http.server
import ipaddress
import json
import logging
import socket
import sys
import threading
import urllib.parse
from collections.abc import Collection, Mapping
from typing import Any

from vargfacenet.errors import SetupError

MOST_BYTES = 16 << 20  # of the body of a request
MOST_CONNECTIONS = 32
SECONDS = 20  # until a silent connection is closed

log = logging.getLogger(__name__)


def listen(
    handler: type["Handler"], host: str, port: int, *, most_connections: int = MOST_CONNECTIONS
) -> http.server.ThreadingHTTPServer:
    """Return a server that is bound; SetupError where it cannot listen on the address. Port 0 stands for any free one."""
    try:
        return _Server((host, port), handler, most_connections)
    except (OSError, OverflowError) as error:
        raise SetupError(f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}") from error


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type["Handler"], most_connections: int) -> None:
        self._free = threading.BoundedSemaphore(most_connections)
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
        if not isinstance(error, (ConnectionError, TimeoutError)):
            log.error("a request failed: %s: %s", type(error).__name__, error)


_BUSY_BODY = b'{"error": "too many connections: try again later"}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BUSY_BODY), _BUSY_BODY)
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests of this machine's own pages and programs."""

    timeout = SECONDS
    _is_read = False  # one request in a connection
    server_version, sys_version = "vargfacenet", ""
    names: Collection[str] = ()  # hosts by which the server may be called, in addition to addresses and localhost
    headers_sent: Mapping[str, str] = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }

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


def _is_address(host: str) -> bool:
    """Return True where a Host header is an IP address or localhost: the owner of a name can make it lead here."""
    name = _name_of(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True
