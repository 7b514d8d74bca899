"""Small sets that tests share. Real faces are looked for where VARGFACENET_FACES points, and nowhere else."""

import ctypes
import gc
import os
import pathlib

import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from vargfacenet.data import RecordSet
from vargfacenet.data.writer import write_records
from vargfacenet.eval import write_pairs
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.operators import forms, missing_for_native
from vargfacenet.train.cache import write_embeddings
from vargfacenet.train.teacher import Teacher

os.environ[forms.VARIABLE] = "native"  # also in processes that tests start: no test depends on measured times
_STATM = pathlib.Path("/proc/self/statm")


# The files that take longest, the longest first. One of them at the end would keep one process busy and the other idle.
LONGEST = (
    "tests/train/test_cluster.py",
    "tests/torch/test_workers.py",
    "tests/train/test_losses.py",
    "tests/train/classifier/test_runs.py",
    "tests/train/test_run.py",
    "tests/train/test_optimizers.py",
    "tests/operators/test_rewrite.py",
    "tests/train/test_crashes.py",
    "tests/bench/test_command.py",
    "tests/deploy/test_export.py",
    "tests/train/test_generations.py",
    "tests/train/test_extension.py",
    "tests/commands/test_distillation_commands.py",
    "tests/deploy/test_precision.py",
)


def pytest_collection_modifyitems(items):
    """Let the longest files come first; processes take files in this order with --no-loadscope-reorder."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.fixture(scope="session")
def give_back():
    """A function that gives back to the system what tests have freed, each time half a gigabyte more has come together.

    The C library keeps it, in pieces that the next network does not fit into: after the suite each of the two workers
    would hold four gigabytes. Looking for it takes tenths of a second, which is too much after every test.
    """
    limit = 1 << 30

    def give_back():
        nonlocal limit
        if resident_bytes() < limit:
            return
        gc.collect()  # bound networks are in cycles
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries have none
        if trim is not None:
            trim(0)
        limit = max(1 << 30, resident_bytes() + (1 << 29))

    return give_back


@pytest.fixture(autouse=True)
def freed_memory(give_back):
    yield
    give_back()


def resident_bytes():
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if _STATM.is_file() else 0


@pytest.fixture(scope="session", autouse=True)
def own_embeddings(tmp_path_factory):
    """Commands keep embeddings in a folder of the tests', not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("kept")
        patch.setattr("vargfacenet.eval.cache.cache_folder", lambda: folder)
        yield


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory):
    """A training set of 4 identities x 6 images."""
    folder = tmp_path_factory.mktemp("faces")
    faces = ((identity, encode_jpeg(image(identity, n))) for identity in range(4) for n in range(6))
    write_records(folder, faces)
    return folder


@pytest.fixture(scope="session")
def pairs_set():
    """40 pairs over 4 identities, half of them of one person: encoded images and truth."""
    random = np.random.RandomState(0)
    images, is_same = [], []
    for index in range(40):
        same = index % 2 == 0
        first = random.randint(4)
        second = first if same else (first + 1 + random.randint(3)) % 4
        images += [
            encode_jpeg(image(first, random.randint(50))),
            encode_jpeg(image(second, 50 + random.randint(50))),
        ]
        is_same.append(same)
    return images, is_same


@pytest.fixture(scope="session")
def teacher_prefix(tmp_path_factory):
    """A checkpoint of a narrow ResNet, with dropout in it, that embeds in 16 numbers."""
    prefix = tmp_path_factory.mktemp("teacher") / "model"
    return save_random_checkpoint(prefix, "resnet18", multiplier=0.25, embedding_size=16)


@pytest.fixture(scope="session")
def teacher(teacher_prefix):
    """The checkpoint of `teacher_prefix`, loaded."""
    return Teacher(teacher_prefix)


@pytest.fixture(scope="session")
def cache(tmp_path_factory, teacher, face_folder):
    """Folder with the teacher's embeddings of `face_folder`."""
    folder = tmp_path_factory.mktemp("cache") / "embeddings"
    write_embeddings(teacher, RecordSet(face_folder), folder)
    return folder


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory, pairs_set):
    """`pairs_set` as a file."""
    path = tmp_path_factory.mktemp("pairs") / "stripes.bin"
    write_pairs(path, *pairs_set)
    return path


@pytest.fixture(scope="session")
def native():
    """The native operators, for tests of them; without a compiler these are skipped and say what is missing."""
    reason = missing_for_native()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def real_faces():
    """The folder of real faces, for tests that mean little without them."""
    folder = os.environ.get("VARGFACENET_FACES")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip(
            "set VARGFACENET_FACES to a folder with lfw.bin, train/ and teacher/ to run the tests on real faces"
        )
    return pathlib.Path(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A file with a classifier of the four identities, for the random teacher."""
    path = tmp_path_factory.mktemp("classifier") / "fc7.npy"
    np.save(path, np.random.RandomState(0).normal(size=(4, 16)).astype(np.float32))
    return path
