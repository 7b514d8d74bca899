"""Arguments of commands that take a teacher: a checkpoint, an ONNX file or a bundled network."""

from __future__ import annotations

import argparse
import shlex

import mxnet as mx

from vargfacenet.commands.arguments import Arguments
from vargfacenet.commands.model_arguments import add_scaling_arguments, given_scaling, parse_model
from vargfacenet.deploy.models import is_onnx, open_model
from vargfacenet.deploy.signature import Scaling
from vargfacenet.errors import SettingError
from vargfacenet.train.embedder_teacher import EmbedderTeacher
from vargfacenet.train.teacher import Teacher


def add_teacher_scaling_arguments(parser: Arguments) -> None:
    """Add ``--input-mean``, ``--input-std`` and ``--bgr``, which are of the teacher."""
    add_scaling_arguments(parser, of="the teacher")


def open_teacher(
    args: argparse.Namespace,
    text: str,
    epoch: int = 0,
    *,
    device: mx.Context | None = None,
    batch_size: int = 32,
) -> Teacher:
    """Open the teacher `text` with the options of `add_teacher_scaling_arguments`; an ONNX file runs in onnxruntime.

    `epoch` is the one of a checkpoint whose name has none. Device and batch size are of a teacher that is not a plain
    checkpoint, which takes them later.
    """
    path, epoch = parse_model(text, epoch)
    scaling = given_scaling(args)
    if not is_onnx(path) and scaling == Scaling():
        return Teacher(path, epoch)
    if is_onnx(path) and device is not None and not str(device).startswith("cpu"):
        raise SettingError(f"--device {device}: {path} runs in onnxruntime on the CPU; leave out --device")
    model = open_model(path, epoch=epoch, device=device, batch_size=batch_size, scaling=scaling)
    name = path if is_onnx(path) else f"{path},{epoch}"
    return EmbedderTeacher(model.embedder, model.fingerprint, argument=shlex.quote(name) + _options(scaling))


def _options(scaling: Scaling) -> str:
    """Return the options that state a scaling, to be appended to the name of a network."""
    mean = "" if scaling.mean is None else f" --input-mean {scaling.mean:g}"
    std = "" if scaling.std is None else f" --input-std {scaling.std:g}"
    return mean + std + " --bgr" * scaling.bgr
