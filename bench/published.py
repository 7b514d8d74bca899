"""The networks here in their published sizes, and published accuracies, each with its source."""

from __future__ import annotations

from typing import Any, NamedTuple

KANFACE = "README of hungpham3112/KANFace, which quotes the papers"
FACELIVT = "README of FaceLiVTv2, which quotes the papers"
AUTHORS = "README of the authors' repository"
PAPER = "the paper"


class Published(NamedTuple):
    """A network in a published size, and its accuracies in percent; None where nothing was published.

    Attributes
    ----------
    title
        As in papers.
    network, options
        As of `vargfacenet.symbols.get_symbol`.
    lfw, cfp_fp, agedb, ijbc
        Accuracy on LFW, CFP-FP and AgeDB-30; TAR at FAR 1e-4 on IJB-C.
    source
        Of the accuracies; empty without any. The networks were trained on different sets.
    """

    title: str
    network: str
    options: dict[str, Any]
    lfw: float | None = None
    cfp_fp: float | None = None
    agedb: float | None = None
    ijbc: float | None = None
    source: str = ""


_ARCFACE = "README of arcface_torch, MS1MV3"
_ROWS: tuple[Any, ...] = (
    ("VarGFaceNet", "vargfacenet", {}, 99.85, 98.50, 98.15, 94.7, PAPER),
    ("VarGFaceNet, InsightFace's", "vargfacenet_insightface", {}),
    ("MobileFaceNet y1", "mobilefacenet", {}, 99.55, None, 96.07, None, PAPER),
    ("MobileFaceNet y2", "mobilefacenet_y2", {}, 99.7, 96.9, 97.6, 94.7, KANFACE),
    ("arcface_torch mbf", "arcface_mbf", {}, None, None, None, 94.23, _ARCFACE),
    ("arcface_torch mbf_large", "arcface_mbf", {"size": "large"}),
    ("EdgeFace-XXS", "edgeface", {"size": "xxs"}, 99.57, 93.63, 94.92, None, AUTHORS),
    ("EdgeFace-XS (0.6)", "edgeface", {"size": "xs"}, 99.73, 94.71, 96.08, 94.85, f"{AUTHORS}, IJB-C {KANFACE}"),
    ("EdgeFace-S (0.5)", "edgeface", {}, 99.78, 95.74, 97.03, 95.63, f"{AUTHORS}, IJB-C {KANFACE}"),
    ("EdgeFace-Base", "edgeface", {"size": "base"}, 99.83, 97.01, 97.60, None, AUTHORS),
    ("GhostFaceNetV1-1.3-1", "ghostfacenet", {}, 99.73, 96.83, 98.00, 94.94, AUTHORS),
    ("GhostFaceNetV1-1.3-2", "ghostfacenet", {"stride": 2}, 99.68, 93.31, 96.92, 93.45, AUTHORS),
    ("GhostFaceNetV1-1-1", "ghostfacenet", {"width": 1.0}),
    ("GhostFaceNetV1-1-2", "ghostfacenet", {"width": 1.0, "stride": 2}, 99.38, 88.81, 94.85, None, AUTHORS),
    ("GhostFaceNetV2-1.3-1", "ghostfacenet", {"version": 2}),
    (
        "GhostFaceNetV2-1.3-2",
        "ghostfacenet",
        {"version": 2, "stride": 2},
        99.68,
        94.29,
        96.83,
        93.16,
        f"{AUTHORS}, IJB-C {FACELIVT}",
    ),
    ("GhostFaceNetV2-1-1", "ghostfacenet", {"version": 2, "width": 1.0}),
    (
        "GhostFaceNetV2-1-2",
        "ghostfacenet",
        {"version": 2, "width": 1.0, "stride": 2},
        99.67,
        94.86,
        96.42,
        None,
        AUTHORS,
    ),
    ("MixFaceNet-XS", "mixfacenet", {"size": "xs"}, 99.60, None, 95.85, 90.73, AUTHORS),
    ("MixFaceNet-S", "mixfacenet", {}, 99.60, None, 96.63, 92.30, AUTHORS),
    ("MixFaceNet-M", "mixfacenet", {"size": "m"}, 99.68, None, 97.05, 93.42, AUTHORS),
    ("ShuffleMixFaceNet-XS", "mixfacenet", {"size": "xs", "shuffle": True}, 99.53, None, 95.62, 90.43, AUTHORS),
    ("ShuffleMixFaceNet-S", "mixfacenet", {"shuffle": True}, 99.58, None, 97.05, 93.08, AUTHORS),
    ("ShuffleMixFaceNet-M", "mixfacenet", {"size": "m", "shuffle": True}, 99.60, None, 96.98, 93.5, AUTHORS),
    ("PocketNetS-128", "pocketnet", {}, 99.58, 94.21, 96.10, 91.62, FACELIVT),
    ("PocketNetS-256", "pocketnet", {"embedding_size": 256}, 99.66, 93.34, 96.36, 91.33, FACELIVT),
    ("PocketNetM-128", "pocketnet", {"size": "m"}, 99.65, 95.07, 96.78, 92.63, FACELIVT),
    ("PocketNetM-256", "pocketnet", {"size": "m", "embedding_size": 256}, 99.58, 95.66, 97.17, 92.70, FACELIVT),
    ("ShuffleFaceNet 0.5x", "shufflefacenet", {"width": 0.5}, 99.2, 92.6, 93.2, None, FACELIVT),
    ("ShuffleFaceNet 1x", "shufflefacenet", {"width": 1.0}),
    ("ShuffleFaceNet 1.5x", "shufflefacenet", {}, 99.67, 97.26, 97.32, 94.3, KANFACE),
    ("ShuffleFaceNet 2x", "shufflefacenet", {"width": 2.0}, 99.62, 97.56, 97.28, None, KANFACE),
    ("iresnet18", "iresnet18", {}),
    ("iresnet34", "iresnet34", {}),
    ("iresnet50", "iresnet50", {}, None, None, None, 96.37, _ARCFACE),
    ("iresnet100", "iresnet100", {}, None, None, None, 96.85, _ARCFACE),
    ("LResNet18E-IR", "resnet18", {}),
    ("LResNet34E-IR", "resnet34", {}),
    ("LResNet50E-IR", "resnet50", {}),
    ("LResNet100E-IR", "resnet100", {}),
)
ZOO = tuple(Published(*row) for row in _ROWS)
SETS = {"lfw": "LFW", "cfp_fp": "CFP-FP", "agedb": "AgeDB-30", "ijbc": "IJB-C"}
