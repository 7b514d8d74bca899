"""Names in the graphs that Gluon exports, made fit for loaders that find nodes by name."""

from vargfacenet.errors import CheckpointError

OUTPUT = "fc1"  # the embedding, by which loaders of the lineage find it


def name_apart(nodes: list, path) -> None:
    """Gives operators that share a name, such as those of a Gluon block that is called twice, names of their own.

    The last node, the embedding, is called as the lineage's loaders expect it. Parameters must have unique names: by them
    their values are found.
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
