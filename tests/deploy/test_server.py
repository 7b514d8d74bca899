"""The server under the service and the demo: its address, its limits, and the forms that it reads."""

import contextlib
import http.client
import json
import socket
import time

import pytest

from tests.helpers.networks import SMALL, save_random_checkpoint
from tests.helpers.service import ask, form, running_service
from vargfacenet.deploy import load_model
from vargfacenet.deploy.multipart import read_parts
from vargfacenet.deploy.server import Address, Served
from vargfacenet.deploy.service import make_service
from vargfacenet.errors import SettingError, SetupError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = save_random_checkpoint(tmp_path_factory.mktemp("model") / "model", "vargfacenet", **SMALL)
    return load_model(prefix, threshold=0.5, batch_size=2)


def test_too_many_connections_are_told_so(model):
    with running_service(Served(model, "small"), most_connections=1) as address:
        with socket.create_connection(address) as silent:
            silent.sendall(b"POST /embed HTTP/1.1\r\n")
            while True:  # until the server has accepted the first
                with contextlib.closing(http.client.HTTPConnection(*address, timeout=600)) as connection:
                    connection.request("GET", "/health")
                    response = connection.getresponse()
                    if response.status == 503:
                        break
            assert response.headers["Retry-After"] == "1"
            assert "too many connections" in json.loads(response.read())["error"]
        while True:  # until the server has noticed that the first has gone
            with contextlib.suppress(AssertionError, KeyError):
                if ask(address, "GET", "/health")[0] == 200:
                    break


def test_a_client_that_sends_a_byte_at_a_time_is_cut_off(model, monkeypatch):
    """It is never silent for as long as a silent one may be."""
    monkeypatch.setattr("vargfacenet.deploy.server.REQUEST_SECONDS", 0.3)
    with running_service(Served(model, "small")) as address, socket.create_connection(address, timeout=600) as slow:
        slow.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n")
        slow.sendall(b"Content-Type: multipart/form-data; boundary=a\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT011 - whichever way the system reports a closed connection
            while True:
                slow.sendall(b"x")
                time.sleep(0.02)
        assert ask(address, "GET", "/health")[0] == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="without IPv6")
def test_it_listens_on_an_address_of_version_6(model):
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        with running_service(Served(model, "small"), host="::1") as address:
            assert ask(address[:2], "GET", "/health")[0] == 200
        return
    pytest.skip("this machine has no address ::1")


@pytest.mark.parametrize("name", ["http://faces.example", "faces.example:80", "faces.example/x", ""])
def test_names_are_those_of_hosts(model, name):
    with pytest.raises(SettingError, match="expected a name alone, such as faces.example"):
        make_service(Served(model, "small"), Address(port=0, names=[name]))


@pytest.mark.parametrize("host", ["", "no such host"])
def test_an_address_that_is_not_this_machines_is_refused(model, host):
    """An empty host, as from an unset variable, would listen on every address of this machine."""
    with pytest.raises(SetupError, match=f"cannot listen on {host or 'an empty host'} port 0: "):
        make_service(Served(model, "small"), Address(host=host, port=0))


@pytest.mark.parametrize("contents", [[b""], [b"\r\n"], [b"a\r\n--b", b"\r\n\r\n--"], [bytes(range(256)) * 9]])
def test_parts_come_back_byte_for_byte(contents):
    assert read_parts(*form(*(("image", one) for one in contents))) == [("image", one) for one in contents]


def test_a_form_with_a_quoted_boundary_and_text_before_it_is_read():
    _, body = form(("image", b"abc"), boundary="x y")
    assert read_parts('multipart/form-data; boundary="x y"', b"preamble\r\n" + body) == [("image", b"abc")]
