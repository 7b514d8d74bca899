"""Run the command line inside a test."""

from vargfacenet.commands import main


def refused(capsys, *arguments):
    """Run a command that must fail, and return its only line on standard error."""
    assert main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"vargfacenet {arguments[0]}: error: ")
    assert "Traceback" not in err
    return lines[0]
