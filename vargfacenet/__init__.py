"""VarGFaceNet: lightweight face recognition on Apache MXNet, from training to verification.

Importing the package makes MXNet importable with current libraries and sets the environment that it reads when it is
loaded, so import it before ``mxnet``.
"""

from vargfacenet.environment import prepare_environment

__version__ = "0.1.0"
IMAGE_SHAPE = (3, 112, 112)  # of a network's input: RGB, height, width

prepare_environment()
