"""The built-in faces are a task: an untrained network does not solve them."""

import mxnet as mx

from vargfacenet.data.synth import draw_pairs
from vargfacenet.eval import Embedder, verify_pairs
from vargfacenet.eval.pairs import Pairs
from vargfacenet.train.config import resolve


def test_an_untrained_network_stays_below_three_quarters():
    images, is_same = draw_pairs(num_identities=60, images_per_identity=6, num_pairs=200, first_identity=500)
    symbol = resolve("demo_student_scratch").build_symbol()
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 3, 112, 112))], for_training=False)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
    score = verify_pairs(Embedder(symbol, *module.get_params()), Pairs(images, is_same))
    assert 0.45 < score.accuracy < 0.75
