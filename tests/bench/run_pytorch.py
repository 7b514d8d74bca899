"""Runs a graph in PyTorch, in training: ``run_pytorch.py CONTENDER.py FOLDER PACKAGE`` with graph.json and arrays.npz there."""

import pathlib
import runpy
import sys

import numpy as np
import torch


def main():
    contender, folder = runpy.run_path(sys.argv[1]), pathlib.Path(sys.argv[2])
    arrays = dict(np.load(folder / "arrays.npz"))
    text = (folder / "graph.json").read_text()
    network = contender["read_graph"](sys.argv[3], text, {name: value.shape for name, value in arrays.items()})
    network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays if name != "data"}, strict=False)
    np.save(folder / "embeddings.npy", network(torch.from_numpy(arrays["data"])).detach().numpy())


if __name__ == "__main__":
    main()
