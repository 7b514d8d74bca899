"""Make the node names of graphs that Gluon exports unique, for loaders that find nodes by name."""

from typing import Any

from vargfacenet.errors import CheckpointError

OUTPUT = "fc1"  # name of the embedding, by which loaders of the lineage find it


def name_apart(nodes: list[dict[str, Any]], path: object) -> None:
    """Rename operators that share a name, such as those of a Gluon block that is called twice.

    The last node, the embedding, gets the name that loaders of the lineage expect. CheckpointError where parameters share a
    name, as their values are found by it.
    """
    parameters = [node["name"] for node in nodes if node["op"] == "null"]
    taken = set(parameters)
    if len(taken) != len(parameters):
        raise CheckpointError(
            f"{path} has {len(parameters) - len(taken)} parameters that share a name with another one: it is damaged"
        )
    last = nodes[-1]
    if OUTPUT not in taken and OUTPUT not in [node["name"] for node in nodes]:
        last["name"] = OUTPUT
    taken.add(last["name"])
    for node in nodes[:-1]:
        if node["op"] != "null":
            name, number = node["name"], 0
            while node["name"] in taken:
                number += 1
                node["name"] = f"{name}_{number}"
            taken.add(node["name"])
