"""Rewrite published graphs so that they compute the same on operators that are correct and fast."""

from vargfacenet.operators.backends import BACKENDS, choose_backend
from vargfacenet.operators.forms import describe_forms, forms_in_use, keep_forms
from vargfacenet.operators.inference import inference_form
from vargfacenet.operators.library import load_library, missing_for_native
from vargfacenet.operators.nodes import output_shapes
from vargfacenet.operators.rewrite import runnable

__all__ = [
    "BACKENDS",
    "choose_backend",
    "describe_forms",
    "forms_in_use",
    "inference_form",
    "keep_forms",
    "load_library",
    "missing_for_native",
    "output_shapes",
    "runnable",
]
