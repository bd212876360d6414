"""One file of any format becomes one table; what was understood is said, what is wrong is named."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recurate.core.errors import InputError, short
from recurate.log.reading import stored
from recurate.log.reading.delimited import dialect_of
from recurate.log.reading.objects import Lines, columns_of, rows_of
from recurate.log.reading.sources import open_source

CASES = Path(__file__).parent / "cases"
ROWS = [{"slate": 0, "reward": 0.5, "text": "né"}, {"slate": 1, "reward": 1.5, "text": 'a "b", c'}]
CSV = 'slate,reward,text\n0,0.5,né\n1,1.5,"a ""b"", c"\n'
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read(folder, name, data, **options):
    """Return the rows and notes of a file, and check that its head and single columns are the same."""
    source = open_source(write(folder, name, data), **options)
    head, table = source.head(), source.read()
    assert head.equals(table)
    for column in table.column_names:
        assert source.read([column]).equals(table.select([column]))
    assert set(source.schema.names) == set(table.column_names)
    return table.to_pylist(), source.notes


def refused(folder, name, data):
    path = write(folder, name, data)
    with pytest.raises(InputError) as caught:
        open_source(path).read()
    assert "truncated" not in str(caught.value)
    assert caught.value.remedy
    assert all(len(line) < 300 for line in str(caught.value).splitlines())
    return str(caught.value)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def zipped(*names, data=b"a,b\n1,2\n"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, data)
    return file.getvalue()


def written(write_table):
    sink = pa.BufferOutputStream()
    write_table(TABLE, sink)
    return sink.getvalue().to_pybytes()


def stream_of(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


PARQUET = written(pq.write_table)
FILES = {
    "a.csv": CSV, "a.txt": CSV, "a.dat": CSV, "A.CSV": CSV, "a": CSV,
    "a.tsv": 'slate\treward\ttext\n0\t0.5\tné\n1\t1.5\t"a ""b"", c"\n',
    "a.tab": 'slate\treward\ttext\n0\t0.5\tné\n1\t1.5\t"a ""b"", c"\n',
    "tabs.csv": 'slate\treward\ttext\n0\t0.5\tné\n1\t1.5\t"a ""b"", c"\n',
    "pipe.txt": 'slate|reward|text\n0|0.5|né\n1|1.5|"a ""b"", c"\n',
    "semi.csv": 'slate;reward;text\n0;0,5;né\n1;1,5;"a ""b"", c"\n',
    "excel.csv": 'sep=;\nslate;reward;text\n0;0,5;né\n1;1,5;"a ""b"", c"\n',
    "ends.csv": 'slate,reward,text\n0,0.5,né,\n1,1.5,"a ""b"", c",\n',
    "a.jsonl": LINES, "a.ndjson": LINES, "lines.json": LINES, "lines.csv": LINES, "lines.dat": LINES,
    "gaps.jsonl": "\n" + LINES.replace("\n", "\r\n\n"), "one_line.jsonl": LINES.replace("\n", " "),
    "a.json": json.dumps(ROWS), "array.jsonl": json.dumps(ROWS), "array.txt": json.dumps(ROWS),
    "pretty.json": json.dumps(ROWS, indent=2),
    "pretty.jsonl": "\n".join(json.dumps(r, indent=1) for r in ROWS),
    "wrap.json": json.dumps({"model": {"name": "m"}, "data": ROWS}),
    "deep.json": json.dumps({"result": {"rows": ROWS, "n": [1]}, "few": [{"a": 1}]}, indent=1),
    "columns.json": json.dumps(TABLE.to_pydict()),
    "keyed.json": json.dumps({"0": ROWS[0], "1": ROWS[1]}),
    "pandas.json": json.dumps({k: {"0": v[0], "1": v[1]} for k, v in TABLE.to_pydict().items()}),
    "a.parquet": PARQUET, "parquet.dat": PARQUET, "parquet.csv": PARQUET,
    "a.parquet.gz": gzip.compress(PARQUET),
    "a.feather": written(lambda t, s: feather.write_feather(t, s)),
    "a.arrow": written(lambda t, s: feather.write_feather(t, s, compression="uncompressed")),
    "a.ipc": stream_of(TABLE),
    "a.csv.gz": gzip.compress(CSV.encode()), "gzip.csv": gzip.compress(CSV.encode()),
    "a.csv.zst": zstd(CSV.encode()), "a.jsonl.zst": zstd(LINES.encode()),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.csv.zip": zipped("inside.csv", data=CSV.encode()),
    "a.zip": zipped("__MACOSX/x", "inside.jsonl", data=LINES.encode()),
    "mark.csv": b"\xef\xbb\xbf" + CSV.encode(), "mark.jsonl": b"\xef\xbb\xbf" + LINES.encode(),
    "16.csv": CSV.encode("utf-16"), "16le.csv": CSV.encode("utf-16-le"), "16be.txt": CSV.encode("utf-16-be"),
    "16.jsonl": LINES.encode("utf-16"), "16.json": json.dumps(ROWS).encode("utf-16"),
    "32.csv": CSV.encode("utf-32"),
    "latin.csv": CSV.encode("latin-1"), "latin.jsonl": LINES.encode("latin-1"),
    "latin.json": json.dumps(ROWS, ensure_ascii=False).encode("cp1252"),
    "latin.csv.gz": gzip.compress(CSV.encode("latin-1")),
    "crlf.csv": CSV.replace("\n", "\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_rows(tmp_path, name):
    assert read(tmp_path, name, FILES[name])[0] == ROWS


SAID = {
    "semi.csv": ("values are separated by ';'", "values have decimal commas"),
    "tabs.csv": ("values are separated by tabs",), "latin.csv": ("text is Latin-1 (Windows-1252)",),
    "16le.csv": ("text is UTF-16",), "wrap.json": ("the rows are under 'data'",),
    "deep.json": ("the rows are under 'result.rows'",), "columns.json": ("one object holds the columns",),
    "keyed.json": ("one object holds the rows by their keys",),
    "a.zip": ("the zip's file is inside.jsonl",), "a.csv": (), "a.parquet": (),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_was_understood_is_said(tmp_path, name):
    assert read(tmp_path, name, FILES[name])[1] == SAID[name]


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl is not installed")
def test_excel(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "notes"
    sheet = book.create_sheet("data")
    sheet.append([])
    for row in [["slate", None, "reward"], [0, "x", 0.5], [1, None, None]]:
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    source = open_source(tmp_path / "a.xlsx")
    assert source.read().to_pylist() == [
        {"slate": 0, "unnamed": "x", "reward": 0.5},
        {"slate": 1, "unnamed": None, "reward": None},
    ]
    assert source.notes == ("sheet 'data' is read, 1 other(s) not",)


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl is not installed")
def test_excel_has_the_columns_of_text_that_csv_has(tmp_path):
    import openpyxl

    rows = [["context", "chooser", "reward", "kind"], [1, 2, 0.5, 1], [2, 3, 1.5, 2]]
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    csv_text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    same = open_source(write(tmp_path, "a.csv", csv_text), text=["kind"]).read()
    assert open_source(tmp_path / "a.xlsx", text=["kind"]).read().equals(same)
    assert same.column("context").to_pylist() == ["1", "2"]


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is not None, reason="openpyxl is installed")
def test_excel_names_its_extra(tmp_path):
    assert "pip install 'recurate[xlsx]'" in refused(
        tmp_path, "a.xlsx", zipped("xl/workbook.xml", "[Content_Types].xml")
    )


def test_preflib(tmp_path):
    text = (
        "# FILE NAME: 1.toi\n# NUMBER ALTERNATIVES: 3\n# ALTERNATIVE NAME 1: Ann\n"
        "# ALTERNATIVE NAME 2: Bo, the old\n# ALTERNATIVE NAME 3: Cy\n12: 1,{2,3}\n3: 3\n1: {1,2},3\n"
    )
    rows = [
        {"ranking": "Ann > Bo, the old ~ Cy", "count": 12},
        {"ranking": "Cy", "count": 3},
        {"ranking": "Ann ~ Bo, the old > Cy", "count": 1},
    ]
    for name in ("1.toi", "1.txt"):
        assert read(tmp_path, name, text)[0] == rows
    old = "3\n1,Ann\n2,Bo\n3,Cy\n15,15,2\n12,1,2,3\n3,3,1,2\n"
    assert read(tmp_path, "1.soc", old)[0][0] == {"ranking": "Ann > Bo > Cy", "count": 12}
    numbered, notes = read(tmp_path, "1.soi", text.replace("Cy", "Ann"))
    assert numbered[0]["ranking"] == "1 > 2 ~ 3"
    assert "numbers" in notes[1]
    assert "line 6" in refused(tmp_path, "1.toc", text.replace("12: ", "twelve "))


# --- the cases of shared/cases/reading ------------------------------------------------------------


def test_line_breaks_in_cells_beyond_a_block(tmp_path):
    """Case 01; the answers are several MB long, and each line has a comma."""
    answer = "first line\nsecond line, with a comma\n" * 20_000
    rows = [[i // 2, i % 2, i / 2, answer] for i in range(6)]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["slate", "picked", "reward", "text"], *rows])
    source = open_source(path)
    assert [list(row.values()) for row in source.read().to_pylist()] == rows
    assert source.read(["reward"]).column(0).to_pylist() == [0, 0.5, 1, 1.5, 2, 2.5]


@pytest.mark.parametrize("late", ['"two\nlines"', '"\n"', '"a\n1,b\n2,c"'])
@pytest.mark.parametrize("size", [1, 1 << 22])
def test_line_breaks_that_come_late(tmp_path, late, size):
    """Beyond the beginning, by which Arrow is told whether there are some, and at the border of a block."""
    line = "5,some words here and there\n"
    rows = ["n,text\n", *[line] * (max(1 << 19, size) // len(line))] + [f"6,{late}\n"] * 3 + [line] * 9
    table = open_source(write(tmp_path, "a.csv", "".join(rows))).read()
    assert table.num_rows == len(rows) - 1
    assert table.column("text").to_pylist()[-12:] == [late.strip('"')] * 3 + ["some words here and there"] * 9


def test_ids_that_are_numbers_are_text():
    """Case 02."""
    table = open_source(CASES / "numbered.jsonl").read()
    assert table.schema.field("context").type == pa.string()
    assert table.column("chooser").to_pylist()[:3] == ["0", "0", "0"]


def test_a_word_among_numbers():
    """Case 04: two of 80 values are 'n/a'."""
    source = open_source(CASES / "stray.jsonl")
    judge = source.read().column("judge")
    assert judge.type == pa.int64()
    assert judge.null_count == 2
    assert source.notes == ("column 'judge': 2 values are 'n/a' or the like, taken as empty",)


def test_semicolons_and_decimal_commas():
    """Case 05."""
    table = open_source(CASES / "semicolons.csv").read()
    assert table.schema.types == [pa.int64(), pa.int64(), pa.float64(), pa.int64()]
    assert table.column("price").to_pylist()[:2] == [4.5, 2.5]


DOUBT = "column 'x' is kept as text: {} may have a decimal or a thousands mark"
COMMA, AMONG = "values have decimal commas", "column 'x': {} is a thousands mark, as in {}"


@pytest.mark.parametrize(
    ("cells", "other", "values", "notes"),
    [
        (["1.234", "999,5"], "1", [1234.0, 999.5], [AMONG.format("'.'", "1.234"), COMMA]),
        (["1.380"], "0,5", [1380], [AMONG.format("'.'", "1.380"), COMMA]),
        (["1,234", "2.5"], "1", [1234.0, 2.5], [AMONG.format("','", "1,234")]),
        (["1.234,5", "+2,5", "1,5e3"], "1", [1234.5, 2.5, 1500.0], [AMONG.format("'.'", "1.234,5"), COMMA]),
        (["1.234.567", "8"], "0,5", [1234567, 8], [AMONG.format("'.'", "1.234.567"), COMMA]),
        (["1,234", "2,500"], "1", ["1,234", "2,500"], [DOUBT.format("1,234")]),
        (["1,234", "2,500"], "0,5", [1.234, 2.5], [COMMA]),
        (["1,234", "2,500"], "0.5", [1234, 2500], [AMONG.format("','", "1,234")]),
        (["0,125", "1,234"], "1", [0.125, 1.234], [COMMA]),
        (["1.380", "2.5", "2,5"], "1", ["1.380", "2.5", "2,5"], [DOUBT.format("1.380")]),
        (["2.5", "2,5"], "1", [2.5, 2.5], [COMMA]),
        (["1.380", "2.500"], "0.5", [1.38, 2.5], []),
        (["1.380", "NA", "2.500"], "1", [1.38, None, 2.5], ["column 'x': 1 value is 'NA', taken as empty"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [";", "\t"])
def test_thousands_are_never_taken_for_decimals(tmp_path, mark, cells, other, values, notes):
    """The factor of a thousand is decided by the other values, or the column stays text."""
    text = f"x{mark}y\n" + "".join(f"{cell}{mark}{other}\n" for cell in cells)
    rows, said = read(tmp_path, "a.csv", text)
    assert [row["x"] for row in rows] == values
    assert {type(row["y"]) for row in rows} <= {int, float}
    assert set("; ".join(said[1:]).split("; ")) - {""} == set(notes) | ({COMMA} if "," in other else set())


def test_three_decimals_of_a_comma_file_stay_decimals(tmp_path):
    assert [row["x"] for row in read(tmp_path, "a.csv", "x,y\n1.380,1\n2.500,2\n")[0]] == [1.38, 2.5]
    rows = read(tmp_path, "b.csv", 'x,y\n1.380,"2,5"\n2.500,"3,5"\n')[0]
    assert rows[0] == {"x": 1.38, "y": "2,5"}


def test_rows_shorter_than_the_header():
    """Case 08."""
    source = open_source(CASES / "short_rows.csv")
    assert source.read().num_rows == 60
    assert source.head(5).num_rows == 5
    assert source.notes == ("60 rows are shorter than the header: the missing cells are empty",)


# --- values ---------------------------------------------------------------------------------------


def test_strays_are_named_and_empty(tmp_path):
    for name, rows in {
        "a.jsonl": [json.dumps({"judge": 6.5 if i != 14 else "many", "x": i}) for i in range(200)],
        "a.csv": ["judge,x", *[f"{6.5 if i != 14 else 'many'},{i}" for i in range(200)]],
    }.items():
        found, notes = read(tmp_path, name, "\n".join(rows) + "\n")
        assert found[14] == {"judge": None, "x": 14}
        assert found[15] == {"judge": 6.5, "x": 15}
        assert notes == ("column 'judge': 1 value is not a number (row 15: 'many')",)


def test_yes_among_zeros_and_ones_is_one(tmp_path):
    values = [0, 1, 1, 0, None, True, False, 1]
    plain = "\n".join(json.dumps({"picked": v, "n": i}) for i, v in enumerate(values))
    cells = "picked,n\n" + "".join(f"{'' if v is None else v},{i}\n" for i, v in enumerate(values))
    for name, data in {"a.jsonl": plain, "b.jsonl": plain.replace("true", '"True"'), "a.csv": cells}.items():
        assert [row["picked"] for row in read(tmp_path, name, data)[0]] == values
    wider = plain.replace("0", "2", 1)
    assert {row["picked"] for row in read(tmp_path, "c.jsonl", wider)[0]} >= {"2", "true", "1"}


def test_a_value_of_another_type_is_empty_only_among_a_hundred(tmp_path):
    for count in (9, 98, 99):
        values = [*range(1, count + 1), "A"]
        rows = [{"item": v, "n": 1} for v in values]
        for name, data in {
            "a.csv": "item,n\n" + "".join(f"{v},1\n" for v in values),
            "a.jsonl": "\n".join(map(json.dumps, rows)), "a.json": json.dumps(rows),
        }.items():  # fmt: skip
            found = [row["item"] for row in read(tmp_path, name, data)[0]]
            assert found == ([*values[:-1], None] if count == 99 else list(map(str, values)))


def test_a_mixture_is_text(tmp_path):
    values = [1, "a", 2.5, True, [1], None, "b"]
    words = ["1", "a", "2.5", "true", "[1]", None, "b"]
    rows = [{"x": v, "n": 1} for v in values]
    for name, data in {"a.json": json.dumps(rows), "a.jsonl": "\n".join(map(json.dumps, rows))}.items():
        assert [row["x"] for row in read(tmp_path, name, data)[0]] == words


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("count", [2, 100_000])
def test_a_repeated_header_is_no_row(tmp_path, end, count):
    """As where CSV files were put one after the other."""
    text = end.join(["n,text", *["1,y"] * count, "n,text", *["2,z"] * count, ""])
    source = open_source(write(tmp_path, "a.csv", text))
    assert source.read(["n"]).column(0).to_pylist() == [1] * count + [2] * count
    assert source.read().num_rows == 2 * count
    assert source.notes == ("1 row repeats the header and is left out",)
    own, notes = read(tmp_path, "b.csv", "n,text\na,text\nn,b\n")
    assert (len(own), notes) == (2, ())


def test_quotes_within_cells_are_not_open(tmp_path):
    assert read(tmp_path, "a.csv", 'n,text\n1,5" pipe\n2,"a\nb"\n')[0][0] == {"n": 1, "text": '5" pipe'}


def test_late_changes_of_type(tmp_path):
    """Beyond the head that the types are guessed from: a fraction, a word, a key, a date."""
    first = ['{"n": 1, "w": null, "l": [1], "id": 1}'] * 20_010
    last = ['{"n": 1.5, "w": "2020-01-01", "l": [0.5], "late": {"a": 1}, "id": 18446744073709551615}', "null"]
    source = open_source(write(tmp_path, "a.jsonl", "\n".join([*first, *last[:1], "", ""])))
    table = source.read()
    assert table.slice(20_010).to_pylist() == [
        {"n": 1.5, "w": "2020-01-01", "l": [0.5], "id": "18446744073709551615", "late": {"a": 1}}
    ]
    assert source.read(["n"]).column(0).to_pylist()[-2:] == [1.0, 1.5]
    assert source.read(["w"]).column(0).to_pylist()[-2:] == [None, "2020-01-01"]
    assert "line 20012 is not an object" in refused(tmp_path, "b.jsonl", "\n".join([*first, *last]))


IDS = [str(2**63), str(2**64 - 1), "340282366920938463463374607431768211456"]


@pytest.mark.parametrize(
    "ids", [IDS, ["123e4567-e89b-12d3-a456-426614174000", "00ff", "é"]], ids=["long", "uuid"]
)
def test_ids_of_any_kind(tmp_path, ids):
    rows = [{"id": value, "x": i} for i, value in enumerate(ids)]
    assert read(tmp_path, "a.csv", "id,x\n" + "".join(f"{r['id']},{r['x']}\n" for r in rows))[0] == rows
    shown = [f'{{"id": {v if v.isdigit() else json.dumps(v)}, "x": {i}}}' for i, v in enumerate(ids)]
    assert read(tmp_path, "a.jsonl", "\n".join(shown))[0] == rows
    assert read(tmp_path, "a.json", f"[{', '.join(shown)}]")[0] == rows


LONG = [
    ("a.csv", "id,n\n18446744073709551615,1\n18446744073709551614,1\nNA,1\n"),
    ("b.csv", "id,n\n9007199254740993,1\n9007199254740992,1\n1.5,1\n"),
    ("c.csv", "id,n\n9007199254740993,1\n9007199254740992,1\n1.5,1\nNA,1\n"),
    ("d.csv", "id;n\n9007199254740993;1,5\n9007199254740992;1,5\n1,5;2,5\n"),
    ("a.jsonl", '{"id": 9007199254740993}\n{"id": "9007199254740992"}\n{"id": 5}\n'),
    ("b.jsonl", '{"id": 9007199254740993}\n{"id": 1.5}\n{"id": 9007199254740992}\n'),
    ("c.jsonl", '{"id": [9007199254740993, 9007199254740992]}\n{"id": [1.5]}\n'),
    ("d.jsonl", '{"id": [[{"a": 9007199254740993}], [{"a": 9007199254740992}]]}\n{"id": [[{"a": 1.5}]]}\n'),
    ("e.jsonl", '{"id": {"a": 9007199254740993}}\n{"id": {"a": 0.5}}\n{"id": {"a": 9007199254740992}}\n'),
]


@pytest.mark.parametrize(("name", "data"), LONG, ids=[name for name, _ in LONG])
def test_long_ids_are_never_rounded(tmp_path, name, data):
    rows, _ = read(tmp_path, name, data)
    told = json.dumps([row["id"] for row in rows])
    for digits in ("9007199254740993", "9007199254740992") if "9007" in data else IDS[1:2]:
        assert digits in told
    assert all(isinstance(row["id"], str) for row in rows), "text, whose digits all remain"
    if name.endswith(".jsonl"):
        lines = data.splitlines()
        told = json.dumps([row["id"] for row in read(tmp_path, "a.json", f"[{', '.join(lines)}]")[0]])
        assert "9007199254740993" in told


def test_leading_zeros_are_kept(tmp_path):
    """As text: 007, 07 and 7 are three items."""
    codes = ["007", "07", "7"]
    for name, text in {
        "a.csv": "x,id\n0.05,{}\n0.5,{}\n10,{}\n", "b.csv": 'id,x\n"{}",1\n"{}",2\n"{}",0\n',
        "c.csv": "id;x\n{};0,5\n{};1,5\n{};NA\n", "d.tsv": "x\tid\n1\t{}\n1\t{}\n1\t{}\n",
        "a.jsonl": '{{"id": "{}", "x": 1}}\n{{"id": "{}", "x": 1}}\n{{"id": {}, "x": 1}}\n',
    }.items():  # fmt: skip
        rows = read(tmp_path, name, text.format(*codes))[0]
        assert [row["id"] for row in rows] == codes
        assert not isinstance(rows[0]["x"], str)
    late = "id,x\n" + "5,0.5\n" * 100_000 + "05,0.5\n"
    found = open_source(write(tmp_path, "late.csv", late)).read()
    assert found.column("id").to_pylist()[-2:] == ["5", "05"]
    assert found.schema.field("x").type == pa.float64()


def test_exact_whole_numbers_stay_numbers(tmp_path):
    rows = [{"id": 2**62 + 1}, {"id": 2**53 + 1}]
    assert read(tmp_path, "a.csv", "id\n" + "".join(f"{r['id']}\n" for r in rows))[0] == rows
    assert read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))[0] == rows
    assert read(tmp_path, "b.csv", "x\n1e300\n2.5\n")[0] == [{"x": 1e300}, {"x": 2.5}]


def test_words_for_missing_numbers(tmp_path):
    rows, notes = read(tmp_path, "a.csv", "x,y\n1,a\nNA,b\n3,NA\n")
    assert rows == [{"x": 1, "y": "a"}, {"x": None, "y": "b"}, {"x": 3, "y": "NA"}]
    assert notes == ("column 'x': 1 value is 'NA', taken as empty",)


def test_columns_named_as_text_stay_text(tmp_path):
    assert read(tmp_path, "a.csv", "kind,item\n01,1\n", text=["kind"])[0] == [{"kind": "01", "item": 1}]
    assert read(tmp_path, "a.jsonl", '{"kind": 1}\n', text=["kind"])[0] == [{"kind": "1"}]
    assert read(tmp_path, "a.json", '[{"kind": 1}]\n', text=["kind"])[0] == [{"kind": "1"}]


def test_headers_without_names(tmp_path):
    assert read(tmp_path, "a.csv", ",x,\n0,1,2\n")[0] == [{"unnamed": 0, "x": 1, "unnamed_2": 2}]
    assert read(tmp_path, "r.csv", '"x","y"\n"1",5,6\n"2",7,8\n')[0] == [  # R's row names
        {"unnamed": 1, "x": 5, "y": 6},
        {"unnamed": 2, "x": 7, "y": 8},
    ]
    assert "same name" in refused(tmp_path, "b.csv", "x,x\n1,2\n")


def test_separators():
    assert dialect_of("a,b\n1;2,3\n4;5,6\n").separator == ","
    assert dialect_of("question\nwhat, then?\nso; be it\n").separator == ","
    assert dialect_of('a;b\n"x;y";1,5\n').names == ("a", "b")
    assert dialect_of("a;b;c\n1,5;2,5;3,5\n").separator == ";"


# --- what is wrong is named -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", "a,b\n1,2\n3,4\n5,6,7\n", "line 4 has 3 values, and the header names 2"),
        ("a.csv", "a,b\n1,2\n" * 3 + '"x\ny",2,3\n', "line 8 has 3 values"),
        ("a.csv", 'n,text\n1,"abc\n2,y\n3,z', "the quote in line 2 is never closed"),
        ("a.csv", "n,text\n" + "1,y\n" * 200_000 + '1,"ab""c\n' + "2,y\n" * 9, "the quote in line 200002 is"),
        ("a.csv", 'n,text\n1,"a\nb"\n2,"c\n3,d\n', "the quote in line 4 is never closed"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ("a.jsonl", '{"a": 1}\n[3]\n', "line 2 is not an object: [3]"),
        ("a.jsonl", "a,b\n1,2\n", "line 1 is not valid JSON"),
        ("a.json", '[{"a": 1},\n {"a": }]', "line 2, character 8"),
        ("a.json", '[{"a": 1}, 3]', "element 2 is 3"),
        ("a.json", '{"a": 1}', "its keys are"),
        ("a.csv", "a,b\n", "no rows"),
        ("a.csv", "\n\n", "no rows"),
        ("a.csv", "", "empty"),
        ("a.json", "[]", "no rows"),
        ("a.parquet", CSV, "not a Parquet file"),
        ("a.parquet", PARQUET[:-9], "damaged"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "damaged"),
        ("a.csv.gz", CSV, "not a gzip archive"),
        ("a.zip", zipped("a.csv", "b.csv"), "2 files (a.csv, b.csv)"),
        ("a.csv", bytes(range(256)) * 9, "neither text"),
        ("a.doc", CSV, "extension is unknown"),
        ("a.json", '[{"a": "\\ud800"}]', "surrogate"),
    ],
)
def test_damaged_files_are_refused_with_the_reason(tmp_path, name, data, reason):
    assert reason in refused(tmp_path, name, data)


def test_long_values_are_cut(tmp_path):
    message = refused(tmp_path, "a.jsonl", '{"a": 1}\n"' + "long " * 1000 + '"\n')
    assert "line 2 is not an object: 'long long" in message
    assert short("x\ny" * 99, 20) == "'x\\nyx\\nyx\\nyx\\ny..."
    assert len(short(["x"] * 99)) == 80


# --- whatever other programs write ----------------------------------------------------------------

AWKWARD = st.text(st.sampled_from(list("ab,;|\t\"'\n\\ é中🎲01.-")), min_size=1, max_size=12).map(
    lambda s: "w" + s + "w"
)
NUMBERS = st.integers(-(2**50), 2**50) | st.floats(-1e9, 1e9).map(lambda x: x + 0.5 if x == int(x) else x)


@st.composite
def tables(draw):
    count = draw(st.integers(1, 12))
    columns = {
        "n": draw(st.lists(st.integers(-(2**50), 2**50), min_size=count, max_size=count)),
        "x": draw(st.lists(NUMBERS.map(float), min_size=count, max_size=count)),
        "t": draw(st.lists(AWKWARD, min_size=count, max_size=count)),
        draw(AWKWARD): draw(st.lists(AWKWARD, min_size=count, max_size=count)),
    }
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


@given(tables(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]),
       st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
       st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))  # fmt: skip
@QUICK
def test_what_python_writes_as_delimited_text_is_read(tmp_path, rows, separator, end, encoding, quoting):
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
        writer.writerows([list(rows[0]), *[list(row.values()) for row in rows]])
    assert open_source(path).read().to_pylist() == rows


@given(tables(), st.sampled_from(["lines", "array", "pretty", "wrapped"]), st.booleans(),
       st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))  # fmt: skip
@QUICK
def test_what_python_writes_as_json_is_read(tmp_path, rows, form, ascii_only, encoding):
    if form == "lines":
        text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    else:
        value = {"rows": rows, "n": 1} if form == "wrapped" else rows
        text = json.dumps(value, ensure_ascii=ascii_only, indent=1 if form == "pretty" else None)
    path = tmp_path / ("a.jsonl" if form == "lines" else "a.json")
    path.write_text(text, encoding=encoding)
    assert open_source(path).read().to_pylist() == rows


def test_nested_values_of_all_shapes():
    rows = [{"m": [{"role": "u"}], "x": {"a": 1}}, {"m": [{"role": "u", "n": 2}], "x": "no"}, {"m": [1]}]
    table, _ = columns_of(lambda: rows)
    assert table.column("m").to_pylist() == ['[{"role": "u"}]', '[{"role": "u", "n": 2}]', "[1]"]
    assert rows_of([]) == ([], [])


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"a": 1}\n{"a": 2}\n', True), ('{"a": 1}\n{"a": 2}', True), ('\n{"a": 1}\n\n{"a": 2}\n', True),
        ('{"a": 1}\r\n{"a": 2}\r\n', True), ('{"a": 1}\nnull\n', False), ('null\n{"a": 1}\n', False),
        ('{"a": 1}\n null\n', False), ('{"a": 1}\r\nnull', False), ('{"a": 1}\rnull\r', False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_only_lines_that_begin_with_objects_are_given_to_arrow(tmp_path, monkeypatch, text, plain, size):
    monkeypatch.setattr(stored, "BLOCK", size)
    path = write(tmp_path, "a.jsonl", text)
    lines = object.__new__(Lines)
    lines._file = stored.Stored(path, ".jsonl")
    assert lines._plain() is plain or (plain and "\n\n" in text)
    assert lines._plain() <= plain
