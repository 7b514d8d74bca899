"""The demo's page as a person uses it, in headless Chromium; skipped where there is none."""

import contextlib
import threading

import numpy as np
import PIL.Image
import pytest

from tests.helpers.browser import open_browser
from tests.helpers.images import image
from tests.helpers.networks import SMALL, save_random_checkpoint
from vargfacenet.deploy import demo, export_onnx, load_model
from vargfacenet.deploy.server import Address, Served
from vargfacenet.eval import read_pairs
from vargfacenet.formats.images import encode_jpeg, encode_png

ANSWERED = "return ['#result', '#error'].map(s => document.querySelector(s)).find(e => !e.hidden)?.id"


@contextlib.contextmanager
def serving(model, detector=None):
    """The address of a demo of this model."""
    server = demo.make_demo(Served(model, "model.onnx", detector), Address(port=0))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with open_browser() as one:
        yield one


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = save_random_checkpoint(tmp_path_factory.mktemp("model") / "model", "vargfacenet", **SMALL)
    return load_model(prefix, threshold=0.5, batch_size=2)


@pytest.fixture
def page(browser, model):
    """The page of a small model, open."""
    with serving(model) as address:
        open_page(browser, address)
        yield browser


@pytest.fixture
def face(tmp_path):
    (tmp_path / "face.png").write_bytes(encode_png(image(0, 0)))
    return tmp_path / "face.png"


def open_page(browser, address):
    """Opens the page, and forgets what the console said before."""
    browser.console_errors()
    browser.open(address)
    browser.wait("return document.querySelector('#how').textContent")


def compare(browser, first, second):
    """Chooses two files and presses the button; which of ``result`` and ``error`` the page then shows."""
    browser.type("#first", first)
    browser.type("#second", second)
    browser.click("button")
    return browser.wait(ANSWERED)


def test_two_images_get_a_cosine_a_verdict_and_are_shown(page, model, face, tmp_path):
    wide = np.zeros((224, 400, 3), np.uint8)
    wide[:, 88:312] = image(1, 0).repeat(2, axis=0).repeat(2, axis=1)
    (tmp_path / "wide.png").write_bytes(encode_png(wide))
    assert compare(page, face, tmp_path / "wide.png") == "result"
    expected = model.compare_faces(image(0, 0), image(1, 0))
    assert float(page.text("#cosine")) == pytest.approx(expected.cosine, abs=1e-4)
    assert page.text("#verdict") == ("One person" if expected.same else "Different people")
    assert "the threshold of 0.5000" in page.text("#at")
    sizes = page.run("return [...document.querySelectorAll('.face')].map(e => [e.naturalWidth, e.naturalHeight])")
    assert sizes == [[112, 112], [112, 112]]
    assert page.console_errors() == []


def test_the_page_says_what_becomes_of_a_photograph(page, browser, model):
    assert "the middle square is taken" in page.text("#how")
    with serving(model, detector=object()) as address:
        open_page(browser, address)
        assert "is found and aligned" in browser.text("#how")
    assert "model.onnx" in browser.text("footer")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("hello"), "the second image: 5 bytes that are not an image"),
        (
            lambda path: PIL.Image.new("L", (10000, 5000)).save(path, "png"),
            "the second image is 10000x5000, 50.0 megapixels; expected at most 40",
        ),
        (
            lambda path: path.write_bytes(encode_jpeg(image(0, 0))[:3000]),
            "the second image is a JPEG that is cut before its end",
        ),
        (lambda path: path.write_bytes(bytes(17 << 20)), "17.0 MiB together; at most 16 are taken"),
    ],
    ids=["a text file", "50 megapixels", "a broken JPEG", "17 MiB"],
)
def test_what_cannot_be_compared_gets_a_clear_answer_and_the_page_goes_on(page, face, tmp_path, make, message):
    make(tmp_path / "upload.jpg")
    assert compare(page, face, tmp_path / "upload.jpg") == "error"
    assert message in page.text("#error").replace("The second", "the second", 1)
    assert compare(page, face, face) == "result"
    assert page.text("#cosine") == "1.0000"


def test_a_server_that_has_stopped_is_said(browser, model, face):
    with serving(model) as address:
        open_page(browser, address)
    assert compare(browser, face, face) == "error"
    assert "the program that serves this page has stopped" in browser.text("#error")


def test_real_people_are_told_apart(browser, real_faces, tmp_path):
    """The checkpoint of 2018 on LFW's first pair of one person, and its first of two."""
    export_onnx(real_faces / "teacher" / "model", 0, tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx", threshold=0.3, batch_size=2)
    pairs = read_pairs(real_faces / "lfw.bin")
    for same in (True, False):
        place = int(np.flatnonzero(np.asarray(pairs.is_same) == same)[0])
        for name in (0, 1):
            (tmp_path / f"{name}.jpg").write_bytes(bytes(pairs.images[2 * place + name]))
        with serving(model) as address:
            open_page(browser, address)
            assert compare(browser, tmp_path / "0.jpg", tmp_path / "1.jpg") == "result"
            assert browser.text("#verdict") == ("One person" if same else "Different people")
            assert browser.console_errors() == []
