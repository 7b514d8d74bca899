"""Every loss of the registries computes in PyTorch what it computes in MXNet: in the graph, and in shards."""

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.training import tiny
from tests.torch.compare import in_mxnet, in_pytorch, relative, unequal
from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.symbols.margins import MarginLoss
from vargfacenet.symbols.margins.adadistill import moved_centres as expected_centres
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES
from vargfacenet.torch.custom import moved_centres
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.torch.margins import OPERATORS_BY_NAME, TorchTargets
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.trainer import TorchTrainer
from vargfacenet.train.build import make_trainer
from vargfacenet.train.graph import training_graph
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.random_state import seed_random
from vargfacenet.train.runtime import Runtime

IDENTITIES, SIZE, ROWS = 7, 8, 12
DISTANCES = {"batch_size": ROWS, "lr": 0.02, "weight_decay": 0.01, "max_updates": 10, "embedding_size": SIZE}


def chosen(loss):
    """Options that no default hides: a moderate scale."""
    return {name: 16.0 if name == "scale" else option.default for name, option in loss.options.items()}


def given(names, seed=0):
    random = np.random.RandomState(seed)
    label = random.randint(0, IDENTITIES, ROWS)
    label[:3] = label[0]  # several samples of one identity
    everything = {
        "embedding": random.normal(0, 5, (ROWS, SIZE)),
        "student": random.normal(0, 5, (ROWS, SIZE)),
        "teacher": random.normal(size=(ROWS, SIZE)),
        "label": label.astype(np.float64),
        "draw": random.normal(0.4, 0.1, ROWS),
    }
    return {name: everything[name].astype(np.float32) for name in names}


def values_of(symbol, inputs):
    random = np.random.RandomState(1)
    shapes, _, auxs = symbol.infer_shape(**{name: value.shape for name, value in inputs.items()})
    arrays = {name: random.normal(0, 1, shape) for name, shape in zip(symbol.list_arguments(), shapes)}
    arrays.update({name: random.uniform(0.5, 1.5, shape) for name, shape in zip(symbol.list_auxiliary_states(), auxs)})
    return {name: value.astype(np.float32) for name, value in arrays.items() if name not in inputs}


def assert_alike(symbol, names):
    inputs = given(names)
    values = values_of(symbol, inputs)
    for training in (True, False):
        expected = in_mxnet(symbol, inputs, values, training=training, dtype="float32")
        found = in_pytorch(symbol, inputs, values, training=training, dtype=torch.float32)
        for one, wanted in zip(found[0], expected[0]):
            np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-5)
        assert not unequal(found[1], expected[1], allowed=1e-4)
        assert found[2].keys() == expected[2].keys()
        for name, value in expected[2].items():
            np.testing.assert_allclose(found[2][name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        if training:
            assert {"embedding", "student"} & found[1].keys()


@pytest.mark.parametrize("name", LOSSES.names())
def test_an_identity_loss_in_the_graph_is_that_of_mxnet(name):
    loss = LOSSES[name]
    inputs = {one: mx.sym.var(one) for one in loss.inputs}
    sizes = {"num_identities": IDENTITIES, "embedding_size": SIZE}
    assert_alike(loss(options=chosen(loss), **sizes, **inputs), loss.inputs)


@pytest.mark.parametrize("name", DISTILLATIONS.names())
def test_a_distillation_loss_is_that_of_mxnet(name):
    loss = DISTILLATIONS[name]
    inputs = {one: mx.sym.var(one) for one in loss.inputs}
    sizes = {"num_identities": IDENTITIES, "embedding_size": SIZE}
    assert_alike(loss(options=chosen(loss), **sizes, **inputs), loss.inputs)


def small_embedding():
    """A network of one product, so that what differs is the loss; its embeddings are some 40 long, as MagFace wants."""
    data = (mx.sym.var("data") - 127.5) / 16
    cells = mx.sym.Pooling(data, pool_type="avg", kernel=(28, 28), stride=(28, 28))
    return mx.sym.FullyConnected(cells, num_hidden=SIZE, name="pre_fc1")


def small_batch(seed, config):
    random = np.random.RandomState(seed)
    cells = random.uniform(0, 255, (ROWS, 3, 4, 4))
    data = [mx.nd.array(cells.repeat(28, 2).repeat(28, 3))]
    label = random.randint(0, IDENTITIES, ROWS)
    if config.reads_teacher:
        data.append(mx.nd.array(random.normal(size=(ROWS, SIZE))))
    head = config.cosine_head
    if head is not None and head.margin.draws and config.head == "dense":
        data.append(mx.nd.array(head.margin.draw(ROWS, seed=config.seed, update=seed + 1)))
    return mx.io.DataBatch(data, [mx.nd.array(label)])


def small_trainer(config, devices, first_update=0):
    seed_random(0, 1, 0)
    return make_trainer(config, small_embedding(), IDENTITIES, first_update=first_update, runtime=Runtime(devices))


def trained(config, devices, updates=range(4), state=None):
    trainer = small_trainer(config, devices, updates[0])
    if state:
        trainer.load_state(state)
    outputs = [trainer.step(small_batch(update, config)).outputs for update in updates]
    return outputs, trainer.state()


def assert_trains_alike(config, count=1):
    expected, state = trained(config, [mx.cpu(number) for number in range(count)])
    found, ours = trained(config, [torch.device("cpu", number) for number in range(count)])
    for one, wanted in zip(found, expected):
        assert list(one) == list(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(one[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    assert_states_alike(ours, state)


def assert_states_alike(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert relative(found[name].asnumpy(), value.asnumpy(), least=1e-4) < 1e-4, name


def recipe(loss, **settings):
    alone = {"distillation": "none", "generations": 1} if "teacher" in LOSSES[loss].inputs else {}
    name = "demo_student" if alone or loss == "arcdistill" else "demo_student_scratch"
    options = {"scale": 16} if "scale" in LOSSES[loss].options else {}
    return tiny(name, **{**DISTANCES, "loss": loss, **options, **alone, "distillation": "none", **settings})


@pytest.mark.parametrize("name", LOSSES.names())
@pytest.mark.parametrize(
    "head", [{}, {"head": "sharded"}, {"head": "sharded", "sample_rate": 0.6}], ids=["dense", "sharded", "sampled"]
)
def test_training_with_a_loss_is_that_of_mxnet(name, head):
    if head and LOSSES[name].sharded is None:
        pytest.skip("the loss has no form in shards")
    assert_trains_alike(recipe(name, **head))


@pytest.mark.parametrize("name", ["adaface", "curricularface"])
def test_each_slice_has_the_moving_numbers_of_a_device(name):
    assert_trains_alike(recipe(name), count=2)


@pytest.mark.parametrize("head", [{}, {"head": "sharded"}], ids=["dense", "sharded"])
@pytest.mark.parametrize("name", ["adaface", "curricularface", "adadistill", "arcdistill"])
def test_what_a_loss_carries_goes_from_engine_to_engine(name, head):
    config, devices = recipe(name, **head), ([mx.cpu()], [torch.device("cpu", 0)])
    _, state = trained(config, devices[0], range(6))
    for there, here in (devices, devices[::-1]):
        _, half = trained(config, there, range(3))
        assert_states_alike(trained(config, here, range(3, 6), half)[1], state)


def test_a_state_without_the_numbers_of_its_loss_is_refused():
    trainer = small_trainer(recipe("adaface", head="sharded"), [torch.device("cpu", 0)])
    state = trainer.state()
    del state["aux:fc7_norm_mean"]
    with pytest.raises(CheckpointError, match="the state lacks aux:fc7_norm_mean of the margin loss"):
        trainer.load_state(state)


def test_several_centres_are_those_of_mxnet_in_shards():
    assert_trains_alike(recipe("curricularface", centres=3, head="sharded", clip_gradient=0.01))


@pytest.mark.parametrize("name", DISTILLATIONS.names())
def test_training_with_a_distillation_is_that_of_mxnet(name):
    assert_trains_alike(tiny("demo_student", **{**DISTANCES, "loss": "none", "distillation": name, "generations": 1}))


@pytest.mark.parametrize("weighted", [False, True])
def test_centres_move_as_one_sample_after_another_moves_them(weighted):
    random = np.random.RandomState(0)
    label = np.array([3, 1, 3, 3, 0, 1])
    student, teacher = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        for rows in (random.normal(size=(6, 4)), random.normal(size=(6, 4)) + 0.5)
    )
    student[:3] = teacher[:3]  # the whole share stays
    centres = random.normal(size=(5, 4)).astype(np.float32)
    expected, labels = expected_centres(centres[label], label, student, teacher, weighted=weighted)
    own, places, s, t = (torch.from_numpy(value) for value in (centres[label], label, student, teacher))
    found = moved_centres(own, places, s, t, weighted=weighted).numpy()
    np.testing.assert_allclose(found, expected[np.searchsorted(labels, label)], rtol=1e-5, atol=1e-6)


def test_a_custom_operator_without_a_form_is_named():
    centres = mx.sym.Custom(
        *(mx.sym.var(name) for name in ("student", "teacher", "label", "centres")),
        op_type="vargfacenet_moving_centres",
        num_identities=3,
        weighted=True,
        name="fc7_own",
    )
    text = centres.tojson().replace("vargfacenet_moving_centres", "elsewhere_centres")
    with pytest.raises(
        CheckpointError, match=r"the Custom 'fc7_own' has op_type=elsewhere_centres.*custom_operator enters one"
    ):
        SymbolModule(text, {"centres": (3, 4)}, ("student", "teacher", "label"))


def test_an_operator_that_a_margin_takes_and_nobody_knows_is_named():
    class Odd(MarginLoss):
        def target(self, samples, state, *, operators):
            return operators.erfinv(samples.cosine)

    targets = TorchTargets(Odd(), 16.0, 0, torch.device("cpu"))
    with pytest.raises(SettingError, match="a margin loss takes the operator erfinv, which engine=torch does not know"):
        targets.of(torch.zeros(2), torch.ones(2), None, 1)


def test_an_attribute_that_a_margin_gives_by_place_is_not_lost():
    data = torch.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(OPERATORS_BY_NAME.clip(data, 1, 4), data.clamp(1, 4))
    np.testing.assert_array_equal(OPERATORS_BY_NAME.sum(data, axis=1), [3, 12])
    with pytest.raises(SettingError, match=r"gives the operator sum 1 attribute\(s\) by place, expected at most 0"):
        OPERATORS_BY_NAME.sum(data, 1)  # MXNet's own sums over axis 1
    with pytest.raises(SettingError, match=r"give them by name, as in clip\(data, axis=1\)"):
        OPERATORS_BY_NAME.clip(data, 1, data)


def test_another_learning_rate_of_a_parameter_is_refused():
    graph = training_graph(small_embedding(), recipe("softmax"), IDENTITIES, backend="stock")
    graph.get_internals()["fc7_weight"]._set_attr(__lr_mult__="0.5")
    with pytest.raises(SettingError, match="parameter fc7_weight has lr_mult=0.5: engine=torch knows 0 and 1"):
        TorchTrainer(
            graph,
            data={"data": (ROWS, 3, 112, 112)},
            labels={"softmax_label": (ROWS,)},
            sgd=SGD(lambda update: 0.1),
            compute=Compute(torch.device("cpu")),
        )
