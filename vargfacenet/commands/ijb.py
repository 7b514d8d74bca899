"""``vargfacenet ijb``: the template protocols of IJB-B and IJB-C."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vargfacenet.commands.arguments import (
    add_embedding_arguments,
    add_json_argument,
    add_markdown_argument,
    checked_device,
    keep_old_spelling,
)
from vargfacenet.commands.model_arguments import (
    add_cache_arguments,
    add_model_argument,
    add_runtime_arguments,
    open_cache,
    open_named,
)
from vargfacenet.commands.output import check_writable, json_writer, markdown_table, print_table, progress, rate_cell
from vargfacenet.deploy.models import Model
from vargfacenet.errors import DataError
from vargfacenet.eval.cache import EmbeddingCache
from vargfacenet.eval.ijb import (
    Pooling,
    face_fingerprint,
    face_reader,
    find_unreadable,
    read_trials,
    score_templates,
)
from vargfacenet.eval.plausible import template_doubts, warn_of
from vargfacenet.eval.template_sets import TemplateSet, read_template_set
from vargfacenet.formats.files import write_text

_NAMED = 10  # of many images that cannot be read

_Table = tuple[str, list[str], list[list[object]]]  # title, headers, rows


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Run the template protocols of IJB-B and IJB-C on a folder in InsightFace's layout (meta/*.txt and "
        "*.csv, loose_crop/*.jpg). Images are aligned by their five points and embedded; embeddings are pooled over media "
        "and templates. The result is TAR at FAR (1:1), and rank-k and TPIR at FPIR (1:N).",
        examples=(
            "vargfacenet ijb runs/mine/best,0 IJBC",
            "vargfacenet ijb student.onnx IJB --dataset ijbb --protocol 1:1 --json ijbb.json --markdown ijbb.md",
        ),
    )
    add_model_argument(parser)
    parser.add_argument("folder", metavar="FOLDER", help="folder with meta and loose_crop in it")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--dataset", default="auto", metavar="NAME", help="ijbb or ijbc (default: the one in the folder)"
    )
    keep_old_spelling(protocol, "--set", new="--dataset", dest="dataset")
    protocol.add_argument(
        "--protocol", nargs="+", default=["1:1", "1:N"], metavar="P", help="1:1, 1:N or both (default: both)"
    )
    protocol.add_argument("--no-flip", action="store_true", help="leave out the embeddings of mirrored images")
    protocol.add_argument(
        "--l2-normalize", action="store_true", help="normalize the embedding of each image before it is pooled"
    )
    keep_old_spelling(protocol, "--unit", new="--l2-normalize", dest="l2_normalize", nargs=0, const=True)
    protocol.add_argument("--detector-score", action="store_true", help="weight images by the face detector's scores")
    protocol.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read, and list them"
    )
    add_runtime_arguments(parser)
    computing = parser.add_argument_group("computing")
    add_embedding_arguments(computing)
    add_cache_arguments(computing)
    output = parser.add_argument_group("output")
    add_json_argument(output)
    add_markdown_argument(output)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device = checked_device(args)
    check_writable(args.json, args.markdown)
    template_set = read_template_set(args.folder, args.dataset, allow_missing=args.skip_unreadable)
    trials = read_trials(template_set, args.protocol)
    model = open_named(args, args.model, device=device, batch_size=args.batch_size)
    count, unreadable = len(template_set.names), {}
    if args.skip_unreadable:
        with progress(total=count, unit="image", desc="reading") as bar:
            unreadable = find_unreadable(count, face_reader(template_set), progress=bar.update)
    pooling = Pooling(normalize_images=args.l2_normalize, use_detector_scores=args.detector_score)
    with json_writer(args.json) as write_json:
        with open_cache(args) as cache:
            embeddings, mirrored = _embed(cache, model, template_set, unreadable)
            found = score_templates(
                template_set,
                trials,
                embeddings,
                None if args.no_flip else mirrored,
                pooling=pooling,
                unreadable=unreadable,
            )
        warn_of(template_set.name, template_doubts(found))
        left_out = {str(template_set.names[row]): reason for row, reason in unreadable.items()}
        about = {
            "set": template_set.name,
            "images": count,
            "templates": len(template_set.ids),
            "flip": not args.no_flip,
            "unit": pooling.normalize_images,
            "detector_scores": pooling.use_detector_scores,
            "unreadable": left_out,
        }
        print(f"{template_set.name}: {count - len(unreadable):,} images in {len(template_set.ids):,} templates")
        for name, reason in left_out.items():
            print(f"left out: {name}: {reason}")
        tables = list(_tables(found))
        for number, (title, headers, rows) in enumerate(tables):
            print(f"{chr(10) if number else ''}{title}")
            print_table(headers, rows)
        write_json({**about, **found})
        if args.markdown:
            parts = [f"{title}\n\n{markdown_table(headers, rows)}" for title, headers, rows in tables]
            write_text(args.markdown, "\n".join(parts))
    return 0


def _embed(
    cache: EmbeddingCache, model: Model, template_set: TemplateSet, unreadable: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of a set's images and of their mirrors; DataError names all images that cannot be read."""
    count, read = len(template_set.names), face_reader(template_set, unreadable=unreadable)
    failed = []

    def noted(row: int) -> np.ndarray:
        try:
            return read(row)
        except DataError as error:
            failed.append(error)
            raise

    try:
        with progress(total=count, unit="image", desc="embedding") as bar:
            images = face_fingerprint(template_set, unreadable=unreadable)
            return cache.embed(model.embedder, model.cache_key, images, count, noted, progress=bar.update)
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


def _tables(found: Mapping[str, Any]) -> Iterator[_Table]:
    """Give the table of each protocol."""
    if "1:1" in found:
        one = found["1:1"]
        title = f"1:1, {one['same']:,} pairs of one identity, {one['different']:,} of different identities"
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


def _rates(one: Mapping[str, Any]) -> list[str]:
    return [rate_cell(rate) for rate in [*one["rank"].values(), *one["tpir"].values()]]
