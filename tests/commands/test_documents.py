"""The command lines in the documents parse, and use no deprecated spelling."""

import pathlib
import re
import shlex

import pytest

from vargfacenet.commands import parse

ROOT = pathlib.Path(__file__).parents[2]


def command_lines():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "models").glob("*.md"))]:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].endswith("vargfacenet") and "..." not in words:
                    yield pytest.param(words[1:], id=f"{path.name}: {' '.join(words[1:4])}")


LINES = list(command_lines())


def test_the_documents_have_command_lines():
    assert len(LINES) >= 20


@pytest.mark.parametrize("arguments", LINES)
def test_a_command_line_parses_without_deprecated_options(arguments, caplog):
    assert callable(parse(arguments).run)
    assert not caplog.records
