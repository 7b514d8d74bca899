"""``vargfacenet identify``: who images show, among the people of a folder."""

import argparse
import dataclasses
import json
from collections.abc import Callable

from vargfacenet.commands.embedding import add_device_options, checked_device
from vargfacenet.commands.model_options import add_cache_options, add_model_options, cache_of, face_options, open_named
from vargfacenet.commands.output import markdown_table, print_table, progress, rate_cell
from vargfacenet.deploy import face_of
from vargfacenet.errors import SettingError
from vargfacenet.eval.cache import file_fingerprint
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
        description="Searches each probe among the people of a gallery. Both are folders with a folder of aligned images "
        "for each person, by whose name a probe's person is found in the gallery; probes of people who are not in it "
        "give the false positive identification rate. Embeddings of image and mirror are added.",
    )
    add_model_options(parser)
    add_device_options(parser)
    parser.add_argument("--gallery", required=True, metavar="DIR", help="known people")
    parser.add_argument("--probes", required=True, metavar="DIR", help="who is searched")
    parser.add_argument(
        "--gallery-by",
        default="mean",
        metavar="HOW",
        help="a person in the gallery is the mean of their images' unit embeddings (mean, the default), or all of their "
        "images, of which the nearest counts (nearest)",
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 5, 10], metavar="K", help="(default: 1 5 10)")
    parser.add_argument(
        "--fpir", type=float, nargs="+", default=[0.1, 0.01, 0.001], metavar="RATE", help="(default: 0.1 0.01 0.001)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results and the CMC here too")
    parser.add_argument("--markdown", metavar="FILE", help="write the table here too, in Markdown")
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args):
    if args.gallery_by not in ENTRIES:
        raise unknown("kind of gallery", args.gallery_by, ENTRIES)
    for rank in args.ranks:
        check_range("--ranks", rank, 1, 1_000_000)
    for fpir in args.fpir:
        check_range("--fpir", fpir, 1e-9, 1 - 1e-9)
    folders = {name: dict(images_by_identity(getattr(args, name))) for name in ("gallery", "probes")}
    shared = {path.resolve() for files in folders["gallery"].values() for path in files}
    both = next((path for files in folders["probes"].values() for path in files if path.resolve() in shared), None)
    if both is not None:
        raise SettingError(
            f"{both} is in the gallery and among the probes: it would be found at once; give other images"
        )
    options = face_options(args)
    model = open_named(args, args.model, device=checked_device(args), batch_size=args.batch_size)
    with cache_of(args) as cache:
        embedded = {name: _embedded(cache, model, identities, name, options) for name, identities in folders.items()}
    known = gallery_entries(*embedded["gallery"], by=args.gallery_by)
    searched, labels = embedded["probes"]
    with progress(total=len(searched), unit="probe", desc="searching") as bar:
        found = search(l2_normalize(searched), labels, *known, progress=bar.update)
    rates = identification(found, ranks=args.ranks, fpirs=args.fpir)
    print(
        f"{rates.identities:,} identities in the gallery; {rates.mated:,} mated probes, {rates.non_mated:,} non-mated; "
        f"gallery by {args.gallery_by}"
    )
    headers = [f"rank-{rank}" for rank in rates.rank] + [f"TPIR@FPIR={fpir}" for fpir in rates.tpir]
    row = [rate_cell(rate) for rate in [*rates.rank.values(), *rates.tpir.values()]]
    print_table(headers, [row])
    if args.json:
        curve = cumulative_matches(found, max(*args.ranks, _CMC_RANKS))
        content = {
            **dataclasses.asdict(rates),
            "gallery_by": args.gallery_by,
            "cmc": None if curve is None else curve.tolist(),
        }
        write_text(args.json, json.dumps(content, indent=2) + "\n")
    if args.markdown:
        write_text(args.markdown, markdown_table(headers, [row]))
    return 0


def _embedded(cache, model, identities, name, options):
    """Embed the images of identities (dict of name to paths), image and mirror added; also returns the name of each."""
    paths = [path for files in identities.values() for path in files]
    labels = [identity for identity, files in identities.items() for _ in files]

    def read(place):
        return face_of(read_image(paths[place]), str(paths[place]), **options)

    with progress(total=len(paths), unit="image", desc=name) as bar:
        images = f"{file_fingerprint(paths)} crop {options['crop']} align {options['detector'] is not None}"
        plain, mirrored = cache.embed(model.embedder, model.mark, images, len(paths), read, progress=bar.update)
        return plain + mirrored, labels
