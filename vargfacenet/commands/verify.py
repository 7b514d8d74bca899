"""``vargfacenet verify``: what verification sets say of networks."""

import argparse
import json
from collections.abc import Callable

from vargfacenet.commands.embedding import add_device_options, checked_device
from vargfacenet.commands.model_options import (
    add_cache_options,
    add_scaling_options,
    cache_of,
    open_named,
    short_names,
    split_name,
)
from vargfacenet.commands.output import print_table, progress
from vargfacenet.errors import SettingError
from vargfacenet.eval import read_sets
from vargfacenet.eval.cache import image_fingerprint
from vargfacenet.eval.plausible import warn_near_chance
from vargfacenet.eval.protocols.detail import verify_in_detail
from vargfacenet.eval.report import Result, write_report
from vargfacenet.eval.report.table import markdown, rate_rows, summary_rows
from vargfacenet.eval.report.write import as_json
from vargfacenet.eval.sets import find_sets
from vargfacenet.formats.files import write_text
from vargfacenet.formats.images import decode_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Scores networks on verification sets such as lfw.bin: the lineage's protocol (ten folds, embeddings of "
        "image and mirror added), exact rates over all pairs, and 95% intervals. Embeddings are kept: a second time on "
        "the same network and set costs nothing.",
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="PREFIX as in PREFIX-symbol.json, PREFIX,EPOCH, or an ONNX file; any network of the lineage",
    )
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument(
        "--bins",
        nargs="+",
        required=True,
        metavar="SET",
        help="verification sets: files, folders of them, or names such as lfw or CFP-FP in --folder",
    )
    parser.add_argument("--folder", metavar="DIR", help="where sets that are named are (default: here)")
    parser.add_argument(
        "--far", type=float, nargs="+", metavar="RATE", help="false accept rates (default 1e-1 .. 1e-6)"
    )
    parser.add_argument("--runtime", default="onnxruntime", help="of ONNX files: onnxruntime (default) or openvino")
    add_scaling_options(parser)
    add_device_options(parser)
    parser.add_argument("--report", metavar="DIR", help="write a page with figures and the worst pairs there")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--markdown", metavar="FILE", help="write a table for a paper here")
    add_cache_options(parser)
    parser.set_defaults(run=run)


def run(args):
    device = checked_device(args)
    for far in args.far or ():
        check_range("--far", far, 1e-12, 0.5)
    _check_names(args.models)
    for name in args.models:
        split_name(name, args.epoch)  # refuses a set in the place of a model before minutes of work
    sets = read_sets(find_sets(args.bins, args.folder))
    labels, results = short_names(args.models), []
    with cache_of(args) as cache:
        for name in args.models:
            model = open_named(args, name, batch_size=args.batch_size, device=device)
            for set_name, pairs in sets.items():
                results.append(_verify(cache, model, labels[name], name, set_name, pairs, args.far))
    headers, rows = summary_rows(results)
    alone = len(args.models) == 1
    print_table(headers[alone:], [row[alone:] for row in rows])
    for set_name in sets:
        headers, rows = rate_rows({result.network: result.detail for result in results if result.set == set_name})
        print(f"\n{set_name}, all pairs at once")
        print_table(headers[alone:], [row[alone:] for row in rows])
    if args.json:
        write_text(args.json, json.dumps(as_json(results), indent=1) + "\n")
    if args.markdown:
        write_text(args.markdown, markdown(results))
    if args.report:
        with progress(total=len(sets), desc="report", unit="set") as bar:
            print(f"\n{write_report(args.report, results, sets, progress=bar.update)}")
    return 0


def _verify(cache, model, label, name, set_name, pairs, fars):
    images = pairs.images

    def read(place):
        return decode_image(images[place], f"{set_name}: image {place}")

    with progress(total=len(images), unit="image", desc=f"{label}, {set_name}") as bar:
        fingerprint = image_fingerprint(images)
        both = cache.embed(model.embedder, model.mark, fingerprint, len(images), read, progress=bar.update)
    options = {"fars": sorted({*fars, 1e-3}, reverse=True)} if fars else {}  # which the first table shows
    about = f"{name}, by {model.runtime}, fingerprint {model.fingerprint[:12]}"
    detail = verify_in_detail(*both, pairs.is_same, **options)
    warn_near_chance(detail.verification.accuracy, len(pairs.is_same), f"{label}, {set_name}")
    return Result(label, about, set_name, detail)


def _check_names(models):
    twice = [name for name in models if models.count(name) > 1]
    if twice:
        raise SettingError(f"{twice[0]} is given twice: name each network once")
