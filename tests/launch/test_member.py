"""Members of a group whose workers do nothing: their errors for what is missing, and no process left running."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.helpers.ports import free_ports
from vargfacenet.errors import ClusterError
from vargfacenet.launch.coordinator import Coordinator
from vargfacenet.launch.interrupts import Interrupts
from vargfacenet.launch.member import GroupOptions, run_member
from vargfacenet.launch.membership import Membership
from vargfacenet.launch.transport import connect, listen

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
ENDS = [sys.executable, "-c", "pass"]
IDLE = "from vargfacenet.launch.heartbeat import Heartbeat\nHeartbeat()\nimport time\ntime.sleep(600)"


@pytest.fixture
def port():
    return free_ports()


@pytest.fixture
def store():
    """Ask for the real parameter store, whose processes take seconds to load MXNet."""


@pytest.fixture(autouse=True)
def idle_store(request, monkeypatch):
    """The processes of the parameter store wait, as real ones do for workers that never join; they end when told to."""
    if "store" not in request.fixturenames:
        monkeypatch.setattr("vargfacenet.launch.member._SERVE", [sys.executable, "-c", IDLE])


def test_a_port_in_use_is_named(port):
    for used in range(port, port + 4):  # of coordinator, scheduler, worker and server
        taken = pytest.raises(ClusterError, match=rf"port {used} of this machine cannot be used .*--port")
        with contextlib.closing(listen(used)), taken:
            run_member(ENDS, rank=0, size=1, root="127.0.0.1", options=GroupOptions(port, timeout=600))


def test_a_root_that_does_not_answer_is_named_after_the_time(port):
    begin = time.monotonic()
    with pytest.raises(
        ClusterError, match=rf"cannot reach worker 0 at 127.0.0.1:{port} within 1 s \(Connection refused\)"
    ):
        run_member(ENDS, rank=1, size=2, root="127.0.0.1", options=GroupOptions(port, timeout=1))
    assert time.monotonic() - begin >= 1
    with pytest.raises(ClusterError, match="--root no.such.host.invalid: "):
        run_member(ENDS, rank=1, size=2, root="no.such.host.invalid", options=GroupOptions(port, timeout=1))


def test_something_else_at_the_root_is_told_from_a_hub(port):
    listener = listen(port)

    def greet():
        connection, _ = listener.accept()
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    threading.Thread(target=greet, daemon=True).start()
    with pytest.raises(ClusterError, match="the connection to worker 0 .* was lost, or something else answers there"):
        run_member(ENDS, rank=1, size=2, root="127.0.0.1", options=GroupOptions(port, timeout=600))
    listener.close()


def test_a_worker_that_never_comes_is_named(port):
    with pytest.raises(ClusterError, match="1 of 2 workers are there after 2 s; missing: 1"):
        run_member(ENDS, rank=0, size=2, root="127.0.0.1", options=GroupOptions(port, timeout=2))


def test_a_rank_given_twice_is_refused_and_strangers_do_no_harm(port):
    coordinator = Coordinator(port, 2, timeout=600, stall=600)
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 200_000)
    first, messages = connect("127.0.0.1", port, 600)
    with contextlib.closing(first):
        first.send({"rank": 1, "of": 2})
        assert messages.get(timeout=600) == {"alive": True}  # only members that have joined receive it
        with pytest.raises(ClusterError, match=r"worker 1 is here already, from 127\.0\.0\.1"):
            run_member(ENDS, rank=1, size=2, root="127.0.0.1", options=GroupOptions(port, timeout=600))
    coordinator.close()


def test_a_worker_that_shows_no_sign_of_life_is_ended(port):
    with pytest.raises(ClusterError, match="worker 0 has given no sign of life for"):
        run_member(SLEEPS, rank=0, size=1, root="127.0.0.1", options=GroupOptions(port, timeout=2))


def test_a_worker_that_fails_says_why_and_one_that_ends_well_lets_all_end(port, capfd):
    says = (
        "import sys; print('to be seen'); print('vargfacenet train: error: no such face', file=sys.stderr); sys.exit(2)"
    )
    with pytest.raises(ClusterError, match="^worker 0 stopped: no such face$"):
        run_member(
            [sys.executable, "-c", says], rank=0, size=1, root="127.0.0.1", options=GroupOptions(port, timeout=600)
        )
    out, err = capfd.readouterr()
    assert "[0] to be seen\n" in out
    assert "no such face" not in err  # the command says it, once
    run_member(ENDS, rank=0, size=1, root="127.0.0.1", options=GroupOptions(free_ports(), timeout=600))


@pytest.mark.parametrize("mistakes", [("no such face", "no such face"), ("no such face", "a full disk")])
def test_a_mistake_that_all_workers_make_is_said_once_and_another_is_not_lost(mistakes, port, capfd):
    reasons = {}

    def run(rank):
        says = f"import sys; print('vargfacenet train: error: {mistakes[rank]}', file=sys.stderr); sys.exit(2)"
        command = [sys.executable, "-c", says]
        try:
            run_member(command, rank=rank, size=2, root="127.0.0.1", options=GroupOptions(port, timeout=600))
        except ClusterError as error:
            reasons[rank] = str(error)

    members = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    [reason] = set(reasons.values())
    assert len(reasons) == 2
    err = capfd.readouterr().err
    for mistake in set(mistakes):
        assert reason.count(mistake) + err.count(mistake) == 1


def test_a_member_stops_when_the_process_that_started_it_is_gone(port):
    ours, its = socket.socketpair()
    threading.Timer(0.5, its.close).start()
    with pytest.raises(ClusterError, match="the process that started this member is gone"):
        run_member(
            SLEEPS,
            rank=0,
            size=1,
            root="127.0.0.1",
            options=GroupOptions(port, timeout=600),
            parent_input=ours.fileno(),
        )
    ours.close()


class _ShortOfJoining(Membership):
    """Two seconds for the parameter store to form, and the whole timeout for everything else."""

    def _check_progress(self, now):
        whole, self._timeout = self._timeout, 2
        super()._check_progress(now)
        self._timeout = whole


@pytest.mark.usefixtures("store")
def test_a_store_that_does_not_form_ends_a_worker_that_waits_inside_mxnet(port, monkeypatch):
    monkeypatch.setattr("vargfacenet.launch.coordinator.Membership", _ShortOfJoining)
    joins = [sys.executable, "-c", "from vargfacenet.train.cluster import join; join()"]
    with pytest.raises(
        ClusterError, match="the parameter store has not formed within 2 s though all workers are there"
    ):
        run_member(joins, rank=0, size=1, root="127.0.0.1", options=GroupOptions(port, servers=2, timeout=600))


def test_a_process_whose_member_is_gone_ends_though_it_is_blocked(tmp_path):
    """The member is killed outright; its worker, which sleeps, must not outlive it."""
    worker = f"""
import os, pathlib, time
from vargfacenet.launch.heartbeat import Heartbeat
Heartbeat()
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    member = f"""
import os, pathlib, sys, time
from vargfacenet.launch.process import Process
Process("worker", [sys.executable, "-c", {worker!r}])
pid = pathlib.Path({str(tmp_path / "pid")!r})
while not (pid.exists() and pid.read_text()):
    time.sleep(0.05)
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", member], timeout=600, check=False)
    stat = pathlib.Path("/proc", (tmp_path / "pid").read_text(), "stat")
    limit = time.monotonic() + 300
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < limit, "it runs on"
        time.sleep(0.1)


def test_a_first_signal_is_kept_and_a_second_stops_at_once():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        interrupts = Interrupts().listen()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.number == signal.SIGINT
        with pytest.raises(ClusterError, match="stopped at once by a second signal, SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_line_on_the_standard_input_of_a_member_asks_its_worker_to_stop(port, tmp_path):
    script = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(600)\n"
    )
    worker = [sys.executable, "-c", f"from vargfacenet.launch.heartbeat import Heartbeat\nHeartbeat()\n{script}"]
    ours, its = socket.socketpair()

    def ask():
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        its.sendall(b"stop\n")

    threading.Thread(target=ask).start()
    assert (
        run_member(
            worker,
            rank=0,
            size=1,
            root="127.0.0.1",
            options=GroupOptions(port, timeout=600),
            parent_input=ours.fileno(),
        )
        == 143
    )
    ours.close()
    its.close()
