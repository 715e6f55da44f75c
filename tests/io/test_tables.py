"""CSV tables and XML annotations."""

import csv
from pathlib import Path

import pytest

from opsin.errors import AnnotationError
from opsin.io.tables import read_table, read_xml, write_table


def put(folder: Path, data: bytes) -> Path:
    path = folder / "labels"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"file,label\na.jpg,1\nb c.jpg,2\n",
        b"\xef\xbb\xbffile,label\r\na.jpg,1\r\n\r\nb c.jpg,2",
        b"file;label\na.jpg;1\nb c.jpg;2\n",
        b"file\tlabel\na.jpg\t 1\nb c.jpg\t2\n\n",
        b'"file","label"\n"a.jpg","1"\n"b c.jpg","2"\n',
    ],
    ids=["commas", "bom and crlf", "semicolons", "tabs", "quotes"],
)
def test_tables_are_read_by_their_header(data: bytes, tmp_path: Path) -> None:
    expected = [{"file": "a.jpg", "label": "1"}, {"file": "b c.jpg", "label": "2"}]
    assert read_table(put(tmp_path, data)) == expected


def test_a_table_of_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert read_table(put(tmp_path, b"file\na\n")) == [{"file": "a"}]


BAD_TABLES = {
    "empty": b"",
    "header alone": b"file,label\n",
    "blank lines": b"\n\n\n",
    "column without a name": b"file,,label\na,b,c\n",
    "column named twice": b"file,file\na,b\n",
    "row too short": b"file,label\na,1\nb\n",
    "row too long": b"file,label\na,1,2\n",
    "latin-1": b"file,label\n\xe9,1\n",
    "utf-16": "file,label\na,1\n".encode("utf-16"),
    "nul": b"file,la\0bel\na,1\n",
    "unclosed quote": b'file,label\n"a,1\n',
    "text after a quote": b'file,label\n"a"b,1\n',
    "field of a megabyte": b"file,label\n" + b"a" * 2**20 + b",1\n",
    "100,000 columns": b"a," * 100_000 + b"b\n1,2\n",
    "an image": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_malformed_tables_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError):
        read_table(put(tmp_path, BAD_TABLES[name]))


def test_a_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="line 4"):
        read_table(put(tmp_path, b"file,label\na,1\n\nb\n"))


def test_rows_are_limited(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError):
        read_table(put(tmp_path, b"a\n1\n2\n"), max_rows=1)


def test_xml_gives_its_tree(tmp_path: Path) -> None:
    data = b'<?xml version="1.0"?><annotation><object><name>dog &amp; cat</name></object></annotation>'
    root = read_xml(put(tmp_path, data))
    assert root.tag == "annotation"
    assert root.findtext("object/name") == "dog & cat"


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10) for i in range(1, 10))
BAD_XML = {
    "empty": b"",
    "no xml": b"text",
    "unclosed": b"<a><b></a>",
    "two roots": b"<a/><b/>",
    "billion laughs": b'<!DOCTYPE x [<!ENTITY l0 "lol">' + LAUGHS + b"]><x>&l9;</x>",
    "quadratic blow-up": b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 50_000 + b'">]><x>' + b"&a;" * 5000 + b"</x>",
    "outside file": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>',
    "outside address": b'<!DOCTYPE x [<!ENTITY f SYSTEM "http://127.0.0.1:9/">]><x>&f;</x>',
    "parameter entity": b'<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]><x/>',
    "outside document type": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>',
    "inner document type": b"<!DOCTYPE x [<!ELEMENT x ANY>]><x/>",
    "undefined entity": b"<x>&nothing;</x>",
    "deeper than the limit": b"<a>" * 65 + b"</a>" * 65,
    "200,000 levels": b"<a>" * 200_000,
    "attribute twice": b'<a b="1" b="2"/>',
    "control character": b"<a>\x01</a>",
    "wrong encoding": b'<?xml version="1.0" encoding="utf-8"?><a>\xe9</a>',
    "unknown encoding": b'<?xml version="1.0" encoding="nonsense"?><a/>',
}


@pytest.mark.parametrize("name", BAD_XML)
def test_malformed_xml_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError):
        read_xml(put(tmp_path, BAD_XML[name]))


def test_xml_limits_can_be_set(tmp_path: Path) -> None:
    path = put(tmp_path, b"<a><b><c/></b></a>")
    assert read_xml(path, max_depth=3).tag == "a"
    with pytest.raises(AnnotationError, match="deeper"):
        read_xml(path, max_depth=2)
    with pytest.raises(AnnotationError, match="too large"):
        read_xml(path, max_bytes=5)


@pytest.mark.parametrize(("encoding", "named"), [("latin-1", "0xe9"), ("utf-16", "UTF-16")])
def test_a_table_in_another_encoding_is_refused_with_how_to_save_it(encoding: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes("path,label\na.png,café\n".encode(encoding))
    with pytest.raises(AnnotationError, match=named) as caught:
        read_table(file)
    assert "UTF-8" in str(caught.value.do)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1"])
def test_a_text_that_a_spreadsheet_takes_for_a_formula_is_written_as_text(tmp_path, text):
    write_table(tmp_path / "t.csv", ["name", "number"], [[text, -1.5]])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as opened:
        assert list(csv.reader(opened)) == [["name", "number"], ["'" + text, "-1.5"]]
