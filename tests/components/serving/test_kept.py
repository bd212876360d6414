"""Answers in a file, one a line: what a crash cuts is left out, and nothing else is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from recurate.components.serving.kept import Kept


def test_lines_are_read_once_and_those_of_others_too(tmp_path):
    path = tmp_path / "a" / "kept.jsonl"
    one, two = Kept(path), Kept(path)
    assert one.new() == []
    one.add({"text": "a\nb\r\u2028"})
    two.add({"n": 2})
    assert one.new() == [{"text": "a\nb\r\u2028"}, {"n": 2}]
    assert one.new() == []
    two.add({"n": 3})
    assert one.new() == [{"n": 3}]
    assert Kept(path).new() == two.new()


def test_a_torn_line_is_left_out_and_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "kept.jsonl"
    kept = Kept(path)
    kept.add({"n": 1})
    kept.add({"n": 2})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        complete = whole[:length].count(b"\n")
        assert Kept(path).new() == [{"n": 1}, {"n": 2}][:complete]
        Kept(path).add({"n": 3})
        assert Kept(path).new()[-1] == {"n": 3}
        assert {"n": 1} in Kept(path).new() or complete == 0


def test_lines_that_are_no_objects_are_left_out(tmp_path):
    path = tmp_path / "kept.jsonl"
    path.write_bytes(b'7\n[1]\n{"n": 1}\n\xff\n\n' + b"[" * 100_000 + b"\n")
    assert Kept(path).new() == [{"n": 1}]


def test_threads_do_not_mix_their_lines(tmp_path):
    kept = Kept(tmp_path / "kept.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: kept.add({"n": n, "text": "x" * 20_000}), range(100)))
    assert sorted(line["n"] for line in kept.new()) == list(range(100))


def test_without_a_file_nothing_is_written():
    kept = Kept(None)
    kept.add({"n": 1})
    assert kept.new() == []
