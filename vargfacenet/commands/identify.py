"""``vargfacenet identify``: rank-k and open-set identification of images among the identities of a folder."""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vargfacenet.commands.arguments import (
    add_embedding_arguments,
    add_json_argument,
    add_markdown_argument,
    checked_device,
)
from vargfacenet.commands.model_arguments import (
    add_alignment_arguments,
    add_cache_arguments,
    add_model_argument,
    add_runtime_arguments,
    face_options,
    open_cache,
    open_named,
)
from vargfacenet.commands.output import check_writable, json_writer, markdown_table, print_table, progress, rate_cell
from vargfacenet.deploy import face_of
from vargfacenet.deploy.models import Model
from vargfacenet.errors import SettingError
from vargfacenet.eval.cache import EmbeddingCache, file_fingerprint
from vargfacenet.eval.plausible import rank_doubt, threshold_doubt, warn_of
from vargfacenet.eval.protocols.identification import (
    ENTRIES,
    cumulative_matches,
    gallery_entries,
    identification,
    search,
)
from vargfacenet.eval.protocols.normalize import l2_normalize
from vargfacenet.formats.files import write_text
from vargfacenet.formats.images import images_by_identity, read_image
from vargfacenet.options import check_range, unknown

_CMC_RANKS = 20


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Search each probe among the identities of a gallery. Both are folders with a folder of aligned images "
        "for each identity. A probe belongs to the identity of the same name; probes whose name is not in the gallery give "
        "the false positive identification rate. Embeddings of image and mirror are added.",
        examples=(
            "vargfacenet identify student.onnx --gallery known --probes seen",
            "vargfacenet identify runs/mine/best,0 --gallery known --probes seen --gallery-by nearest --ranks 1 20",
        ),
    )
    add_model_argument(parser)
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument("--gallery", required=True, metavar="DIR", help="known identities")
    protocol.add_argument("--probes", required=True, metavar="DIR", help="images to search for")
    protocol.add_argument(
        "--gallery-by",
        default="mean",
        metavar="HOW",
        help="score an identity by the mean of its l2-normalized embeddings (mean, the default), or by its nearest image "
        "(nearest)",
    )
    protocol.add_argument(
        "--ranks", type=int, nargs="+", default=[1, 5, 10], metavar="K", help="ranks (default: 1 5 10)"
    )
    protocol.add_argument(
        "--fpir",
        type=float,
        nargs="+",
        default=[0.1, 0.01, 0.001],
        metavar="RATE",
        help="false positive identification rates (default: 0.1 0.01 0.001)",
    )
    add_alignment_arguments(parser)
    add_runtime_arguments(parser)
    computing = parser.add_argument_group("computing")
    add_embedding_arguments(computing)
    add_cache_arguments(computing)
    output = parser.add_argument_group("output")
    add_json_argument(output)
    add_markdown_argument(output)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    _check(args)
    check_writable(args.json, args.markdown)
    device = checked_device(args)
    folders = {name: dict(images_by_identity(getattr(args, name))) for name in ("gallery", "probes")}
    _check_disjoint(folders["gallery"], folders["probes"])
    options = face_options(args)
    model = open_named(args, args.model, device=device, batch_size=args.batch_size)
    with json_writer(args.json) as write_json:
        with open_cache(args) as cache:
            embedded = {name: _embed(cache, model, people, name, options) for name, people in folders.items()}
        known = gallery_entries(*embedded["gallery"], by=args.gallery_by)
        probes, identities = embedded["probes"]
        with progress(total=len(probes), unit="probe", desc="searching") as bar:
            found = search(l2_normalize(probes), identities, *known, progress=bar.update)
        rates = identification(found, ranks=args.ranks, fpirs=args.fpir)
        doubts = [
            rank_doubt(rates.rank, rates.identities, rates.mated),
            threshold_doubt(rates.threshold.values()),
        ]
        warn_of(args.probes, doubts)
        print(
            f"{rates.identities:,} identities in the gallery; {rates.mated:,} mated probes, {rates.non_mated:,} non-mated; "
            f"gallery by {args.gallery_by}"
        )
        headers = [f"rank-{rank}" for rank in rates.rank] + [f"TPIR@FPIR={fpir}" for fpir in rates.tpir]
        row = [rate_cell(rate) for rate in [*rates.rank.values(), *rates.tpir.values()]]
        print_table(headers, [row])
        curve = cumulative_matches(found, max(*args.ranks, _CMC_RANKS))
        cmc = None if curve is None else curve.tolist()
        write_json({**dataclasses.asdict(rates), "gallery_by": args.gallery_by, "cmc": cmc})
        if args.markdown:
            write_text(args.markdown, markdown_table(headers, [row]))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.gallery_by not in ENTRIES:
        raise unknown("kind of gallery", args.gallery_by, ENTRIES)
    for rank in args.ranks:
        check_range("--ranks", rank, 1, 1_000_000)
    for fpir in args.fpir:
        check_range("--fpir", fpir, 1e-9, 1 - 1e-9)


_Images = Mapping[str, Sequence[pathlib.Path]]  # by identity


def _check_disjoint(gallery: _Images, probes: _Images) -> None:
    shared = {path.resolve() for files in gallery.values() for path in files}
    both = next((path for files in probes.values() for path in files if path.resolve() in shared), None)
    if both is not None:
        raise SettingError(
            f"{both} is in the gallery and among the probes: it would be found at once; give other images"
        )


def _embed(
    cache: EmbeddingCache, model: Model, people: _Images, name: str, options: Mapping[str, Any]
) -> tuple[np.ndarray, list[str]]:
    """Return embeddings (images, embedding_size), image and mirror added, and the identity of each."""
    paths = [path for files in people.values() for path in files]
    identities = [identity for identity, files in people.items() for _ in files]

    def read(place: int) -> np.ndarray:
        return face_of(read_image(paths[place]), str(paths[place]), **options)

    with progress(total=len(paths), unit="image", desc=name) as bar:
        images = f"{file_fingerprint(paths)} crop {options['crop']} align {options['detector'] is not None}"
        plain, mirrored = cache.embed(model.embedder, model.cache_key, images, len(paths), read, progress=bar.update)
        return plain + mirrored, identities
