"""Text tables: accepted formats, and errors that name the line."""

import pytest

from vargfacenet.errors import DataError
from vargfacenet.eval import text_tables
from vargfacenet.eval.text_tables import read_blank_separated, read_csv

COLUMNS = [("NAME", str), ("TEMPLATE", int), ("X", float)]
SUBJECTS = [("TEMPLATE_ID", int), ("SUBJECT_ID", int)]


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "table.txt"
        path.write_bytes(content)
        return path

    return write


def values(table):
    return [column.tolist() for column in table.columns]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        b"a.jpg 1 0.5\nb.jpg -2 1e3\n",
        b"a.jpg 1 0.5\nb.jpg -2 1000",
        b"\xef\xbb\xbfa.jpg\t1  0.5 \r\n\r\n   \nb.jpg -2 +1000.\r\n",
        b"a.jpg 1.0 .5\rb.jpg -2 1000\r",
    ],
)
def test_both_ways_of_reading_agree(file, content, fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(text_tables, "_by_pandas", _refuses)
    table = read_blank_separated(file(content), COLUMNS)
    assert values(table) == [["a.jpg", "b.jpg"], [1, -2], [0.5, 1000]]
    assert table.where(1) == f"{table.path}: line {4 if b'   ' in content else 2}"


def _refuses(*_):
    raise ValueError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: expected lines of NAME TEMPLATE X"),
        (b"\n \n", "is empty"),
        (b"a 1 2\n\nb 1\n", r"line 3 has 2 value\(s\), expected 3: NAME TEMPLATE X"),
        (b"a 1 2\nb 1 2 3\n", r"line 2 has 4 value\(s\), expected 3"),
        (b"a 1 2 3\nb 1 2 3\n", r"line 1 has 4 value\(s\), expected 3"),
        (b"a 1 2\nb one 2\n", "line 2: TEMPLATE is 'one', expected a whole number"),
        (b"a 1 2\nb 1.5 2\n", "line 2: TEMPLATE is '1.5', expected a whole number"),
        (b"a 1 2\nb 99999999999999999999 2\n", "line 2: TEMPLATE is '9*', expected a whole number"),
        (b"a 1 2\nb 1 nan\n", "line 2: X is 'nan', expected a finite number"),
        (b"a 1 2\nb 1 -inf\n", "line 2: X is '-inf', expected a finite number"),
        (b"a 1 2\nb 1 x\n", "line 2: X is 'x', expected a finite number"),
        (b"a 1 2\n\xff\xfe 1 2\n", "line 2 is not UTF-8 from byte 1 on"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(file, content, message):
    with pytest.raises(DataError, match=r"table\.txt.*" + message):
        read_blank_separated(file(content), COLUMNS)


def test_a_bad_line_far_down_is_named(file, monkeypatch):
    monkeypatch.setattr(text_tables, "_ROWS", 100)
    content = b"a 1 2\n" * 1234 + b"a 1\n" + b"a 1 2\n" * 1000
    with pytest.raises(DataError, match="line 1235 has 2"):
        read_blank_separated(file(content), COLUMNS)


@pytest.mark.parametrize(
    "content",
    [
        b"TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,2,a\n3,4,b\n",
        b"FILENAME,subject_id,template_id\na,2,1\nb,4,3\n",
        b'"TEMPLATE_ID","SUBJECT_ID","FILENAME"\r\n"1","2","a, or not"\r\n3,4,\r\n',
        b"template,person,file\n 1,2 ,a\n\n3,4,b\n",
    ],
)
def test_columns_of_a_csv_are_found_by_name_or_else_the_first_ones_are_taken(file, content):
    assert values(read_csv(file(content), SUBJECTS)) == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: expected lines of TEMPLATE_ID SUBJECT_ID"),
        (b"TEMPLATE_ID,SUBJECT_ID\n", "is empty"),
        (b"1,2,a\n3,4,b\n", "line 1 is not a header"),
        (b"TEMPLATE_ID\n1\n", r"line 1 names 1 column\(s\), expected TEMPLATE_ID, SUBJECT_ID among them"),
        (b"TEMPLATE_ID,PERSON\n1,2\n", "line 1 has no column SUBJECT_ID; it names TEMPLATE_ID, PERSON"),
        (b"TEMPLATE_ID,SUBJECT_ID,F\n1,2,a\n3,4\n", r"line 3 has 2 value\(s\), expected 3, like the header"),
        (b"TEMPLATE_ID,SUBJECT_ID,F\n1,2,a\n3,4,b,c\n", r"line 3 has 4 value\(s\), expected 3"),
        (b"TEMPLATE_ID,SUBJECT_ID,F\n1,2,a\n3,,b\n", "line 3: SUBJECT_ID is '', expected a whole number"),
        (b"\xff\n1,2\n", "line 1 is not UTF-8"),
        (b"\n\nTEMPLATE_ID,PERSON\n1,2\n", "line 3 has no column SUBJECT_ID"),
        (b"TEMPLATE_ID,SUBJECT_ID,F\n1,2\n3,4," + b"x" * 200_000, "has a line of more than 4096 bytes at byte 4096"),
        (b"TEMPLATE_ID,SUBJECT_ID,F\n1,2,a\n3,x," + b"y" * 4000, "line 3: SUBJECT_ID is 'x', expected a whole number"),
    ],
)
def test_a_bad_line_of_a_csv_is_named(file, content, message):
    with pytest.raises(DataError, match=r"table\.txt.*" + message):
        read_csv(file(content), SUBJECTS)


def test_a_missing_file_is_named(tmp_path):
    for read, columns in ((read_blank_separated, COLUMNS), (read_csv, SUBJECTS)):
        with pytest.raises(DataError, match=r"cannot read .*nowhere\.txt: No such file"):
            read(tmp_path / "nowhere.txt", columns)
