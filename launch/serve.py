"""``python -m vargfacenet.launch.serve``: the scheduler or a server of MXNet's parameter store, as ``DMLC_ROLE`` says."""

from vargfacenet.launch.beats import begin


def main():
    """Serves until all workers have left."""
    begin().report("serving", waiting=True)
    import mxnet  # noqa: F401 - which serves when it is imported in such a role, and then ends the process


if __name__ == "__main__":
    main()
