"""The pages over HTTP: who may do what, and what hostile requests get."""

from __future__ import annotations

import re

import pytest

from helpers.studies import Visitor, slates

pytest.importorskip("fastapi", reason="pip install 'recurate[people]'")
import sqlalchemy as sa
from starlette.testclient import TestClient

from recurate.people import invitations
from recurate.people.ballots import Candidate, Slate
from recurate.people.export import as_bytes
from recurate.people.insight import hash_of
from recurate.people.tables import people
from recurate.people.web import LARGEST, LONGEST, TRIES, Site, application, cookie_name, markdown

PASSWORD = hash_of("correct horse")


@pytest.fixture
def site(study_of, clock):
    study = study_of(slates(6))
    return study, application(study, Site(title="Words", open=True, password=PASSWORD))


def cookie(visitor: Visitor, name: str) -> str:
    """Return what a visitor's cookie says; its name ends with the study's own suffix."""
    return next(value for own, value in visitor.http.cookies.items() if own.startswith(f"{name}_"))


def owner(app) -> Visitor:
    found = Visitor(app)
    answer = found.http.post("/owner/login", data={"password": "correct horse"})
    assert answer.status_code == 200
    found.token = re.findall(r'name="token" content="(\w+)"', answer.text)[0]
    return found


def test_a_session(site):
    study, app = site
    anna = Visitor(app).join()
    for n in range(6):
        state = anna.pick().json()
        assert state["progress"] == {"done": n + 1, "total": 6}
    assert state["slate"] is None
    assert re.fullmatch("[0-9A-F]{10}", state["code"])
    assert study.undecided(0) == 0
    assert anna.post("/api/undo").json()["slate"]["lease"] > 0
    assert study.undecided(0) == 1


def test_the_completion_code_is_shown_where_answers_were_given(study_of, clock):
    study = study_of(slates(1))
    app = application(study, Site(open=True))
    anna, bert = Visitor(app).join(worker="W1"), Visitor(app).join()
    anna.get("/api/next")
    assert "other people have them all" in bert.get("/api/next").json()["none"]
    assert "code" not in bert.get("/api/next").json()
    assert anna.pick().json()["code"] == study.code(1)
    clock.time += 60
    stranger = Visitor(app).join(worker="W1").get("/api/next").json()
    assert "code" not in stranger, "a worker's name is no secret"
    assert "on the page on which you answered" in stranger["none"]


def test_a_form_that_is_sent_twice_is_one_person(study_of):
    study = study_of(slates(2))
    app = application(study, Site(open=True))
    anna = Visitor(app).join()
    anna.join()
    with study.engine.connect() as c:
        assert len(c.execute(sa.select(people.c.id)).all()) == 1


def test_control_characters_are_refused(study_of):
    study = study_of(slates(1))
    anna = Visitor(application(study, Site(open=True))).join()
    assert anna.pick(comment="a\x00b").status_code == 422
    assert anna.pick(comment="two\nlines").status_code == 200


# --- who may do what ------------------------------------------------------------------------------

PROTECTED = ["/api/next", "/media/" + "0" * 64 + ".png", "/owner/state", "/owner/export.csv"]
CHANGES = [
    "/api/ballots",
    "/api/undo",
    "/owner/invitations",
    "/owner/invitations/1/revoke",
    "/owner/people/1/remove",
]


@pytest.mark.parametrize("path", PROTECTED)
def test_strangers_see_nothing(site, path):
    assert Visitor(site[1]).get(path).status_code == 401


@pytest.mark.parametrize("path", CHANGES)
def test_strangers_change_nothing(site, path):
    assert Visitor(site[1]).post(path).status_code in (401, 422)


@pytest.mark.parametrize("path", [p for p in (*PROTECTED, *CHANGES) if p.startswith("/owner")])
def test_people_are_not_owners(site, path):
    anna = Visitor(site[1]).join()
    assert (anna.post if path in CHANGES else anna.get)(path).status_code in (401, 422)


def test_a_session_of_ones_own_making_is_none(site):
    names = [cookie_name(site[0], name) for name in ("session", "owner_session")]
    stranger = Visitor(site[1], Cookie="; ".join(f"{name}={'A' * 43}" for name in names))
    assert stranger.get("/api/next").status_code == 401
    assert stranger.get("/owner/state").status_code == 401


def test_nobody_answers_or_sees_what_others_were_given(site):
    study, app = site
    anna, bert = Visitor(app).join(), Visitor(app).join()
    lease = anna.get("/api/next").json()["slate"]["lease"]
    answer = bert.post("/api/ballots", lease=lease, key="the-click", outcome="pick", places=[0])
    assert answer.status_code == 404
    assert study.answers() == 0
    assert bert.post("/api/undo").status_code == 404


def test_images_are_shown_to_those_who_were_given_them(study_of):
    picture = "ab" * 32
    one = (Candidate(0, "image", picture), Candidate(1, "text", "none"))
    study = study_of([Slate(0, one)])
    study.add([], {picture: b"PNG"})
    app = application(study, Site(open=True, password=PASSWORD))
    anna, bert = Visitor(app).join(), Visitor(app).join()
    assert anna.get(f"/media/{picture}.png").status_code == 404
    anna.get("/api/next")
    found = anna.get(f"/media/{picture}.png")
    assert (found.content, found.headers["content-type"]) == (b"PNG", "image/png")
    assert bert.get(f"/media/{picture}.png").status_code == 404
    assert anna.get("/media/../../etc/passwd").status_code == 404


@pytest.mark.parametrize("token", ["", "0" * 64, "wrong"])
def test_a_change_needs_the_pages_token(site, token):
    anna = Visitor(site[1]).join()
    anna.token = token
    assert anna.pick().status_code == 403
    boss = owner(site[1])
    boss.token = token
    assert boss.post("/owner/people/1/remove").status_code == 403
    assert site[0].answers() == 0


def test_forms_of_other_sites_are_refused(site):
    other = Visitor(site[1], **{"Sec-Fetch-Site": "cross-site"})
    assert other.http.post("/join", data={}).status_code == 403
    assert other.http.post("/owner/login", data={"password": "correct horse"}).status_code == 403


def test_without_an_invitation_nobody_joins(study_of, clock):
    study = study_of(slates(2))
    app = application(study, Site(consent="I agree.", open=False))
    link = invitations.make(study, "two people", places=2, hours=1)
    assert Visitor(app).get("/").status_code == 403
    assert Visitor(app).http.post("/join", data={}).status_code == 403
    assert Visitor(app).get("/join/nonsense").status_code == 403
    assert "I agree" in Visitor(app).get(f"/join/{link}?PROLIFIC_PID=P77").text
    assert Visitor(app).http.post("/join", data={"invitation": link}).status_code == 422, "no consent"
    anna = Visitor(app).join(link, agree="yes", worker="P77")
    assert anna.pick().status_code == 200
    Visitor(app).join(link, agree="yes")
    third = Visitor(app).http.post("/join", data={"invitation": link, "agree": "yes"})
    assert third.status_code == 403
    assert "no place left" in third.text
    clock.time += 3601
    assert Visitor(app).get(f"/join/{link}").status_code == 403
    assert anna.get("/api/next").status_code == 200, "who has joined stays"
    other = invitations.make(study)
    assert invitations.revoke(study, 2)
    assert Visitor(app).get(f"/join/{other}").status_code == 403


def test_tokens_are_not_in_the_database(site, tmp_path):
    study, app = site
    link = invitations.make(study)
    anna = Visitor(app).join()
    session = cookie(anna, "session")
    boss = owner(app)
    kept = b"".join(p.read_bytes() for p in tmp_path.glob("*.sqlite*"))
    for secret in (link, session, cookie(boss, "owner_session"), "correct horse"):
        assert secret.encode() not in kept


def test_cookies_and_headers(study_of):
    app = application(study_of(slates(1)), Site(open=True, secure=True))
    answer = TestClient(app, base_url="https://study.test", follow_redirects=False).post("/join", data={})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Secure", "SameSite=lax"} <= set(cookie.split("; "))
    for path in ("/", "/join", "/api/next", "/static/pick.js", "/owner", "/nothing"):
        headers = TestClient(app, base_url="https://study.test").get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_studies_on_one_host_do_not_end_each_others_sessions(study_of):
    """A browser sends the cookies of a host to all its ports."""
    apps = [application(study_of(slates(2)), Site(open=True, password=PASSWORD)) for _ in range(2)]
    one, other = Visitor(apps[0]).join(), owner(apps[1])
    other.join()
    for theirs, own in ((one, other), (other, one)):
        own.http.cookies.update(dict(theirs.http.cookies))
    assert one.get("/api/next").status_code == other.get("/api/next").status_code == 200
    assert other.get("/owner/state").status_code == 200
    assert one.get("/owner/state").status_code == 401, "the other study's owner is nobody here"
    again = application(apps[0].state.study, Site(open=True, password=PASSWORD))
    assert again.state.cookies == apps[0].state.cookies, "a restart keeps them"


def test_passwords_cannot_be_tried_at_will(site):
    stranger = Visitor(site[1])
    codes = [
        stranger.http.post("/owner/login", data={"password": f"guess {n}"}).status_code
        for n in range(TRIES + 2)
    ]
    assert codes == [403] * TRIES + [429] * 2


def test_no_redirect_leads_away(site):
    for path in (
        "/?next=https://evil.test",
        "/join?next=//evil.test",
        "//evil.test",
        "/owner?to=https://evil.test",
    ):
        found = TestClient(site[1], follow_redirects=False).get(path)
        assert "evil" not in found.headers.get("location", "")


# --- hostile requests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"outcome": "all"}, {"places": [-1]}, {"places": ["x"]}, {"places": list(range(2000))},
        {"lease": 2**70}, {"lease": "1; DROP TABLE ballots"}, {"key": "a"}, {"key": "x" * 65},
        {"key": "<script>"}, {"more": 1}, {"reason": "x" * 3000},
    ],
)  # fmt: skip
def test_requests_that_are_no_answer(site, body):
    study, app = site
    found = Visitor(app).join().pick(**body)
    assert found.status_code in (404, 422), found.text
    assert found.json()["detail"]
    assert study.answers() == 0


def test_large_requests_are_refused(site):
    anna = Visitor(site[1]).join()
    assert anna.pick(comment="x" * LARGEST).status_code == 413
    chunks = (b"x" * 1000 for _ in range(10))
    assert anna.http.post("/api/ballots", content=chunks).status_code == 413


HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))",
    "![x](https://evil.test/x.png)", '"><svg onload=alert(1)>', "<https://evil.test>",
    "[a]: javascript:alert(1)\n\n[a]",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_as_texts(text):
    shown = markdown(text)
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z]+)", shown))
    assert tags <= {"p", "br", "em", "strong", "code", "pre"}, shown
    assert "href" not in re.sub("&[a-z]+;", "", shown)


def test_texts_that_are_cut_say_so():
    assert "cut after" not in markdown("x" * LONGEST)
    cut = markdown("```\n" + "x" * LONGEST)
    assert cut.endswith('</pre>\n<p class="cut">… cut after 100,000 characters</p>')
    assert cut.count("x") == LONGEST - 4


def test_titles_and_invitations_are_escaped(study_of):
    app = application(study_of(slates(1)), Site(title="<b>&x", open=True))
    assert "<b>" not in Visitor(app).get("/join").text
    assert "<script>alert" not in Visitor(app).get('/join?worker="><script>alert(1)</script>').text


def test_a_database_that_is_not_there_just_now(site, monkeypatch):
    import sqlalchemy as sa

    study, app = site
    anna = Visitor(app).join()

    def locked(*_: object) -> None:
        raise sa.exc.OperationalError("", {}, Exception("database is locked"))

    monkeypatch.setattr(study, "next", locked)
    found = anna.get("/api/next")
    assert found.status_code == 503
    assert found.headers["retry-after"]
    assert "Nothing is lost" in found.json()["detail"]


# --- the owner ------------------------------------------------------------------------------------


def test_the_owners_page(site):
    study, app = site
    assert "Log in" in Visitor(app).get("/owner").text
    boss, anna = owner(app), Visitor(app).join()
    anna.pick(comment="=cmd()")
    state = boss.get("/owner/state").json()
    assert state["rounds"] == [
        {"round": 0, "attempt": 0, "wanted": 6, "answered": 1, "missing": 5, "over": False}
    ]
    assert [(p["name"], p["answers"]) for p in state["people"]] == [("person 1", 1)]
    path = boss.post("/owner/invitations", label="friends", places=3, hours=2).json()["path"]
    assert Visitor(app).get(path).status_code == 200
    assert boss.get("/owner/state").json()["invitations"][0]["label"] == "friends"
    assert boss.post("/owner/invitations/1/revoke").json() == {"revoked": True}
    assert Visitor(app).get(path).status_code == 403
    for ending, start in (("csv", b'"round"'), ("jsonl", b"{"), ("parquet", b"PAR1")):
        assert boss.get(f"/owner/export.{ending}").content.startswith(start)
    assert boss.post("/owner/people/1/remove").json() == {"ballots": 1}
    assert anna.get("/api/next").status_code == 401
    assert study.answers() == 0


@pytest.mark.slow
def test_requests_made_from_the_document_find_no_fault(study_of):
    """Schemathesis: no answer is a server error, and each has a status that the document names."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, settings

    study = study_of(slates(500))
    app = application(study, Site(open=True, password=PASSWORD))
    app.state.seen = type(
        "Never", (dict,), {"__missing__": lambda self, key: __import__("collections").deque()}
    )()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    anna, boss = Visitor(app).join(), owner(app)
    cookies = dict(anna.http.cookies) | dict(boss.http.cookies)
    tried = 0
    for operation in schema.get_all_operations():
        found = operation.ok()
        token = boss.token if "/owner" in found.path else anna.token

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @__import__("hypothesis").given(case=found.as_strategy())
        def attack(case) -> None:
            nonlocal tried
            tried += 1
            response = case.call(cookies=cookies, headers={"X-Token": token})  # noqa: B023
            assert response.status_code < 500, (case, response.text)

        attack()
    assert tried > 200


def test_a_link_that_is_opened_again_leads_to_the_same_person(study_of):
    study = study_of(slates(3))
    app = application(study, Site(open=True, password=PASSWORD))
    anna = Visitor(app)
    assert "/join" in str(anna.get("/join?workerId=W1").url)
    anna.join(worker="W1")
    for path in ("/join", "/join?workerId=W1"):
        assert anna.get(path).url.path == "/"
    assert anna.get("/join?workerId=W2").url.path == "/join", "somebody else at the same browser"
    with study.engine.connect() as c:
        assert c.execute(sa.select(sa.func.count()).select_from(people)).scalar_one() == 1


def test_the_end_of_a_round_is_said(site):
    study, app = site
    anna = Visitor(app).join()
    anna.pick()
    lease = anna.get("/api/next").json()["slate"]["lease"]
    with study.engine.begin() as c:
        study.close(c, 0, 0)
    late = anna.post("/api/ballots", lease=lease, key="click-late", outcome="pick", places=[0])
    assert late.status_code == 410
    assert "too late" in late.json()["detail"]
    assert anna.post("/api/undo").status_code == 409
    assert anna.get("/api/next").json()["slate"] is None


def test_picks_made_elsewhere_are_added_on_the_owners_page(study_of, clock):
    there, here = study_of(slates(3)), study_of(slates(3))
    anna = there.join("a")
    while (lease := there.next(anna)) is not None:
        there.submit(anna, lease.id, f"click-{lease.id}", "pick", [0])
    boss = owner(application(here, Site(password=PASSWORD)))
    for ending, new in (("csv", 3), ("jsonl", 0), ("parquet", 0)):
        data = as_bytes(there, ending)[0]
        said = boss.http.post(f"/owner/import/{ending}", content=data, headers={"X-Token": boss.token})
        assert (said.status_code, said.json()) == (200, {"picks": new})
    assert here.undecided(0) == 0
    refused = boss.http.post("/owner/import/csv", content=b"a,b\n1,2\n", headers={"X-Token": boss.token})
    assert refused.status_code == 422
    assert "not an export of picks" in refused.json()["detail"]
    assert boss.http.post("/owner/import/csv", content=b"a").status_code == 403
