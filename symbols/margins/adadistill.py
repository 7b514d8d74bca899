"""AdaDistill: class centres that follow the teacher as fast as the student does."""

from typing import Annotated

import mxnet as mx
import numpy as np

from vargfacenet.options import About
from vargfacenet.symbols.margins.combined import Combined
from vargfacenet.symbols.margins.head import CosineHead, margin_loss
from vargfacenet.symbols.margins.margin import Samples

_OPERATOR = "vargfacenet_moving_centres"
_LEAST = 1e-6
SCALE = About("Factor of the cosines.", low=0.001, high=1000)


def adadistill(
    embedding: mx.sym.Symbol,
    label: mx.sym.Symbol,
    teacher: mx.sym.Symbol,
    *,
    num_identities: int,
    embedding_size: int,
    margin: Annotated[float, About("Angle added to the own identity.", low=0, high=1.6, unit="radians")] = 0.45,
    scale: Annotated[float, SCALE] = 64.0,
    weighted: Annotated[
        bool, About("Weigh centres by the teacher's cosine to them too, as the paper's best form.")
    ] = True,
) -> mx.sym.Symbol:
    """ArcFace on class centres that no gradient reaches and that move towards the teacher's embeddings.

    For each sample ``W_y <- a W_y + (1 - a) t`` with ``a = clip(cos(s, t) * clip(cos(W_y, t), 1e-6, 1), 1e-6, 1)``: a
    student that is far from its teacher takes the teacher's embedding as the centre, one that is near takes the mean
    of the identity. All ``a`` are of the centres before the batch; samples of one identity then move its centre one after
    another. [Boutros et al., AdaDistill, ECCV 2024, arXiv 2407.01332]

    Parameters
    ----------
    embedding, teacher
        (N, embedding_size), of any length; the teacher's get no gradient.
    label
        (N,), identities 0 .. num_identities - 1.
    num_identities, embedding_size
        Of the centres, the auxiliary state ``fc7_centres``; they belong to the training state.
    margin, scale
        Angle added (radians); factor of the cosines.
    weighted
        Give ``a`` its second factor; without it, it is the plain form of the paper.

    Returns
    -------
    mx.sym.Symbol
        The group of loss and correctness, each (N,), as in `margin_head`.
    """
    s, t = (mx.sym.L2Normalization(one, mode="instance") for one in (embedding, teacher))
    centres = mx.sym.var(
        "fc7_centres", shape=(num_identities, embedding_size), init=mx.init.Normal(0.01)
    )  # as the authors' are drawn
    centres = mx.sym.Custom(
        mx.sym.BlockGrad(s),
        mx.sym.BlockGrad(t),
        label,
        centres,
        op_type=_OPERATOR,
        num_identities=num_identities,
        weighted=weighted,
        name="fc7_centres_now",
    )
    weight = mx.sym.L2Normalization(mx.sym.BlockGrad(centres), mode="instance")
    cosines = mx.sym.FullyConnected(
        data=s, weight=weight, num_hidden=num_identities, no_bias=True, flatten=False, name="fc7"
    )
    samples = Samples(mx.sym.pick(cosines, label, axis=1))
    return margin_loss(cosines, label, samples, CosineHead(Combined(m2=margin), scale), num_identities=num_identities)


def moved_centres(
    own: np.ndarray, label: np.ndarray, student: np.ndarray, teacher: np.ndarray, *, weighted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of a batch's identities after it, and their labels: (K, embedding_size) and int (K,).

    Parameters
    ----------
    own
        (N, embedding_size), the centre of each sample's identity before the batch, of any length.
    label
        int (N,), identities.
    student, teacher
        (N, embedding_size), of length 1.
    weighted
        As in `adadistill`.
    """
    share = (student * teacher).sum(axis=1)
    if weighted:
        lengths = np.maximum(np.linalg.norm(own, axis=1), 1e-12)
        share = share * np.clip((own * teacher).sum(axis=1) / lengths, _LEAST, 1)
    share = np.clip(share, _LEAST, 1)[:, None]  # (N, 1)
    order = np.argsort(label, kind="stable")
    labels, first, counts = np.unique(label[order], return_index=True, return_counts=True)
    centres = own[order[first]].copy()
    for turn in range(counts.max()):
        rows = np.flatnonzero(counts > turn)
        samples = order[first[rows] + turn]
        centres[rows] = share[samples] * centres[rows] + (1 - share[samples]) * teacher[samples]
    return centres, labels


class _MovingCentres(mx.operator.CustomOp):
    def __init__(self, weighted):
        super().__init__()
        self._weighted = weighted

    def forward(self, is_train, req, in_data, out_data, aux):
        if is_train:
            student, teacher, label = (array.asnumpy() for array in in_data)
            rows = mx.nd.array(label, dtype="int32", ctx=aux[0].context)
            own = mx.nd.take(aux[0], rows).asnumpy()
            centres, labels = moved_centres(own, label.astype(np.int64), student, teacher, weighted=self._weighted)
            places = mx.nd.array(labels.reshape(1, -1), dtype="int32", ctx=aux[0].context)
            values = mx.nd.array(centres, ctx=aux[0].context)
            mx.nd._internal._scatter_set_nd(lhs=aux[0], rhs=values, indices=places, shape=aux[0].shape, out=aux[0])
        self.assign(out_data[0], req[0], aux[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        for gradient, request in zip(in_grad, req):
            self.assign(gradient, request, 0)


@mx.operator.register(_OPERATOR)
class _MovingCentresProperties(mx.operator.CustomOpProp):
    def __init__(self, num_identities, weighted):
        super().__init__(need_top_grad=False)
        self._num_identities, self._weighted = int(num_identities), weighted == "True"

    def list_arguments(self):
        return ["student", "teacher", "label"]

    def list_auxiliary_states(self):
        return ["centres"]

    def infer_shape(self, in_shape):
        batch, size = in_shape[0]
        centres = [self._num_identities, size]
        return [in_shape[0], in_shape[0], [batch]], [centres], [centres]

    def create_operator(self, ctx, shapes, dtypes):
        return _MovingCentres(self._weighted)
