"""``vargfacenet ijb``: the template protocols of IJB-B and IJB-C."""

import argparse
import json
from collections.abc import Callable

from vargfacenet.commands.embedding import add_device_options, checked_device
from vargfacenet.commands.model_options import add_cache_options, add_model_options, cache_of, open_named
from vargfacenet.commands.output import markdown_table, print_table, progress, rate_cell
from vargfacenet.errors import DataError
from vargfacenet.eval.ijb import (
    Pooling,
    face_fingerprint,
    face_reader,
    find_unreadable,
    read_trials,
    score_templates,
)
from vargfacenet.eval.template_sets import read_template_set
from vargfacenet.formats.files import write_text

_NAMED = 10  # of many images that cannot be read


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="The template protocols of IJB-B and IJB-C on a folder in InsightFace's layout (meta/*.txt and *.csv, "
        "loose_crop/*.jpg): images are aligned by their five points and embedded, embeddings pooled over media and "
        "templates. Prints TAR at FAR (1:1), and rank-k and TPIR at FPIR (1:N).",
    )
    add_model_options(parser, images=False)
    parser.add_argument("folder", metavar="FOLDER", help="with meta and loose_crop in it")
    add_device_options(parser)
    parser.add_argument("--set", default="auto", metavar="SET", help="ijbb or ijbc (default: the one that is there)")
    parser.add_argument(
        "--protocol", nargs="+", default=["1:1", "1:N"], metavar="P", help="1:1, 1:N or both (default: both)"
    )
    parser.add_argument("--no-flip", action="store_true", help="leave the mirrored images' embeddings out")
    parser.add_argument(
        "--unit", action="store_true", help="bring each image's embedding to length 1 before it is pooled"
    )
    parser.add_argument("--detector-score", action="store_true", help="weight images by the face detector's scores")
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read, and list them"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables here too, in Markdown")
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args):
    device = checked_device(args)
    template_set = read_template_set(args.folder, args.set, allow_missing=args.skip_unreadable)
    trials = read_trials(template_set, args.protocol)
    model = open_named(args, args.model, device=device, batch_size=args.batch_size)
    count, unreadable = len(template_set.names), {}
    if args.skip_unreadable:
        with progress(total=count, unit="image", desc="reading") as bar:
            unreadable = find_unreadable(count, face_reader(template_set), progress=bar.update)
    pooling = Pooling(normalize_images=args.unit, use_detector_scores=args.detector_score)
    with cache_of(args) as cache:
        embeddings, mirrored = _embedded(cache, model, template_set, unreadable)
        found = score_templates(
            template_set,
            trials,
            embeddings,
            None if args.no_flip else mirrored,
            pooling=pooling,
            unreadable=unreadable,
        )
    about = {
        "set": template_set.name,
        "images": count,
        "templates": len(template_set.ids),
        "flip": not args.no_flip,
        "unit": pooling.normalize_images,
        "detector_scores": pooling.use_detector_scores,
        "unreadable": {str(template_set.names[row]): reason for row, reason in unreadable.items()},
    }
    print(f"{template_set.name}: {count - len(unreadable):,} images in {len(template_set.ids):,} templates")
    for name, reason in about["unreadable"].items():
        print(f"left out: {name}: {reason}")
    tables = list(_tables(found))
    for number, (title, headers, rows) in enumerate(tables):
        print(f"{chr(10) if number else ''}{title}")
        print_table(headers, rows)
    if args.json:
        write_text(args.json, json.dumps({**about, **found}, indent=2) + "\n")
    if args.markdown:
        parts = [f"{title}\n\n{markdown_table(headers, rows)}" for title, headers, rows in tables]
        write_text(args.markdown, "\n".join(parts))
    return 0


def _embedded(cache, model, template_set, unreadable):
    """Embeddings of a set's images and mirrors; where one cannot be read, an error that names all such."""
    count, read, failed = len(template_set.names), face_reader(template_set, unreadable=unreadable), []

    def noted(row):
        try:
            return read(row)
        except DataError as error:
            failed.append(error)
            raise

    try:
        with progress(total=count, unit="image", desc="embedding") as bar:
            images = face_fingerprint(template_set, unreadable=unreadable)
            return cache.embed(model.embedder, model.mark, images, count, noted, progress=bar.update)
    except DataError:
        if not failed:
            raise
        with progress(total=count, unit="image", desc="reading the rest") as bar:
            reasons = list(find_unreadable(count, read, progress=bar.update).values())
        more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        raise DataError(
            f"{len(reasons)} of {count} images cannot be read: {'; '.join(reasons[:_NAMED])}{more}; "
            "--skip-unreadable leaves them out"
        ) from None


def _tables(found):
    """Title, headers and rows of each protocol."""
    if "1:1" in found:
        one = found["1:1"]
        title = f"1:1, {one['same']:,} pairs of one person, {one['different']:,} of different people"
        rows = [
            [far, rate_cell(tar), "-" if one["threshold"][far] is None else f"{one['threshold'][far]:.4f}"]
            for far, tar in one["tar"].items()
        ]
        yield title, ["FAR", "TAR", "cosine above"], rows
    if "1:N" in found:
        galleries = dict(found["1:N"])
        mean = galleries.pop("mean")
        first = next(iter(galleries.values()))
        headers = ["gallery", "identities", "mated", "non-mated"]
        headers += [f"rank-{rank}" for rank in first["rank"]] + [f"TPIR@FPIR={fpir}" for fpir in first["tpir"]]
        rows = [
            [name, one["identities"], one["mated"], one["non_mated"], *_rates(one)] for name, one in galleries.items()
        ]
        yield "1:N, mixed media", headers, [*rows, ["mean", "", "", "", *_rates(mean)]]


def _rates(one):
    return [rate_cell(rate) for rate in [*one["rank"].values(), *one["tpir"].values()]]
