"""``python -m vargfacenet.launch.serve``: run the scheduler or a server of MXNet's parameter store, by ``DMLC_ROLE``."""

from vargfacenet.launch.heartbeat import start_heartbeat


def main() -> None:
    """Serve until all workers have left."""
    start_heartbeat().report("serving", waiting=True)
    import mxnet  # noqa: F401 - importing it in such a role serves, and then ends the process


if __name__ == "__main__":
    main()
