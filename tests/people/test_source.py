"""Candidates in files: what is shown together, and what cannot be understood."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("fastapi", reason="pip install 'recurate[people]'")

from PIL import Image

from recurate.core.errors import InputError
from recurate.people.source import Columns, read

NOT_KEPT = "not kept, as there is not one value for each candidate: "
LONG = "prompt,text,reward\nhello,Hi,0.1\nhello,Hello there,0.3\nbye,Bye,0.5\nbye,See you,0.2\n"


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def lines(folder: Path, *rows: dict) -> Path:
    return file(folder, "c.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def shown(path: Path) -> list[tuple[str, list[str]]]:
    return [(s.context, [c.content for c in s.candidates]) for s in read(path).slates]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("long.csv", LONG, [("hello", ["Hi", "Hello there"]), ("bye", ["Bye", "See you"])]),
        (
            "wide.csv", "question,response_a,response_b\nwhy,so,because\nhow,thus,well\n",
            [("why", ["so", "because"]), ("how", ["thus", "well"])],
        ),
        (
            "slates.csv", "slate,text\n7,a\n7,b\n9,c\n9,d\n", [("", ["a", "b"]), ("", ["c", "d"])],
        ),
    ],
)  # fmt: skip
def test_tables_of_texts(tmp_path, name, text, expected):
    assert shown(file(tmp_path, name, text)) == expected


def test_lists_with_values_of_their_own(tmp_path):
    found = read(lines(tmp_path, {"prompt": "p", "responses": ["a", "b"], "score": [0.5, 1.5], "round": 3}))
    (slate,) = found.slates
    assert [c.content for c in slate.candidates] == ["a", "b"]
    assert [c.values["score"] for c in slate.candidates] == [0.5, 1.5]


def test_messages_of_conversations(tmp_path):
    one, two = [{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]
    assert shown(lines(tmp_path, {"prompt": "p", "candidates": [one, two]})) == [("p", ["a", "b"])]


def test_points_and_rows_after_each_other(tmp_path):
    path = file(tmp_path, "p.csv", "x,y\n0,1\n1,0\n2,2\n3,3\n")
    with pytest.raises(InputError, match="nothing says which candidates are shown together"):
        read(path)
    found = read(path, Columns(k=2)).slates
    assert [[json.loads(c.content) for c in s.candidates] for s in found] == [
        [[[0, 1]], [[1, 0]]],
        [[[2, 2]], [[3, 3]]],
    ]
    with pytest.raises(InputError, match="cannot be shown 3 at a time"):
        read(path, Columns(k=3))


def test_images_are_written_anew(tmp_path):
    comment = "a secret in the file"
    for at, colour in enumerate(("red", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{at}.jpg", comment=comment)
    found = read(file(tmp_path, "i.csv", "slate,image\n1,0.jpg\n1,1.jpg\n"))
    assert {c.form for c in found.slates[0].candidates} == {"image"}
    assert len(found.images) == 2
    for data in found.images.values():
        assert data.startswith(b"\x89PNG")
        assert comment.encode() not in data


def test_checks(tmp_path):
    path = file(tmp_path, "k.csv", "slate,text,right\n1,a,0\n1,b,1\n2,c,0\n2,d,0\n")
    assert [s.answer for s in read(path, Columns(check="right")).slates] == [1, None]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (LONG, Columns(show="nothing"), "no column 'nothing'"),
        (LONG, Columns(context="promt"), "no column 'promt'"),
        ("a,b\n1,2\n", Columns(), "no column says what is shown"),
        ("slate,text\n1,a\n2,b\n", Columns(), "two candidates or more"),
        ("slate,image\n1,gone.png\n1,b.png\n", Columns(), "image is missing"),
        ("slate,image\n1,../../etc/passwd.png\n1,b.png\n", Columns(), "outside the folder"),
        ("slate,text\n1,a\n1,\n", Columns(), "a candidate is empty"),
        ("slate,x,y\n1,0,\n1,2,3\n", Columns(), "lacks a coordinate"),
    ],
)
def test_what_cannot_be_shown(tmp_path, text, columns, message):
    with pytest.raises(InputError, match=message):
        read(file(tmp_path, "c.csv", text), columns)


def test_an_image_that_is_none(tmp_path):
    (tmp_path / "a.png").write_bytes(b"<script>")
    with pytest.raises(InputError, match="cannot be read"):
        read(file(tmp_path, "i.csv", "slate,image\n1,a.png\n1,a.png\n"))


def test_candidates_that_changed_under_a_study(recurate_here, tmp_path):
    path = file(tmp_path, "long.csv", LONG)
    assert recurate_here("serve", path, "--simulate", 2, "--reward", "reward").returncode == 0
    file(tmp_path, "long.csv", LONG.replace("Hi", "Hey"))
    changed = recurate_here("serve", path, "--simulate", 2, "--reward", "reward")
    assert changed.returncode == 2
    assert "have changed since people began to pick" in changed.stderr
    assert "2 picks written" in recurate_here("serve", path, "--export", tmp_path / "p.csv").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.csv"], "there is no such source"),
        (["loop.toml", "--export", "p.csv"], "a configuration has no picks yet"),
        (["long.csv", "--answers", "pick,maybe"], "answers must be some of"),
        (["long.csv", "--db", "mysql://x/y"], "SQLite or PostgreSQL"),
        (["long.csv", "--db", "/dev/null/x"], "cannot be opened"),
        (["long.csv", "--export", "a.xlsx"], "Parquet, JSON lines or CSV"),
        (["long.csv", "--import", "long.csv"], "lacks columns"),
        (["long.csv", "--simulate", "1", "--reward", "other"], "need a column of rewards"),
        (["long.csv", "--simulate", "1", "--rule", "other"], "no such rule"),
    ],
)
def test_options_that_are_wrong(recurate_here, tmp_path, arguments, message):
    file(tmp_path, "long.csv", LONG)
    file(tmp_path, "loop.toml", "")
    done = recurate_here("serve", *arguments)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr


def test_an_import_whose_rows_were_changed_is_refused(recurate_here, tmp_path):
    path = file(tmp_path, "long.csv", LONG)
    recurate_here("serve", path, "--simulate", 2, "--reward", "reward")
    recurate_here("serve", path, "--export", tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text(encoding="utf-8")
    (tmp_path / "p.csv").write_text(text.replace("false", "true"), encoding="utf-8")
    done = recurate_here("serve", path, "--db", tmp_path / "other.sqlite", "--import", tmp_path / "p.csv")
    assert done.returncode == 2
    assert "an answer 'pick' of 2 candidates" in done.stderr


def answers(path: Path, check: str) -> list[int | None]:
    return [s.answer for s in read(path, Columns(check=check)).slates]


def test_known_answers_are_marked_in_rows_or_named_by_slates(tmp_path):
    rows = "prompt,text,right\np,a,false\np,b,true\nq,c,\nq,d,\n"
    assert answers(file(tmp_path, "long.csv", rows), "right") == [1, None]
    wide = "prompt,response_a,response_b,gold\np,so,thus,b\nq,so,thus,so\nr,so,thus,response_b\ns,x,y,\n"
    assert answers(file(tmp_path, "wide.csv", wide), "gold") == [1, 0, 1, None]
    found = lines(tmp_path, {"responses": ["a", "b"], "gold": "b"}, {"responses": ["c", "d"], "gold": None})
    assert answers(found, "gold") == [1, None]
    flags = lines(tmp_path, {"responses": ["a", "b"], "gold": [True, False]})
    assert answers(flags, "gold") == [0]
    log = "slate,text,picked\n1,a,true\n1,b,false\n2,c,false\n2,d,false\n"
    assert answers(file(tmp_path, "log.csv", log), "picked") == [0, None]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("response_a,response_b,gold\nso,thus,c\n", "none of its candidates"),
        ("response_a,response_b,gold\nso,thus,\n", "no slate has a known answer"),
        ("slate,text,gold\n1,a,true\n1,b,true\n", "several known answers"),
        ("slate,text,gold\n1,a,false\n1,b,false\n", "no slate has a known answer"),
    ],
)
def test_checks_that_cannot_be_understood(tmp_path, rows, words):
    with pytest.raises(InputError, match=words):
        read(file(tmp_path, "c.csv", rows), Columns(check="gold"))


def test_rows_of_no_slate_are_left_out_and_said(tmp_path):
    rows = "slate,text,source\n0,a,model\n0,b,model\n,c,real\n,d,real\n1,e,model\n1,f,model\n"
    found = read(file(tmp_path, "log.csv", rows))
    assert [len(s.candidates) for s in found.slates] == [2, 2]
    assert "left out: 2 rows without a 'slate'" in found.account


def test_texts_that_look_like_numbers_stay_texts(tmp_path):
    rows = "prompt,text\n1e3,007\n1e3,7.0\n"
    assert shown(file(tmp_path, "c.csv", rows)) == [("1e3", ["007", "7.0"])]


def test_options_are_known_when_a_study_is_served_again(recurate_here, tmp_path):
    path = file(
        tmp_path, "c.csv", "slate,text,other,right\n1,a,x,true\n1,b,y,false\n2,c,x,false\n2,d,z,false\n"
    )
    own = ("--show", "other", "--check", "right", "--simulate", 1, "--rule", "random", "--reward", "slot")
    begun = recurate_here("serve", path, *own)
    assert "checks: the answers of 1 of 2 slates" in begun.stderr
    again = recurate_here("serve", path, "--simulate", 1, "--reward", "none")
    assert "each row is a candidate: other" in again.stderr
    differs = recurate_here("serve", path, "--show", "text", "--simulate", 1)
    assert differs.returncode == 2
    assert "read other slates from the file than before" in differs.stderr


def test_seats_can_be_changed(recurate_here, tmp_path):
    path = file(tmp_path, "long.csv", LONG)
    for seats, done in (
        (2, "2 slates were judged"),
        (None, "2 slates were judged"),
        (3, "2 slates were judged"),
    ):
        own = ["--seats", seats] if seats else []
        said = recurate_here("serve", path, "--simulate", 5, "--reward", "reward", *own)
        assert done in said.stdout, said.stderr
        assert ("from now on: 3 people" in said.stderr) == (seats == 3)
    assert (
        "0 slates were judged" in recurate_here("serve", path, "--simulate", 5, "--reward", "reward").stdout
    )


def test_known_answers_beside_empty_cells_and_numbers(tmp_path):
    rows = "text_a,text_b,text_c,right\n,GOOD,BAD,b\nx,,y,c\n"
    found = read(file(tmp_path, "c.csv", rows), Columns(check="right")).slates
    assert [s.candidates[s.answer].content for s in found] == ["GOOD", "y"]
    with pytest.raises(InputError, match="one candidate's column and another one's text"):
        read(file(tmp_path, "n.csv", "answer_1,answer_2,right\n2,1,1\n"), Columns(check="right"))


def test_a_slate_has_one_prompt_and_points_are_finite(tmp_path):
    with pytest.raises(InputError, match="different prompts"):
        read(file(tmp_path, "p.csv", "prompt,text\np,a\nq,b\n"), Columns(k=2))
    with pytest.raises(InputError, match="lacks a coordinate"):
        read(file(tmp_path, "n.csv", "slate,x,y\n1,0.5,nan\n1,1,2\n"))


def test_numbered_columns_of_rewards_are_the_candidates_own(tmp_path):
    row = {"prompt": "p", "response_1": "a", "response_2": "b", "reward_1": 0.5, "reward_2": 2.0}
    found = read(lines(tmp_path, row | {"votes_x": 1, "note_1": "n", "note_3": "m"}))
    assert [c.values for c in found.slates[0].candidates] == [{"reward": 0.5}, {"reward": 2.0}]
    assert "the candidates' own values: reward" in found.account
    assert NOT_KEPT + "votes_x, note_1, note_3" in found.account


def test_values_of_an_empty_cell_do_not_move_to_its_neighbour(tmp_path):
    row = {"response_1": "a", "response_2": None, "response_3": "c"} | {f"reward_{i}": i for i in (1, 2, 3)}
    whole = {"response_1": "a", "response_2": "b", "response_3": "c"} | {f"reward_{i}": i for i in (1, 2, 3)}
    first, second = read(lines(tmp_path, row, whole)).slates
    assert [c.values["reward"] for c in first.candidates] == [1, 3]
    assert [c.values["reward"] for c in second.candidates] == [1, 2, 3]


def test_lists_of_other_lengths_are_said(tmp_path):
    rows = [{"responses": ["a", "b"], "tags": ["x", "y"]}, {"responses": ["c", "d"], "tags": ["x"]}]
    found = read(lines(tmp_path, *rows))
    assert all(c.values == {} for slate in found.slates for c in slate.candidates)
    assert NOT_KEPT + "tags" in found.account


def test_texts_that_end_like_pictures_are_texts(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "there.png")
    rows = [{"responses": ["save it as a.png", "no"]}, {"responses": ["there.png", "yes"]}]
    found = read(lines(tmp_path, *rows))
    assert [[c.form for c in s.candidates] for s in found.slates] == [["text", "text"], ["image", "text"]]
    assert "1 text ends like the name of an image that is not there: shown as text" in found.account
    with pytest.raises(InputError, match="image is missing"):
        read(lines(tmp_path, {"images": ["there.png", "gone.png"]}))


def test_whole_numbers_stay_whole_beside_others(tmp_path):
    assert shown(lines(tmp_path, {"answers": [3, 4.5]}, {"answers": [2, 7]})) == [
        ("", ["3", "4.5"]),
        ("", ["2", "7"]),
    ]


def test_missing_numbers_are_no_candidates(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"answers": [[1.0, 2.0], [float("nan"), 3.0]]}), path)
    with pytest.raises(InputError, match="a candidate is empty"):
        read(path, Columns(show="answers"))


def test_objects_show_their_text_and_keep_their_scores(tmp_path):
    """As in UltraFeedback; the model's name is not shown, and the score is the candidate's own."""
    rows = [{"model": "m1", "response": "good", "score": 9}, {"model": "m2", "response": "bad", "score": 2}]
    (slate,) = read(lines(tmp_path, {"instruction": "p", "completions": rows})).slates
    assert [(c.form, c.content) for c in slate.candidates] == [("text", "good"), ("text", "bad")]
    assert [c.values for c in slate.candidates] == [{"model": "m1", "score": 9}, {"model": "m2", "score": 2}]
    with pytest.raises(InputError, match="does not tell what is shown"):
        read(lines(tmp_path, {"completions": [{"model": "m1"}, {"model": "m2"}]}))


def test_suffixed_columns_of_rewards_are_the_candidates_own(tmp_path):
    row = {"response_1": "a", "response_1_reward": 0.5, "response_2": "b", "response_2_reward": 2.0}
    (slate,) = read(lines(tmp_path, row)).slates
    assert [c.values for c in slate.candidates] == [{"reward": 0.5}, {"reward": 2.0}]


def test_values_that_are_no_plain_ones_are_not_kept(tmp_path):
    text = "prompt,response_1,response_2,made_1,made_2\np,a,b,2024-01-01,2024-01-02\n"
    found = read(file(tmp_path, "c.csv", text))
    assert [c.values for c in found.slates[0].candidates] in (
        [{}, {}],
        [{"made": "2024-01-01"}, {"made": "2024-01-02"}],
    )


def test_conversations_as_prompts(tmp_path):
    asked = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    expected = "**system:** be kind\n\n**user:** hello"
    assert shown(lines(tmp_path, {"prompt": asked, "responses": ["a", "b"]})) == [(expected, ["a", "b"])]
    rows = [{"prompt": asked[1:], "response": x} for x in "ab"]
    assert shown(lines(tmp_path, *rows)) == [("hello", ["a", "b"])]
    row = {
        "prompt": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}],
        "responses": ["a", "b"],
    }
    assert shown(lines(tmp_path, row)) == [("**human:** hi\n\n**gpt:** ho", ["a", "b"])]


@pytest.mark.parametrize(
    "message", [{"role": "user", "text": "hi"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
)
def test_messages_without_a_text_are_refused(tmp_path, message):
    """Nobody is shown an empty prompt, or a list in brackets, in place of what was said."""
    with pytest.raises(InputError, match="has no text"):
        read(lines(tmp_path, {"prompt": [message, message], "responses": ["a", "b"]}))


@pytest.mark.parametrize(
    "values",
    [
        [["a", "b"], ["c", "d"]],
        [[1.0], [2.0]],
        [[[1.0, 2.0], [1.0, None]], [[0.0, 1.0], [0.0, 0.0]]],
        [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]],
        [[], [1.0, 2.0]],
    ],
)
def test_lists_that_are_no_points_are_refused(tmp_path, values):
    with pytest.raises(InputError, match="neither a point"):
        read(lines(tmp_path, {"samples": values}))


def test_points_have_two_coordinates(tmp_path):
    path = file(tmp_path, "p.csv", "slate,x,y,z\n1,0,0,0\n1,1,1,1\n")
    with pytest.raises(InputError, match="two coordinates"):
        read(path, Columns(show="x,y,z"))


def test_lists_of_a_fixed_size(tmp_path):
    values = pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2))
    pq.write_table(pa.table({"responses": values}), tmp_path / "f.parquet")
    assert shown(tmp_path / "f.parquet") == [("", ["a", "b"]), ("", ["c", "d"])]
