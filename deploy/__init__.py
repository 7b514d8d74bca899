"""Conversion and export of networks, and their use outside training."""

from vargfacenet.deploy.conversion import convert_checkpoint
from vargfacenet.deploy.export import export_onnx
from vargfacenet.deploy.faces import FaceModel, face_of, load_model
from vargfacenet.deploy.gallery import Gallery

__all__ = ["FaceModel", "Gallery", "convert_checkpoint", "export_onnx", "face_of", "load_model"]
