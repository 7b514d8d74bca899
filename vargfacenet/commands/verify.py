"""``vargfacenet verify``: accuracy and rates of networks on verification sets."""

import argparse
from collections.abc import Callable, Sequence
from typing import Optional

import numpy as np

from vargfacenet.commands.arguments import (
    add_embedding_arguments,
    add_json_argument,
    add_markdown_argument,
    checked_device,
)
from vargfacenet.commands.model_arguments import (
    add_cache_arguments,
    add_model_argument,
    add_runtime_arguments,
    open_cache,
    open_named,
    parse_model,
    short_names,
)
from vargfacenet.commands.output import check_writable, json_writer, print_table, progress
from vargfacenet.deploy.models import Model, check_model_exists
from vargfacenet.errors import SettingError
from vargfacenet.eval import read_sets
from vargfacenet.eval.cache import EmbeddingCache, image_fingerprint
from vargfacenet.eval.pairs import Pairs
from vargfacenet.eval.plausible import detail_doubts, warn_of
from vargfacenet.eval.protocols.detail import Detail, verify_in_detail
from vargfacenet.eval.protocols.roc import FARS
from vargfacenet.eval.report import Result, write_report
from vargfacenet.eval.report.table import markdown, rate_rows, rates_by_network, summary_rows, unmeasured
from vargfacenet.eval.report.write import as_json
from vargfacenet.eval.sets import find_sets
from vargfacenet.formats.files import write_text
from vargfacenet.formats.images import decode_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Score networks on verification sets such as lfw.bin: accuracy by the lineage's protocol (ten folds, "
        "embeddings of image and mirror added), exact rates over all pairs, and 95% intervals. Several networks stand side "
        "by side. Embeddings are cached: the same network and set again cost nothing.",
        examples=(
            "vargfacenet verify vargfacenet-x050 --bins lfw.bin",
            "vargfacenet verify runs/mine/best,0 teacher.onnx --bins lfw cfp_fp --folder faces_emore --report report",
            "vargfacenet verify runs/mine/best --bins lfw.bin --far 1e-3 1e-4 --json lfw.json",
        ),
    )
    add_model_argument(parser, "models", nargs="+")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--bins",
        nargs="+",
        metavar="SET",
        help="verification sets: files, folders of them, or names such as lfw or CFP-FP in --folder",
    )
    protocol.add_argument("--folder", metavar="DIR", help="folder of the sets given by name (default: this folder)")
    protocol.add_argument(
        "--far", type=float, nargs="+", metavar="RATE", help="false accept rates (default 1e-1 .. 1e-6)"
    )
    add_runtime_arguments(parser)
    computing = parser.add_argument_group("computing")
    add_embedding_arguments(computing)
    add_cache_arguments(computing)
    output = parser.add_argument_group("output")
    output.add_argument("--report", metavar="DIR", help="write a page with figures and the worst pairs to this folder")
    add_json_argument(output)
    add_markdown_argument(output)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device = checked_device(args)
    for far in args.far or ():
        check_range("--far", far, 1e-12, 0.5)
    _check_names(args.models)
    names = [parse_model(name, args.epoch) for name in args.models]  # refuses a set in the place of a model
    if args.bins is None:
        raise SettingError("no verification sets: give --bins SET..., files, folders of them, or names in --folder")
    sets = read_sets(find_sets(args.bins, args.folder))
    for name in names:
        check_model_exists(*name)  # before minutes of work on the others
    check_writable(args.report and f"{args.report}/index.html", args.json, args.markdown)
    labels, results = short_names(args.models), []
    with json_writer(args.json) as write_json:
        with open_cache(args) as cache:
            for name in args.models:
                model = open_named(args, name, batch_size=args.batch_size, device=device)
                for set_name, pairs in sets.items():
                    detail = _verify(cache, model, (labels[name], set_name), pairs, args.far)
                    about = f"{name}, by {model.runtime}, fingerprint {model.fingerprint[:12]}"
                    results.append(Result(labels[name], about, set_name, detail))
        _print(results, alone=len(args.models) == 1)
        write_json(as_json(results))
        if args.markdown:
            write_text(args.markdown, markdown(results))
        if args.report:
            with progress(total=len(sets), desc="report", unit="set") as bar:
                print(f"\n{write_report(args.report, results, sets, progress=bar.update)}")
    return 0


def _verify(
    cache: EmbeddingCache, model: Model, names: tuple[str, str], pairs: Pairs, fars: Optional[Sequence[float]]
) -> Detail:
    """Verify a network on a set, whose `names` are given, at the false accept rates `fars` or the default ones."""
    images, name = pairs.images, ", ".join(names)

    def read(place: int) -> np.ndarray:
        return decode_image(images[place], f"{names[1]}: image {place}")

    with progress(total=len(images), unit="image", desc=name) as bar:
        fingerprint = image_fingerprint(images)
        plain, mirrored = cache.embed(
            model.embedder, model.cache_key, fingerprint, len(images), read, progress=bar.update
        )
    rates = sorted({*fars, 1e-3}, reverse=True) if fars else FARS  # the first table shows 1e-3
    detail = verify_in_detail(plain, mirrored, pairs.is_same, fars=rates)
    warn_of(name, detail_doubts(detail))
    return detail


def _print(results: Sequence[Result], *, alone: bool) -> None:
    headers, rows = summary_rows(results)
    print_table(headers[alone:], [row[alone:] for row in rows])
    for set_name in dict.fromkeys(result.set for result in results):
        details = {result.network: result.detail for result in results if result.set == set_name}
        if alone:
            headers, rows = rate_rows(details)
            headers, rows = headers[1:], [row[1:] for row in rows]
            print(f"\n{set_name}, all pairs at once")
        else:
            headers, rows = rates_by_network(details)
            print(f"\n{set_name}, all pairs at once: TAR and its 95% interval")
        if rows:
            print_table(headers, rows)
        if needed := unmeasured(next(iter(details.values()))):
            print(needed)


def _check_names(models: Sequence[str]) -> None:
    twice = [name for name in models if models.count(name) > 1]
    if twice:
        raise SettingError(f"{twice[0]} is given twice: name each network once")
