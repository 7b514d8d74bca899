"""The documents: command lines parse without deprecated spellings; tests and files that are named exist."""

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


DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "bench|data|deploy|eval|launch|operators|requirements|symbols|tests|train|vargfacenet"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_tests_and_files_that_a_document_names_exist(document):
    text = document.read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    defined = set(re.findall(r"def (test_\w+)", sources)) | {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"`(?:[\w/.]*::)?(test_\w+)`", text)) <= defined
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+\.(?:py|h|cc|txt|in))(?:::\w+)?`", text)
    assert [path for path in named if not (ROOT / path).is_file()] == []
