"""On a GPU the engine computes what it computes on a CPU. Run with ``pytest -m gpu``; nothing else here needs one."""

import mxnet as mx
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.helpers.training import tiny
from tests.torch.compare import relative
from vargfacenet.eval import Embedder
from vargfacenet.torch import grouped
from vargfacenet.torch.embed import TorchEmbedder
from vargfacenet.train.build import make_trainer
from vargfacenet.train.engine import NotFinite
from vargfacenet.train.random_state import seed_random
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.runtime import Runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here"),
]
GENTLE = {"lr": 4e-7, "scale": 8, "m2": 0.1, "batch_size": 12, "engine": "torch", "verify_every": 1000}


def drawn_trainer(device, **settings):
    config = tiny(**{**GENTLE, **settings})
    seed_random(0, 1, 0)
    return make_trainer(config, config.build_symbol(), 4, runtime=Runtime([torch.device(device, 0)]))


def batch(seed):
    random = np.random.RandomState(seed)
    images = mx.nd.array(random.randint(0, 256, (12, 3, 112, 112)))
    return mx.io.DataBatch([images], [mx.nd.array(random.randint(0, 4, 12))])


def losses(trainer, updates=10):
    found = []
    for update in range(updates):
        seed_random(0, 1, update)
        found.append(trainer.launch(batch(update)))
    return [float(one.result().outputs["loss"].mean()) for one in found]


def test_embeddings_are_those_of_the_cpu(teacher):
    images = np.random.RandomState(0).uniform(0, 255, (3, 3, 112, 112)).astype(np.float32)
    found = TorchEmbedder(*teacher.checkpoint, device=torch.device("cuda", 0)).embed_batch(images)
    assert relative(found, Embedder(*teacher.checkpoint).embed_batch(images)) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"channels_last": True},
        {"accumulate": 3},
        {"optimizer": "adamw", "ema_decay": 0.9, "clip_gradient": 0.1},
        {"head": "sharded", "sample_rate": 0.6},
    ],
    ids=str,
)
def test_losses_are_those_of_the_cpu(settings):
    np.testing.assert_allclose(
        losses(drawn_trainer("cuda", **settings)), losses(drawn_trainer("cpu", **settings)), rtol=1e-3
    )


@pytest.fixture
def strict():
    """PyTorch itself fails where an update waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bfloat16", "channels_last": True, "accumulate": 3},
        {"optimizer": "adamw", "ema_decay": 0.9, "clip_gradient": 0.1},
        {"head": "sharded", "sample_rate": 0.6},
    ],
    ids=str,
)
def test_an_update_does_not_wait_for_the_device(settings, request):
    trainer = drawn_trainer("cuda", **settings)
    losses(trainer, 4)  # kernels are loaded and memory is taken
    request.getfixturevalue("strict")
    pending = [trainer.launch(batch(update)) for update in range(4, 6)]
    torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(one.result().outputs["loss"]).all() for one in pending)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second GPU")
def test_a_gpu_that_is_not_the_current_one_gives_the_same():
    config = tiny(**GENTLE)
    seed_random(0, 1, 0)
    other = make_trainer(config, config.build_symbol(), 4, runtime=Runtime([torch.device("cuda", 1)]))
    assert torch.cuda.current_device() == 0
    np.testing.assert_allclose(losses(other), losses(drawn_trainer("cuda")), rtol=1e-3)


def test_a_compiled_graph_has_the_same_losses():
    np.testing.assert_allclose(
        losses(drawn_trainer("cuda", compile=True), 3), losses(drawn_trainer("cuda"), 3), rtol=1e-3
    )


@pytest.mark.parametrize("settings", [{}, {"precision": "bfloat16", "channels_last": True}], ids=str)
def test_recorded_passes_have_the_same_losses_and_statistics(settings):
    plain, recorded = (drawn_trainer("cuda", **settings, cuda_graphs=graphs) for graphs in (False, True))
    np.testing.assert_allclose(losses(recorded), losses(plain), rtol=1e-3)
    for name, value in plain.parameters()[1].items():
        np.testing.assert_allclose(
            recorded.parameters()[1][name].asnumpy(), value.asnumpy(), rtol=0.02, atol=0.02, err_msg=name
        )


def test_groups_with_zeros_between_give_the_same():
    data = torch.randn(4, 40, 28, 28, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    weight = torch.randn(80, 8, 3, 3, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    assert grouped.pays(data, weight, 5)
    found = functional.conv2d(data, grouped.with_zeros(weight, 5), None, 2, 1)
    expected = functional.conv2d(data, weight, None, 2, 1, 1, 5)
    assert relative(found.detach().float().cpu().numpy(), expected.detach().float().cpu().numpy()) < 0.01
    given = torch.randn_like(found)
    one, other = (torch.autograd.grad(value, weight, given)[0].float().cpu().numpy() for value in (found, expected))
    assert relative(one, other) < 0.02


def test_bfloat16_is_near_float32():
    rough = losses(drawn_trainer("cuda", precision="bfloat16", channels_last=True), 3)
    np.testing.assert_allclose(rough, losses(drawn_trainer("cuda"), 3), rtol=0.05)


def test_what_is_not_finite_changes_nothing_until_it_is_reported():
    trainer = drawn_trainer("cuda")
    losses(trainer, 1)
    with torch.no_grad():
        trainer.module.fc7_weight.fill_(float("inf"))  # images travel as bytes, which are always finite
    before = trainer.state()
    pending = trainer.launch(batch(1))
    trainer.launch(batch(2))
    with pytest.raises(NotFinite, match="the loss is nan"):
        pending.result()
    for name, value in trainer.state().items():
        if not name.startswith("aux:"):
            np.testing.assert_array_equal(value.asnumpy(), before[name].asnumpy(), err_msg=name)


def test_a_run_begun_on_the_cpu_goes_on_on_the_gpu(face_folder, pairs_file, tmp_path):
    settings = {**GENTLE, "max_updates": 4, "save_every": 2, "verify_every": 2}
    train(tiny(**{**settings, "engine": "mxnet"}, generations=1), data=face_folder, out=tmp_path, bins=[pairs_file])
    longer = tiny(**{**settings, "max_updates": 6})
    options = {
        "data": face_folder,
        "out": tmp_path,
        "bins": [pairs_file],
        "runtime": Runtime([torch.device("cuda", 0)]),
    }
    assert train(longer, resume=Resume(must=True, force=True), **options).updates == 2
