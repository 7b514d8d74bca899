"""Export a checkpoint to ONNX, and compare two faces with the file.

    python examples/deploy.py runs/mine/best student.onnx

The file is checked against MXNet before it gets its name. Without arguments the network that comes with the package is
exported. Needs the extra 'deploy' (onnx and onnxruntime).
"""

import argparse
import itertools
import pathlib
from collections.abc import Sequence
from typing import Optional

from vargfacenet.data.synth import draw_faces
from vargfacenet.deploy import export_onnx, load_model


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="vargfacenet-x050", help="prefix of a checkpoint")
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=pathlib.Path("runs/student.onnx"))
    args = parser.parse_args(arguments)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    export = export_onnx(args.model, 0, args.out, target="onnxruntime")
    print(f"{args.out}: {export.bytes / 1e6:.1f} MB, largest relative error {export.error:.1e} against MXNet")
    # Two images of one identity and one of another, drawn; a photograph is aligned first (see `face_of`).
    first, second, _, other = (image for _, image in draw_faces(num_identities=2, images_per_identity=2))
    model = load_model(args.out)
    for (one, a), (two, b) in itertools.combinations({"first": first, "second": second, "other": other}.items(), 2):
        print(f"{one} and {two}: cosine {model.compare(a, b).cosine:.4f}")


if __name__ == "__main__":
    main()
