"""``vargfacenet launch``: what it refuses, what it would run, and running it over a stand-in for ssh."""

import shlex

import pytest

from tests.helpers.ports import free_ports
from vargfacenet.commands import main

TRAIN = ["--", "train", "demo_teacher"]


def refused(capsys, *arguments):
    assert main(["launch", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--local", "2"], "expected what the workers run, such as"),
        (["--local", "2", "--", "verify", "x"], "expected what the workers run, such as"),
        (["--local", "0", *TRAIN], "--local=0: expected between 1 and 1024"),
        (["--rank", "1", "--root", "a", *TRAIN], "--rank needs --of N"),
        (["--rank", "1", "--of", "2", *TRAIN], "--rank needs --of N, the number of workers, and --root HOST"),
        (["--rank", "2", "--of", "2", "--root", "a", *TRAIN], "--rank=2: expected between 0 and 1"),
        (["--local", "2", "--of", "2", *TRAIN], "--of goes with --rank"),
        (["--local", "2", "--port", "80", *TRAIN], "--port=80: expected between 1024 and 65529"),
        (["--local", "2", "--timeout", "0", *TRAIN], "--timeout=0.0: expected between 1 and 86400 seconds"),
        (["--local", "2", "--stall", "0", *TRAIN], "--stall=0.0: expected between 1 and 86400 seconds"),
        (["--local", "2", "--servers", "3", *TRAIN], "--servers=3: expected between 1 and 2"),
        (["--hosts", "no/such/file", *TRAIN], "cannot read no/such/file"),
    ],
)
def test_options_that_cannot_be_are_refused(capsys, arguments, message):
    assert message in refused(capsys, *arguments)


def test_a_file_of_hosts_is_read_and_checked(capsys, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("# none yet\n\n")
    assert "names no host: expected one a line" in refused(capsys, "--hosts", str(hosts), *TRAIN)
    hosts.write_text("node1\nnode2 slots=4\n")
    assert "line 2: 'node2 slots=4': expected one host" in refused(capsys, "--hosts", str(hosts), *TRAIN)
    hosts.write_text("-oProxyCommand=x\n")
    assert "line 1: '-oProxyCommand=x': expected one host" in refused(capsys, "--hosts", str(hosts), *TRAIN)


def test_a_dry_run_prints_a_command_for_each_machine(capsys, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("me@node1  # the first\nnode2\n")
    where = ["--python", "/env/bin/python", "--directory", "/a b", "--port", "7000"]
    assert main(["launch", "--hosts", str(hosts), *where, "--dry-run", *TRAIN, "--out", "it's"]) == 0
    first, second = map(shlex.split, capsys.readouterr().out.splitlines())
    assert first[:4] == ["ssh", "-o", "BatchMode=yes", "me@node1"]
    assert second[:4] == ["ssh", "-o", "BatchMode=yes", "node2"]
    there = shlex.split(second[4])
    assert there[:6] == ["cd", "/a b", "&&", "exec", "/env/bin/python", "-m"]
    assert there[6:14] == ["vargfacenet", "launch", "--rank", "1", "--of", "2", "--root", "node1"]
    assert there[-5:] == ["--", "train", "demo_teacher", "--out", "it's"]
    assert there[there.index("--port") + 1] == "7000"


@pytest.fixture
def over_ssh(tmp_path):
    """The options of a launch on two hosts, by a stand-in for ssh that runs what it is told here."""
    (tmp_path / "hosts").write_text("127.0.0.1\nother\n")
    ssh = tmp_path / "ssh.sh"
    ssh.write_text('test "$1" = 127.0.0.1 || test "$1" = other || exit 255\nexec sh -c "$2"\n')
    ports = ["--port", str(free_ports()), "--timeout", "600", "--servers", "1"]
    return ["--hosts", str(tmp_path / "hosts"), "--ssh", f"sh {shlex.quote(str(ssh))}", *ports]


def test_workers_run_over_ssh_and_their_lines_say_whose_they_are(capfd, over_ssh):
    assert main(["launch", *over_ssh, "--", "train", "--list"]) == 0
    printed = capfd.readouterr().out
    assert "[0] demo_teacher " in printed
    assert "[1] demo_teacher " in printed


def test_an_error_of_a_worker_is_said_once_and_is_the_commands(capfd, over_ssh):
    assert main(["launch", *over_ssh, "--", "train", "no_such_recipe"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert sum("no_such_recipe" in line for line in lines) == 1
    assert "vargfacenet launch: error: worker" in lines[-1]
    assert "stopped: unknown recipe 'no_such_recipe'" in lines[-1]


def test_a_machine_that_ssh_does_not_reach_is_said(capfd, over_ssh, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.1\nnowhere\n")
    assert main(["launch", *over_ssh, *TRAIN]) == 2
    assert "the member of worker 1 ended with status 255" in capfd.readouterr().err
    assert main(["launch", "--hosts", str(tmp_path / "hosts"), "--ssh", "no-such-ssh", *TRAIN]) == 2
    assert "no-such-ssh cannot be run: No such file" in capfd.readouterr().err
