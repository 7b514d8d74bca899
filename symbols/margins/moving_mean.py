"""A mean that moves from update to update, as an auxiliary state of the graph."""

from __future__ import annotations

import mxnet as mx

_OPERATOR = "vargfacenet_moving_mean"


def moving_mean(value: mx.sym.Symbol, name: str, *, initial: float, momentum: float) -> mx.sym.Symbol:
    """Return the moving mean of a value after this update: (1,) -> (1,), without gradient.

    In training mode the auxiliary state `name` becomes ``momentum * state + (1 - momentum) * value`` first; a NaN leaves it
    as it is. Like the running statistics of batch normalisation it belongs to the training state, each device has its own,
    and what is saved is their mean.
    """
    state = mx.sym.var(name, shape=(1,), init=mx.init.Constant(initial))
    value = mx.sym.BlockGrad(value)
    return mx.sym.Custom(value, state, op_type=_OPERATOR, momentum=momentum, name=f"{name}_now")


def moved(state: mx.nd.NDArray, value: mx.nd.NDArray, momentum: float) -> mx.nd.NDArray:
    """Return a moving mean after one update: NDArrays of one shape; where `value` is NaN the state stays."""
    return mx.nd.where(value == value, momentum * state + (1 - momentum) * value, state)


class _MovingMean(mx.operator.CustomOp):
    def __init__(self, momentum):
        super().__init__()
        self._momentum = momentum

    def forward(self, is_train, req, in_data, out_data, aux):
        if is_train:
            aux[0][:] = moved(aux[0], in_data[0], self._momentum)
        self.assign(out_data[0], req[0], aux[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], 0)


@mx.operator.register(_OPERATOR)
class _MovingMeanProperties(mx.operator.CustomOpProp):
    def __init__(self, momentum):
        super().__init__(need_top_grad=False)
        self._momentum = float(momentum)

    def list_arguments(self):
        return ["value"]

    def list_auxiliary_states(self):
        return ["mean"]

    def infer_shape(self, in_shape):
        return in_shape, [in_shape[0]], [in_shape[0]]

    def create_operator(self, ctx, shapes, dtypes):
        return _MovingMean(self._momentum)
