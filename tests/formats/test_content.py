"""Files that are something else than their names say are named, and names of any characters do not break tables or lists."""

import gzip
import io
import pickle
import zipfile

import pytest

from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.commands.output import print_table
from vargfacenet.data.align import align_folder
from vargfacenet.data.layout import read_index, read_property, record_file
from vargfacenet.deploy.models import open_model
from vargfacenet.errors import CheckpointError, DataError
from vargfacenet.eval.pairs import read_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.content import what_file_it_is, what_it_is
from vargfacenet.formats.images import decode_image, encode_jpeg, images_by_identity
from vargfacenet.formats.names import one_line

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def zipped(name="a.txt"):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "a")  # without the time of day, as tests are named by it
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (LFS, "git lfs pull"),
        (zipped(), "ZIP archive"),
        (zipped("archive/data.pkl"), "weights of PyTorch: 'vargfacenet convert FILE OUT --as NETWORK'"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2), "weights of PyTorch"),
        (gzip.compress(b"a", mtime=0), "gzip"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>", "web page"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (b"\0\0\0\x1cftypavif" + bytes(20), "AVIF"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "video"),
        (b"", "empty"),
    ],
)
def test_content_of_a_known_other_kind_is_named(content, kind, tmp_path):
    assert kind in what_it_is(content)
    (tmp_path / "file").write_bytes(content)
    assert what_file_it_is(tmp_path / "file") == what_it_is(content)
    with pytest.raises(DataError, match=f"expected JPEG, PNG, BMP or WebP; it is .*{kind}"):
        decode_image(content, "a.jpg")


def test_content_that_is_right_or_unknown_has_no_remark(tmp_path):
    for content in (encode_jpeg(image(0, 0)), b"\x80\x04junk", b"1\t2\n"):
        assert what_it_is(content) == ""
    assert what_file_it_is(tmp_path) == what_file_it_is(tmp_path / "missing") == ""


@pytest.mark.parametrize(("content", "kind"), [(LFS, "git lfs pull"), (zipped(), "ZIP archive")])
def test_every_reader_names_it(content, kind, tmp_path):
    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    paths = {name: tmp_path / name for name in ("lfw.bin", "a.onnx", "train.idx", "faces.zip", "model-0000.params")}
    for path in paths.values():
        path.write_bytes(content)
    readers = {
        "lfw.bin": read_pairs,
        "a.onnx": open_model,
        "train.idx": lambda path: read_index(path, 100),
        "faces.zip": record_file,
    }
    for name, read in readers.items():
        with pytest.raises(DataError, match=f"; it is .*{kind}"):
            read(paths[name])
    with pytest.raises(DataError, match=f"no folder of images .*; it is .*{kind}"):
        list(images_by_identity(paths["faces.zip"]))
    with pytest.raises(DataError, match=f"no folder of images .*; it is .*{kind}"):
        align_folder(paths["faces.zip"], tmp_path / "out", None)
    with pytest.raises(CheckpointError, match=f"; it is .*{kind}"):
        load_checkpoint(prefix, 0)


def test_a_byte_order_mark_is_ignored(tmp_path):
    mark = b"\xef\xbb\xbf"
    (tmp_path / "property").write_bytes(mark + b"10,112,112\n")
    (tmp_path / "train.idx").write_bytes(mark + b"0\t0\n1\t40\n")
    assert read_property(tmp_path / "property").identities == 10
    assert read_index(tmp_path / "train.idx", 100)[1].tolist() == [0, 40]
    prefix = save_random_checkpoint(tmp_path / "model", "mobilefacenet")
    graph = tmp_path / "model-symbol.json"
    names = load_checkpoint(prefix, 0).symbol.list_arguments()
    graph.write_bytes(mark + graph.read_bytes())
    assert load_checkpoint(prefix, 0).symbol.list_arguments() == names


def test_a_name_takes_one_line_and_controls_no_terminal(capsys):
    print_table(["name"], [["bob\n"], ["\x1b[31mred"], ["Jos\u00e9 \u5f20\u4e09"]])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines == ["bob\\n", "\\x1b[31mred", "Jos\u00e9 \u5f20\u4e09"]
    assert one_line("\udcd5\udcc5") == "\udcd5\udcc5"


def test_an_output_that_cannot_be_written_is_refused_before_the_work(capsys, pairs_file, tmp_path, monkeypatch):
    prefix = str(save_random_checkpoint(tmp_path / "model", "mobilefacenet"))
    (tmp_path / "file").write_text("")
    blocked = str(tmp_path / "file" / "out")

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("vargfacenet.commands.verify.open_named", never)
    monkeypatch.setattr("vargfacenet.commands.export.export_onnx", never)
    commands = [["verify", prefix, "--bins", str(pairs_file), option, blocked] for option in ("--report", "--json")]
    for command in (*commands, ["export", prefix, blocked + ".onnx"]):
        assert main(command) == 2
        assert f"cannot write {blocked}" in capsys.readouterr().err


def test_weights_of_pytorch_in_the_place_of_a_checkpoint_are_named(tmp_path):
    (tmp_path / "weights").write_bytes(zipped("weights/data.pkl"))
    with pytest.raises(CheckpointError, match="no checkpoint file .*weights-symbol.json.* it is weights of PyTorch"):
        load_checkpoint(tmp_path / "weights", 0)
