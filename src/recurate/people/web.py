"""The pages in a browser: the one on which people pick, and the owner's.

Sessions and invitations are random tokens of which the database has hashes. Every change needs a token that
the page carries besides the cookie; pages have no script of their own and load nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import re
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Form, Header, HTTPException, Request
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from recurate.core.errors import InputError
from recurate.core.version import VERSION
from recurate.people import export, insight, invitations
from recurate.people.ballots import (
    MOST_WORDS,
    Candidate,
    Lease,
    Outcome,
    Progress,
    Refused,
    Said,
    Session,
    Study,
)

PAGES = Path(__file__).parent / "pages"
LARGEST = 64 * 1024  # bytes of a request
LONGEST = 100_000  # characters of a text that are shown
LARGEST_IMPORT = 64 * 1024 * 1024
PER_MINUTE = 600  # requests of one address or session
TRIES = 10  # passwords of one address per minute
DAY = 86_400
NOTHING = "There is no question for you just now: other people have them all. Load this page again later."
NOTHING_NEW = (
    "There is no further question for you. Your completion code is on the page on which you answered; "
    "whoever runs this study has it too."
)
PRINTED = (
    r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"  # no control characters: no file of answers would be readable
)
PLATFORM = ("PROLIFIC_PID", "workerId", "worker")  # how platforms name a person in links
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Site:
    """What the pages say and who may see them.

    Attributes:
        title: Title of the study.
        instructions: Markdown above the candidates.
        consent: Markdown that people agree to; "": nothing is asked.
        question: Question about the candidates.
        open: Whether anybody may take part without an invitation.
        secure: Whether cookies are sent by HTTPS alone.
        completion: Code that the last page shows; "": one of each person's own.
        password: Salted hash of the owner's password; "": nobody can log in.
        reload: Function that looks for new slates.
        more: Function that says whether more slates will come: the next round of a run.
    """

    title: str = "Which one do you prefer?"
    instructions: str = ""
    consent: str = ""
    question: str = "Which one is best?"
    open: bool = False
    secure: bool = False
    completion: str = ""
    password: str = ""
    reload: Callable[[], None] = field(default=lambda: None)
    more: Callable[[], bool] = field(default=lambda: False)


class Answer(BaseModel):
    """A person's answer to a slate."""

    model_config = ConfigDict(extra="forbid")

    lease: int = Field(ge=1, le=2**62)
    key: str = Field(min_length=8, max_length=64, pattern="^[A-Za-z0-9-]+$")
    outcome: Outcome
    places: list[Annotated[int, Field(ge=0, le=1000)]] = Field(default=[], max_length=1000)
    reason: str = Field(default="", max_length=MOST_WORDS, pattern=PRINTED)
    comment: str = Field(default="", max_length=MOST_WORDS, pattern=PRINTED)


class Invitation(BaseModel):
    """An invitation that the owner makes."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(default="", max_length=200)
    places: int | None = Field(default=None, ge=1, le=10**6)
    hours: float | None = Field(default=None, gt=0, le=10**5)


def hashed(token: str) -> str:
    """Return what the database keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def cookie_name(study: Study, name: str) -> str:
    """Return the name of a cookie of this study: cookies of other ports of a host come along with it."""
    return f"{name}_{hashed(study.secret)[:8]}"


def application(study: Study, site: Site) -> FastAPI:
    """Return the application of a study.

    Its address may be passed on by a proxy; see ``recurate docs people``.
    """
    app = FastAPI(title="recurate: people's picks", version=VERSION, docs_url=None, redoc_url=None)
    app.state.study, app.state.seen, app.state.sessions = study, defaultdict(deque), {}
    app.state.cookies = {name: cookie_name(study, name) for name in ("session", "owner_session")}
    app.mount("/static", StaticFiles(directory=PAGES / "static"), name="static")
    _guard(app)
    _people(app, study, site)
    _owner(app, study, site)
    return app


# --- protection -----------------------------------------------------------------------------------


def _guard(app: FastAPI) -> None:
    @app.middleware("http")
    async def guarded(request: Request, go: Callable[[Request], Awaitable[Response]]) -> Response:
        most = LARGEST_IMPORT if request.url.path.startswith("/owner/import/") else LARGEST
        size = request.headers.get("content-length", "0")
        chunked = "chunked" in request.headers.get("transfer-encoding", "")
        if chunked or not size.isdigit() or int(size) > most:
            return _secured(JSONResponse({"detail": "The request is too large."}, 413))
        if not _may(app, f"all {_address(request)}", PER_MINUTE * 10):
            return _secured(JSONResponse({"detail": "Too many requests. Wait a minute."}, 429))
        return _secured(await go(request), request.url.path.startswith(("/static", "/media")))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse({"detail": str(error)}, error.code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(sa.exc.DataError)
    async def impossible(request: Request, error: sa.exc.DataError) -> Response:
        return JSONResponse({"detail": "The text has characters that cannot be kept."}, 422)

    @app.exception_handler(sa.exc.OperationalError)
    async def unavailable(request: Request, error: sa.exc.OperationalError) -> Response:
        why = str(error.orig).strip().splitlines()[0]
        print(f"the database did not take a request: {why}", flush=True)
        what = "Your answer could not be kept just now"
        if request.url.path.startswith("/owner"):
            what = "The database does not answer just now"
        words = f"{what}. Nothing is lost: try again in a moment."
        return JSONResponse({"detail": words}, 503, {"Retry-After": "2"})


def _secured(response: Response, cached: bool = False) -> Response:
    response.headers.update(SECURITY)
    if not cached:
        response.headers["Cache-Control"] = "no-store"
    return response


def _address(request: Request) -> str:
    return request.client.host if request.client else "?"


def _may(app: FastAPI, who: str, most: int) -> bool:
    """Whether somebody has made fewer than ``most`` requests in the last minute; it counts this one."""
    now, seen = time.monotonic(), app.state.seen
    if len(seen) > 100_000:
        seen.clear()
    times = seen[who]
    while times and times[0] < now - 60:
        times.popleft()
    if len(times) >= most:
        return False
    times.append(now)
    return True


def _token_of(session: str) -> str:
    """Return the token that a page carries besides its cookie."""
    return hmac.new(session.encode(), b"page", hashlib.sha256).hexdigest()


def _check_token(session: str | None, token: str | None) -> None:
    if not session or not token or not hmac.compare_digest(_token_of(session), token):
        raise HTTPException(403, "This page is out of date. Load it again.")


def _keep(request: Request, response: Response, site: Site, name: str, value: str, age: int) -> None:
    own = request.app.state.cookies[name]
    response.set_cookie(own, value, max_age=age, httponly=True, secure=site.secure, samesite="lax")


def _kept(request: Request, name: str) -> str | None:
    """Return the value of one of this study's cookies."""
    return request.cookies.get(request.app.state.cookies[name])


# --- who asks -------------------------------------------------------------------------------------


def _known(request: Request, study: Study) -> Session | None:
    session = _kept(request, "session")
    return None if session is None else study.session(hashed(session))


def _person(request: Request) -> Session:
    found = _known(request, request.app.state.study)
    if found is None:
        raise HTTPException(401, "You have not joined this study. Open your link again.")
    if not _may(request.app, f"person {found.person}", PER_MINUTE):
        raise HTTPException(429, "Too many requests. Wait a minute.")
    return found


Person = Annotated[Session, Depends(_person)]


def _changing(request: Request, found: Person, x_token: Annotated[str | None, Header()] = None) -> Session:
    _check_token(_kept(request, "session"), x_token)
    return found


Changing = Annotated[Session, Depends(_changing)]


def _owns(request: Request) -> str:
    session = _kept(request, "owner_session")
    if session is None or not _logged_in(request, session):
        raise HTTPException(401, "Log in first: /owner")
    return session


def _logged_in(request: Request, session: str) -> bool:
    until: float = request.app.state.sessions.get(hashed(session), 0.0)
    return until >= time.time()


Owner = Annotated[str, Depends(_owns)]


# --- the people's page ----------------------------------------------------------------------------


def _people(app: FastAPI, study: Study, site: Site) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def start(request: Request) -> Response:
        session = _kept(request, "session")
        if session is not None and study.session(hashed(session)) is not None:
            return _page("pick", site, token=_token_of(session), outcomes=",".join(study.rules.outcomes))
        if site.open:
            return RedirectResponse("/join", 303)
        return _closed(site)

    @app.get("/join", response_class=HTMLResponse, include_in_schema=False)
    def anybody(request: Request) -> Response:
        return invited(request, "")

    @app.get("/join/{invitation}", response_class=HTMLResponse, include_in_schema=False)
    def invited(request: Request, invitation: Annotated[str, InPath(max_length=100)]) -> Response:
        if not (site.open if invitation == "" else invitations.valid(study, invitation)):
            return _closed(site)
        worker = next((request.query_params[n] for n in PLATFORM if n in request.query_params), "")
        known = _known(request, study)
        if known is not None and worker in ("", study.worker(known.person)):
            return RedirectResponse("/", 303)  # the link was opened again
        return _page("join", site, invitation=invitation, worker=worker[:200])

    @app.post("/join", include_in_schema=False)
    def join(
        request: Request,
        invitation: Annotated[str, Form(max_length=100)] = "",
        worker: Annotated[str, Form(max_length=200, pattern=PRINTED)] = "",
        agree: Annotated[str, Form(max_length=10)] = "",
    ) -> Response:
        if not _may(app, f"join {_address(request)}", PER_MINUTE):
            return _closed(site, "Too many people join just now. Wait a minute.", 429)
        if not _same_origin(request):
            return _closed(site, "This form came from another site.")
        known = _known(request, study)
        if known is not None and worker in ("", study.worker(known.person)):
            return RedirectResponse("/", 303)  # the form was sent twice
        own = invitations.valid(study, invitation) if invitation else None
        if not (own or (site.open and not invitation)):
            return _closed(site)
        if site.consent and agree != "yes":
            said = "You can take part only if you agree."
            return _page("join", site, invitation=invitation, worker=worker, said=said, status=422)
        session = secrets.token_urlsafe(32)
        try:
            study.join(hashed(session), worker or None, own)
        except Refused as error:
            return _closed(site, str(error), error.code)
        response = RedirectResponse("/", 303)
        _keep(request, response, site, "session", session, 30 * DAY)
        return response

    @app.get("/api/next", responses=_SAID)
    def next_slate(found: Person) -> dict[str, Any]:
        """Return the slate that this person judges next, or the completion code."""
        return _state(study, site, found, _next(study, site, found.person))

    @app.post("/api/ballots", responses=_SAID)
    def ballot(found: Changing, answer: Answer) -> dict[str, Any]:
        """Keep this person's answer, and return the next slate."""
        lease, progress = study.answer(found.person, Said(**answer.model_dump()))
        if lease is None:
            return _state(study, site, found, _next(study, site, found.person))
        return _state(study, site, found, lease, progress)

    @app.post("/api/undo", responses=_SAID)
    def undo(found: Changing) -> dict[str, Any]:
        """Take back this person's last answer, and return its slate."""
        lease = study.undo(found.person, found.since)
        if lease is None:
            raise HTTPException(404, "There is nothing to take back.")
        return _state(study, site, found, lease)

    @app.get("/media/{digest}.png", response_class=Response, responses=_SAID)
    def media(found: Person, digest: Annotated[str, InPath(pattern="^[0-9a-f]{64}$")]) -> Response:
        """Return an image that this person was given."""
        data = study.image(digest) if study.was_given(found.person, digest) else None
        if data is None:
            raise HTTPException(404, "There is no such image.")
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(data, media_type="image/png", headers=headers)


_SAID: dict[int | str, dict[str, Any]] = {
    code: {"description": words, "content": {"application/json": {}}}
    for code, words in {
        401: "Not in this study", 403: "No token of this page", 404: "Not there", 409: "Answered otherwise",
        410: "The time ran out", 413: "Too large", 422: "Not possible", 429: "Too many requests",
        503: "Not just now",
    }.items()
}  # fmt: skip


def _same_origin(request: Request) -> bool:
    """Whether a form was sent by a page of this site, as far as the browser says."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _next(study: Study, site: Site, person: int) -> Lease | None:
    lease = study.next(person)
    if lease is None and site.more():
        site.reload()
        lease = study.next(person)
    return lease


def _state(
    study: Study, site: Site, session: Session, lease: Lease | None, progress: Progress | None = None
) -> dict[str, Any]:
    person = session.person
    progress = progress or study.progress(person)
    found: dict[str, Any] = {"progress": {"done": progress.done, "total": progress.total}, "slate": None}
    if lease is None and site.more() and not study.at_limit(person):
        found["more"] = True
    elif lease is None and study.has_answered(person, session.since):
        found["code"] = site.completion or study.code(person)
    elif lease is None:  # a worker's name is no secret: it opens nobody's code
        found["none"] = NOTHING_NEW if progress.done else NOTHING
    if lease is None:
        return found
    found["slate"] = {
        "lease": lease.id,
        "prompt": markdown(lease.context) if lease.context else "",
        "candidates": [_shown(c) for c in lease.candidates],
    }
    return found


def _shown(candidate: Candidate) -> dict[str, Any]:
    if candidate.form == "image":
        return {"form": "image", "url": f"/media/{candidate.content}.png"}
    if candidate.form == "points":
        return {"form": "points", "points": json.loads(candidate.content)}
    return {"form": "text", "html": markdown(candidate.content) or "<p><em>(empty)</em></p>"}


@cache
def _renderer() -> Any:
    from markdown_it import MarkdownIt

    made = MarkdownIt("js-default", {"html": False, "linkify": False, "breaks": True})
    return made.disable(["link", "image", "autolink", "reference"])


def markdown(text: str) -> str:
    """Return a text's Markdown as HTML; HTML in it is shown as text, and links and images stay Markdown.

    Of longer texts, the first ``LONGEST`` characters are shown, and the page says so.
    """
    shown = str(_renderer().render(text[:LONGEST]))
    shown = re.sub(r'<(t[hd]) style="text-align:(\w+)">', r'<\1 class="\2">', shown)  # as the policy wants it
    cut = f'<p class="cut">… cut after {LONGEST:,} characters</p>'
    return shown + cut if len(text) > LONGEST else shown


def _page(name: str, site: Site, status: int = 200, **values: str) -> HTMLResponse:
    """Fill a page; every value is escaped but those that are Markdown."""
    text = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    filled = {k: html.escape(v) for k, v in ({"said": ""} | values).items()} | {
        "silent": "" if values.get("said") else "hidden",
        "title": html.escape(site.title),
        "question": html.escape(site.question),
        "instructions": markdown(site.instructions) if site.instructions else "",
        "consent": markdown(site.consent) if site.consent else "",
        "asked": "" if site.consent else "hidden",
    }
    # In one pass: values are not filled themselves.
    return HTMLResponse(re.sub(r"{{(\w+)}}", lambda found: filled[found[1]], text), status)


def _closed(site: Site, said: str = "", status: int = 403) -> HTMLResponse:
    words = (
        "You need an invitation that holds to take part. Open the link that you were sent, or ask for one."
    )
    return _page("closed", site, status, said=said or words)


def _import(study: Study, data: bytes, ending: str) -> int:
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"picks.{ending}"
        file.write_bytes(data)
        try:
            return export.take(study, file, "the file")
        except InputError as error:
            raise Refused(str(error).replace("\n", "; "), 422) from None


# --- the owner's pages ----------------------------------------------------------------------------


def _owner(app: FastAPI, study: Study, site: Site) -> None:
    live = insight.LiveFit(study)

    @app.get("/owner", response_class=HTMLResponse, include_in_schema=False)
    def page(request: Request) -> Response:
        session = _kept(request, "owner_session")
        if session is None or not _logged_in(request, session):
            return _page("login", site)
        site.reload()
        return _page("owner", site, token=_token_of(session))

    @app.post("/owner/login", include_in_schema=False)
    def login(request: Request, password: Annotated[str, Form(max_length=200)]) -> Response:
        if not _may(app, f"login {_address(request)}", TRIES):
            return _page("login", site, said="Too many passwords. Wait a minute.", status=429)
        if not _same_origin(request) or not insight.right_password(password, site.password):
            return _page("login", site, said="That is not the password.", status=403)
        session = secrets.token_urlsafe(32)
        app.state.sessions[hashed(session)] = time.time() + DAY
        response = RedirectResponse("/owner", 303)
        _keep(request, response, site, "owner_session", session, DAY)
        return response

    @app.get("/owner/state", responses=_SAID)
    def state(_: Owner) -> dict[str, Any]:
        """Return progress, people, agreement and the fit of the rewards."""
        site.reload()
        return insight.overview(study, live, codes=not site.completion)

    @app.post("/owner/invitations", responses=_SAID)
    def invite(
        session: Owner,
        wanted: Invitation,
        x_token: Annotated[str | None, Header()] = None,
    ) -> dict[str, str]:
        """Make an invitation; its link is shown once."""
        _check_token(session, x_token)
        return {"path": "/join/" + invitations.make(study, wanted.label, wanted.places, wanted.hours)}

    @app.post("/owner/invitations/{number}/revoke", responses=_SAID)
    def revoke(
        session: Owner,
        number: Annotated[int, InPath(ge=1, le=2**62)],
        x_token: Annotated[str | None, Header()] = None,
    ) -> dict[str, bool]:
        """Revoke an invitation."""
        _check_token(session, x_token)
        return {"revoked": invitations.revoke(study, number)}

    @app.post("/owner/people/{number}/remove", responses=_SAID)
    def remove(
        session: Owner,
        number: Annotated[int, InPath(ge=1, le=2**62)],
        x_token: Annotated[str | None, Header()] = None,
    ) -> dict[str, int]:
        """Delete all data of a person."""
        _check_token(session, x_token)
        return {"ballots": study.remove(number)}

    @app.post("/owner/import/{ending}", responses=_SAID)
    async def imported(
        request: Request,
        session: Owner,
        ending: Literal["parquet", "jsonl", "csv"],
        x_token: Annotated[str | None, Header()] = None,
    ) -> dict[str, int]:
        """Add the picks of an export of the same questions, which is the request's body."""
        _check_token(session, x_token)
        data = await request.body()
        return {"picks": await run_in_threadpool(_import, study, data, ending)}

    @app.get("/owner/export.{ending}", response_class=Response, responses=_SAID)
    def exported(_: Owner, ending: Literal["parquet", "jsonl", "csv"]) -> Response:
        """Return all answers as a log."""
        data, kind = export.as_bytes(study, ending)
        name = f"attachment; filename=picks.{ending}"
        return Response(data, media_type=kind, headers={"Content-Disposition": name})
