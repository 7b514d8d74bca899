"""The HTTP service: real requests to a server on a free port, against direct computation and its own OpenAPI document."""

import contextlib
import http.client
import logging
import pathlib
import re
import shlex

import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import image
from tests.helpers.networks import SMALL, save_random_checkpoint
from tests.helpers.service import ask, form, running_service
from vargfacenet.commands import main
from vargfacenet.deploy import Gallery, load_model
from vargfacenet.deploy.gallery import image_digest
from vargfacenet.deploy.openapi import MOST_IMAGES, describe
from vargfacenet.deploy.server import MOST_BYTES, Address, Served
from vargfacenet.deploy.service import make_service
from vargfacenet.errors import DataError
from vargfacenet.formats.images import encode_png

FACES = [encode_png(image(identity, 0)) for identity in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    prefix = save_random_checkpoint(tmp_path_factory.mktemp("model") / "model", "vargfacenet", **SMALL)
    return load_model(prefix, threshold=0.5, batch_size=2)


@pytest.fixture(scope="module")
def gallery(model, tmp_path_factory):
    gallery = Gallery(tmp_path_factory.mktemp("gallery"))
    gallery.add(model, [image(0, 0), image(1, 0)], ["ann", "bo"], [image_digest(one) for one in FACES[:2]])
    return gallery


@pytest.fixture(scope="module")
def address(model, gallery):
    with running_service(Served(model, "small", None, gallery), names=["Faces.Example"]) as address:
        yield address


def send(address, path, *images, **headers):
    kind, body = form(*(("image", one) for one in images))
    return ask(address, "POST", path, body, **{"Content-Type": kind, **headers})


def test_embeddings_are_those_of_the_model(address, model):
    status, headers, answer = send(address, "/embed", *FACES)
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/json", "no-store")
    expected = model.embed([image(identity, 0) for identity in range(3)])
    np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-6)
    assert (answer["model"], answer["fingerprint"]) == ("small", model.fingerprint)


def test_two_images_are_compared_at_the_threshold(address, model):
    status, _, answer = send(address, "/compare", FACES[0], FACES[1])
    expected = model.compare(FACES[0], FACES[1])
    assert status == 200
    assert answer["cosine"] == pytest.approx(expected.cosine, abs=1e-6)
    assert (answer["same"], answer["threshold"], answer["far"]) == (expected.same, 0.5, None)


def test_the_gallery_is_searched(address):
    status, _, answer = send(address, "/search?top=1", FACES[1], FACES[0])
    assert status == 200
    assert [[(hit["name"], hit["same"]) for hit in hits] for hits in answer["found"]] == [
        [("bo", True)],
        [("ann", True)],
    ]
    assert len(send(address, "/search", FACES[2])[2]["found"][0]) == 2


def test_health_states_what_is_served(address, model):
    status, _, answer = ask(address, "GET", "/health")
    assert status == 200
    assert answer["gallery"] == {"faces": 2, "people": 2}
    assert (answer["threshold"], answer["aligns"]) == (0.5, False)


def test_the_document_is_served_and_lists_every_path(address):
    status, _, document = ask(address, "GET", "/openapi.json")
    assert (status, document) == (200, describe())
    message = ask(address, "GET", "/other")[2]["error"]
    assert set(re.findall(r"/[\w.]+", message)) == set(document["paths"])
    for path, operations in document["paths"].items():
        (method,) = operations
        wrong = "POST" if method == "get" else "GET"
        status, headers, _ = ask(address, wrong, path, b"" if wrong == "POST" else None)
        assert (status, headers["Allow"]) == (405, method.upper())


@pytest.mark.parametrize(
    ("path", "parts", "status", "message"),
    [
        ("/embed", [], 400, "0 images, expected 1 to 32"),
        ("/embed", [("image", FACES[0])] * (MOST_IMAGES + 1), 400, "33 images, expected 1 to 32"),
        ("/embed", [("image", FACES[0])] * 70, 400, "more than 64 parts"),
        ("/embed", [("file", FACES[0])], 400, "unknown field 'file': expected images in fields 'image'"),
        ("/compare", [("image", FACES[0])], 400, "1 images, expected 2 in fields 'image'"),
        ("/embed", [("image", FACES[0]), ("image", b"junk")], 422, "image 2: 4 bytes that are not an image"),
        ("/compare", [("image", FACES[0]), ("image", b"")], 422, "image 2: 0 bytes that are not an image"),
        ("/search?top=0", [("image", FACES[0])], 400, "top='0': expected a whole number of 1 .. 1000"),
        ("/search?top=x", [("image", FACES[0])], 400, "top='x'"),
    ],
)
def test_what_cannot_be_used_is_a_clear_error(address, path, parts, status, message):
    kind, body = form(*parts)
    found, _, answer = ask(address, "POST", path, body, **{"Content-Type": kind})
    assert found == status
    assert message in answer["error"]


def test_bodies_of_other_kinds_are_refused(address):
    assert ask(address, "POST", "/embed", FACES[0], **{"Content-Type": "image/png"})[0] == 415
    assert ask(address, "POST", "/embed", b"x" * 1_000_000)[0] == 415
    kind, body = form(("image", FACES[0]))
    assert ask(address, "POST", "/embed", body[:-20], **{"Content-Type": kind})[0] == 400
    assert ask(address, "POST", "/embed", body, **{"Content-Type": "multipart/form-data"})[0] == 400
    assert ask(address, "POST", "/embed", b"x" * (MOST_BYTES + 1), **{"Content-Type": kind})[0] == 413
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=600)) as connection:
        connection.putrequest("POST", "/embed")
        connection.putheader("Content-Type", kind)
        connection.endheaders()
        assert connection.getresponse().status == 411
    assert ask(address, "PUT", "/embed", b"")[0] == 501


def test_other_sites_and_names_that_lead_here_are_refused(address):
    assert send(address, "/embed", FACES[0], Origin="http://elsewhere.example")[0] == 403
    assert send(address, "/embed", FACES[0], Host="rebound.example")[0] == 403
    assert send(address, "/embed", FACES[0], Host="faces.example:80")[0] == 200


def test_without_a_gallery_nothing_is_searched(model, tmp_path):
    with running_service(Served(model, "small")) as address:
        status, _, answer = send(address, "/search", FACES[0])
        assert (status, "start it with --gallery" in answer["error"]) == (404, True)
        assert ask(address, "GET", "/health")[2]["gallery"] is None
    with pytest.raises(DataError, match="has no faces"):
        make_service(Served(model, "small", None, Gallery(tmp_path / "none")), Address(port=0))


def test_a_fault_is_an_answer_and_one_line_of_the_log(address, model, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(model, "compare_faces", fail)
    with caplog.at_level(logging.ERROR):
        status, _, answer = send(address, "/compare", *FACES[:2])
    assert (status, "fault of the server" in answer["error"]) == (500, True)
    assert "/compare failed: RuntimeError: boom" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_command_refuses_mistakes_and_ends_quietly(capsys, monkeypatch, tmp_path, model):
    assert "--port=70000: expected" in refused(capsys, "serve", "--port", "70000")
    assert "has no faces" in refused(capsys, "serve", "--gallery", str(tmp_path / "none"))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vargfacenet.commands.server_arguments.load_face_model", interrupted)
    assert main(["serve"]) == 0
    assert capsys.readouterr().err == ""


def test_the_examples_of_curl_in_the_documentation_are_understood(address, tmp_path):
    text = (pathlib.Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)
        fields = [words[place + 1] for place, word in enumerate(words) if word == "-F"]
        (url,) = [word for word in words if word.startswith("http://")]
        assert all(re.fullmatch(r"image=@\w+\.jpg", field) for field in fields)
        path = url.removeprefix("http://127.0.0.1:8000")
        found = send(address, path, *FACES[: len(fields)]) if fields else ask(address, "GET", path)
        assert found[0] == 200
