"""The demo's server: what it answers, what it refuses, and that it keeps nothing."""

import json
import re
import socket
import struct

import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import empty_png, image
from tests.helpers.networks import SMALL, save_random_checkpoint
from tests.helpers.service import running, send
from vargfacenet.deploy import demo, load_model
from vargfacenet.deploy.faces import Comparison
from vargfacenet.deploy.server import Address, Served
from vargfacenet.formats.images import encode_jpeg, encode_png


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = save_random_checkpoint(tmp_path_factory.mktemp("model") / "model", "vargfacenet", **SMALL)
    return load_model(prefix, threshold=0.5, batch_size=2)


@pytest.fixture(scope="module")
def address(model):
    with running(demo.make_demo(Served(model, "model"), Address(port=0))) as found:
        yield found


def compare(address, one, other, **headers):
    status, _, body = send(address, "POST", f"/compare?first={len(one)}", one + other, **headers)
    return status, json.loads(body)


def test_two_images_are_compared_and_shown_as_the_network_sees_them(address, model):
    one, other = encode_png(image(0, 0)), encode_png(image(1, 0))
    status, answer = compare(address, one, other)
    assert status == 200
    assert answer["cosine"] == pytest.approx(model.compare(one, other).cosine, abs=1e-6)
    assert answer["verdict"] == ("One person" if answer["cosine"] >= 0.5 else "Different people")
    assert [face[:22] for face in answer["faces"]] == 2 * ["data:image/png;base64,"]
    wide = np.zeros((112, 300, 3), np.uint8)
    wide[:, 94:206] = image(0, 0)
    assert compare(address, one, encode_png(wide))[1]["cosine"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b"just text", "the second image: 9 bytes that are not an image"),
        (empty_png(10000, 5000), "the second image is 10000x5000, 50.0 megapixels; expected at most 40"),
        (encode_jpeg(image(0, 0))[:3000], "the second image is a JPEG that is cut before its end"),
        (b"", "the second image: 0 bytes that are not an image"),
    ],
)
def test_what_is_no_image_gets_a_clear_answer(address, second, message):
    status, answer = compare(address, encode_png(image(0, 0)), second)
    assert (status, message in answer["error"]) == (422, True), answer


def test_uploads_are_bounded(address):
    status, answer = compare(address, b"x" * (demo.MOST_BYTES // 2), b"x" * (demo.MOST_BYTES // 2 + 1))
    assert status == 413
    assert "at most 16 are taken" in answer["error"]


@pytest.mark.parametrize("query", ["", "?first=x", "?first=-1", "?first=100", f"?first={'9' * 5000}"])
def test_a_request_without_two_images_is_refused(address, query):
    assert send(address, "POST", f"/compare{query}", b"abc")[0] == 400


def test_other_sites_and_names_that_lead_here_are_refused(address):
    one = encode_png(image(0, 0))
    assert compare(address, one, one, Origin="http://elsewhere.example")[0] == 403
    assert compare(address, one, one, Host="rebound.example:8000")[0] == 403
    assert compare(address, one, one, Origin=f"http://{address[0]}:{address[1]}")[0] == 200
    assert send(address, "GET", "/", Host="rebound.example")[0] == 403
    assert send(address, "GET", "/", Host="localhost:80")[0] == 200
    assert send(address, "GET", "/", Host="[::1]:80")[0] == 200
    assert send(address, "GET", "/", Host="[")[0] == 403


def test_the_page_takes_nothing_from_elsewhere(address):
    status, headers, page = send(address, "GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
    assert linked
    for path in [*linked, "about"]:
        if path == "data:,":  # no icon
            continue
        assert send(address, "GET", f"/{path}")[0] == 200
    assert b"http" not in page


@pytest.mark.parametrize("path", ["/../setup.py", "/page/index.html", "/compare", "/favicon.ico", "//etc/passwd"])
def test_there_are_no_other_pages(address, path):
    assert send(address, "GET", path)[0] == 404
    assert send(address, "POST", path.replace("compare", "other"), b"")[0] == 404


def test_nothing_is_stored(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *a, **k: pytest.fail(f"opened {a}"))
    one = encode_png(image(0, 0))
    assert compare(address, one, one)[0] == 200
    assert not list(tmp_path.iterdir())


def test_a_browser_that_goes_away_is_no_traceback(address, capfd):
    one = encode_png(image(0, 0))
    for _ in range(3):
        with socket.create_connection(address) as connection:
            head = (
                f"POST /compare?first={len(one)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {2 * len(one)}\r\n\r\n"
            )
            connection.sendall(head.encode() + one + one)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert compare(address, one, one)[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_an_unforeseen_fault_is_one_line(address, model, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(model, "compare_faces", fail)
    one = encode_png(image(0, 0))
    status, answer = compare(address, one, one)
    assert (status, "fault of the server" in answer["error"]) == (500, True)
    assert "/compare failed: RuntimeError: boom" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_address_that_cannot_be_had_is_one_line(capsys, model, tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", **SMALL)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}: " in refused(capsys, "demo", prefix, "--port", port)
    assert "--port=70000: expected" in refused(capsys, "demo", prefix, "--port", "70000")


def test_a_verdict_says_what_it_stands_on():
    assert demo._in_words(Comparison(0.5, None, None, None))[0] == "No verdict"
    assert demo._in_words(Comparison(0.5, True, 0.4, 0.001)) == (
        "One person",
        "The cosine is above the threshold of 0.4000, measured at a false accept rate of 0.001.",
    )
    assert demo._in_words(Comparison(0.3, False, 0.4, None)) == (
        "Different people",
        "The cosine is not above the threshold of 0.4000.",
    )
