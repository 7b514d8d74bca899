"""Options of the builders, their errors, and what a graph costs."""

import mxnet as mx
import numpy as np
import pytest

from vargfacenet.errors import SettingError
from vargfacenet.symbols import get_symbol, list_networks, network_options
from vargfacenet.symbols.complexity import complexity


def shapes(network, **options):
    symbol = get_symbol(network, **options)
    return dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 112, 112))[0]))


def test_the_promised_networks_are_listed():
    promised = {"vargfacenet", "vargfacenet_insightface", "resnet18", "resnet34", "resnet50", "resnet100"}
    assert promised <= set(list_networks())


@pytest.mark.parametrize("network", list_networks())
def test_embedding_size_is_what_was_asked(network):
    symbol = get_symbol(network, embedding_size=96)
    assert symbol.list_outputs() == ["fc1_output"]
    assert symbol.infer_shape(data=(2, 3, 112, 112))[1] == [(2, 96)]


@pytest.mark.parametrize("multiplier", [0.25, 0.5, 1.0, 2.0])
def test_channels_scale_and_groups_keep_their_size(multiplier):
    found = shapes("vargfacenet", multiplier=multiplier)
    for stage, width in ((2, 64), (3, 128), (4, 256)):
        wide = found[f"vargface_stage_{stage}_unit_2_sep1_data_conv2d_depthwise_weight"]
        assert wide == (int(2 * width * multiplier), 8, 3, 3)
    # The embedding setting stays 1024 wide and keeps its first convolution, even where the channels are 1024 already.
    assert found["embed_convx_weight"][0] == 1024


def test_group_size_is_the_channels_of_a_group():
    found = shapes("vargfacenet", multiplier=1.0, group_size=16)
    grouped = [shape for name, shape in found.items() if name.endswith("depthwise_weight")]
    assert {shape[1] for shape in grouped} == {16}


def test_units_count_the_down_sampling_block():
    found = shapes("vargfacenet", units="2,3,1")
    units = {name.split("_sep")[0] for name in found if "stage" in name and "_sep1_" in name}
    assert len(units) == 6
    assert shapes("vargfacenet", units=(2, 3, 1)) == found


def test_no_squeeze_and_excitation_where_not_wanted():
    assert any("_se_" in name for name in shapes("vargfacenet"))
    assert not any("_se_" in name for name in shapes("vargfacenet", use_se=False))
    assert any("_se_" in name for name in shapes("vargfacenet_insightface", use_se="true"))
    se = shapes("resnet50", use_se=True)
    assert se["stage4_unit3_se_conv1_weight"] == (32, 512, 1, 1)


def test_other_activations_have_no_slopes():
    assert not any("_act_gamma" in name for name in shapes("vargfacenet", activation="relu"))


def test_head_pooling_replaces_the_head_block():
    symbol = get_symbol("vargfacenet", head_pooling=True)
    assert "vargface_head_max_pooling_output" in symbol.get_internals().list_outputs()
    assert not any("head_pooling_sep" in name for name in symbol.list_arguments())


def test_a_graph_is_the_same_file_each_time():
    assert get_symbol("vargfacenet").tojson() == get_symbol("vargfacenet").tojson()


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("vargfacent", {}, "did you mean 'vargfacenet'"),
        ("vargfacenet", {"embeding_size": 3}, "did you mean 'embedding_size'"),
        ("vargfacenet", {"multiplier": 0.3}, "9 channels .* do not divide into groups of 8"),
        ("vargfacenet", {"multiplier": "wide"}, "multiplier='wide': expected a number"),
        ("vargfacenet", {"embedding_size": 0}, "embedding_size=0: expected between 1"),
        ("vargfacenet", {"units": "3,7"}, "expected 3 numbers"),
        ("vargfacenet", {"units": "3,x,4"}, "expected a whole number"),
        ("vargfacenet", {"use_se": "maybe"}, "expected true or false"),
        ("vargfacenet", {"activation": "prelux"}, "did you mean 'prelu'"),
        ("vargfacenet", {"group_size": 7}, "do not divide into groups of 7"),
        ("resnet50", {"units": (1, 2)}, "expected 4 numbers"),
        ("resnet50", {"group_size": 8}, "unknown option of resnet50"),
    ],
)
def test_a_wrong_option_is_named_with_the_remedy(network, options, message):
    with pytest.raises(SettingError, match=message):
        get_symbol(network, **options)


def test_published_options_are_the_defaults():
    options = {name: option.default for name, option in network_options("vargfacenet").items()}
    assert (options["embedding_size"], options["multiplier"], options["units"]) == (512, 1.25, (3, 7, 4))


def test_cost_without_squeeze_and_excitation_is_the_published_one():
    cost = complexity(get_symbol("vargfacenet", use_se=False))
    assert (cost.parameters, cost.flops) == (4_957_512, 1_022_388_952)


def test_layers_add_up_and_a_convolution_counts_by_the_rule():
    cost = complexity(get_symbol("vargfacenet"))
    assert sum(layer.flops for layer in cost.layers) == cost.flops
    first = next(layer for layer in cost.layers if layer.name == "vargface_head_conv1")
    assert first.shape == (40, 112, 112)
    assert first.parameters == 40 * 3 * 9
    assert first.flops == (2 * 27 - 1) * 112 * 112 * 40
    assert first.multiply_adds == 27 * 112 * 112 * 40
    assert np.isclose(cost.multiply_adds, 512.6e6, rtol=1e-4)


@pytest.mark.parametrize("no_bias", [True, False])
def test_a_linear_layer_on_tokens_counts_as_a_convolution_at_their_positions(no_bias):
    data = mx.sym.var("data")
    tokens = mx.sym.transpose(mx.sym.reshape(data, shape=(0, 0, -1)), axes=(0, 2, 1))
    linear = mx.sym.FullyConnected(tokens, num_hidden=5, flatten=False, no_bias=no_bias)
    convolved = mx.sym.Convolution(data, num_filter=5, kernel=(1, 1), no_bias=no_bias)
    found, expected = complexity(linear), complexity(convolved)
    assert found.multiply_adds == expected.multiply_adds == 3 * 5 * 112 * 112
    assert found.flops == expected.flops == (6 - no_bias) * 5 * 112 * 112
    assert found.parameters == expected.parameters
