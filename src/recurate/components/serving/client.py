"""A client of OpenAI-compatible servers, with time limits, checks of every answer, and retries.

A request is sent again, after a pause that doubles, if there is no connection or no answer in time, if the
server is busy (429) or in trouble (5xx), or if its answer cannot be used. Other statuses are final: the
server would refuse the same request again. The key is read from the environment, and appears in no message
and no file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from recurate.core.errors import InputError, need, short
from recurate.core.seeds import Stream
from recurate.core.settings import Settings

T = TypeVar("T")
Item = TypeVar("Item")

BUSY = {408, 409, 425, 429}  # statuses after which a request is sent again, besides those from 500 on
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between attempts
PATIENCE = 600.0  # longest pause that a server may ask for, in seconds
LARGEST = 2**28  # bytes of an answer
OWN = ("model", "messages", "prompt", "n", "seed", "stream")  # fields of requests that are set here
DATED = re.compile(r"@.+|-\d{4}-?\d{2}-?\d{2}")  # what servers append to a model's name: a version of it
VERSIONS = (("version", "version"), ("get_server_info", "version"), ("props", "build_info"))
TOKENS = ("prompt_tokens", "completion_tokens")  # of an answer's usage
BROKEN = {"content_filter", "abort", "error", "tool_calls", "function_call"}  # reasons of unusable choices


class Endpoint(Settings):
    """Settings of an OpenAI-compatible server."""

    url: str = Field(description="address of the server's API, such as http://127.0.0.1:8000/v1")
    key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*$",
        description="name of the environment variable that holds the API key; absent: no key",
    )
    concurrency: int = Field(8, ge=1, le=10_000, description="requests at a time")
    timeout: float = Field(120.0, gt=0, le=10**6, description="time limit of a request, in seconds")
    retries: int = Field(6, ge=0, le=100, description="how often a request is sent again after a failure")
    body: dict[str, Any] = Field({}, description="further fields of every request, such as top_k")

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = urlsplit(url)  # raises a ValueError for an invalid one
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address that begins with http:// or https://")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must have no password, query or fragment: name the key's variable in key_env")
        return url.rstrip("/")

    @field_validator("body")
    @classmethod
    def _other_fields(cls, body: dict[str, Any]) -> dict[str, Any]:
        own = sorted(set(body) & set(OWN))
        if own:
            raise ValueError(f"cannot set {', '.join(own)}")
        return body

    def key(self) -> str | None:
        """Return the API key, or None if none is needed.

        Raises:
            InputError: If httpx2 is not installed, or the key's variable is absent or holds no key, which no
                message shows.
        """
        need(["httpx2"], "a server", "pip install 'recurate[run,text]'")
        if self.key_env is None:
            return None
        found = os.environ.get(self.key_env, "").strip()
        if not found or not found.isascii() or not found.isprintable() or " " in found:
            raise InputError(
                f"the key of the server {self.url} must be in the environment variable {self.key_env}",
                got="a text that is no key" if found else "it is not set",
                remedy=f"export {self.key_env}=... before the command",
            )
        return found


class Bad(Exception):
    """An attempt failed; the request is sent again.

    Args:
        kind: Name of the failure, under which it is counted.
        words: Details.
        pause: Seconds that the server asks to wait.
    """

    def __init__(self, kind: str, words: str = "", pause: float = 0.0) -> None:
        self.kind, self.words, self.pause = kind, words, pause
        super().__init__(f"{kind}: {words}" if words else kind)


@dataclass(frozen=True)
class Reply:
    """What a server sent.

    Attributes:
        status: HTTP status.
        headers: Headers.
        content: Body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    def words(self) -> str:
        """Return the server's message."""
        try:
            found = json.loads(self.content)
            for name in ("error", "message", "detail"):
                found = found.get(name, found) if isinstance(found, dict) else found
            text = found if isinstance(found, str) else json.dumps(found)
        except (ValueError, RecursionError):
            text = self.content[:1000].decode("utf-8", "replace")
        return short(" ".join(text.split()), 300) if text.strip() else "no message"

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Bad: If it is none, or holds NaN or an infinity.
        """
        try:
            found = json.loads(self.content, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            kind = "NaN in the answer" if isinstance(error, _NotFinite) else "bad JSON"
            raise Bad(kind, short(str(error))) from None
        if not isinstance(found, dict):
            raise Bad("bad JSON", f"{type(found).__name__} in place of an object")
        return found


class _NotFinite(ValueError):
    pass


def tokens(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the numbers of tokens that kept answers took, in words."""
    total = {name: sum(line.get(name) or 0 for line in lines) for name in TOKENS}
    silent = sum(any(line.get(name) is None for name in TOKENS) for line in lines)
    words = f"{total['prompt_tokens']:,} prompt and {total['completion_tokens']:,} completion tokens"
    return words + (f", {silent:,} answers without their numbers not counted" if silent else "")


def _refuse(constant: str) -> None:
    raise _NotFinite(f"{constant} in the answer")


@dataclass(frozen=True)
class Choice:
    """One completion: its text, and whether it was cut at the largest number of tokens."""

    text: str
    cut: bool


@dataclass(frozen=True)
class Answer:
    """An answer that can be used.

    Attributes:
        choices: At least one completion.
        facts: Model, server, fingerprint, number of tokens that were read, and TOKENS and failures of all
            attempts, as JSON values; what the server does not state is absent or None.
    """

    choices: tuple[Choice, ...]
    facts: dict[str, Any]


class Client:
    """Connections to one server; a context manager.

    Args:
        endpoint: Settings of the server.
        remedy: Advice at the end of errors.
        sleep: Function that waits for seconds; None: one that :meth:`each` can end.

    Raises:
        InputError: If httpx2 is not installed, or the key is not set.
    """

    def __init__(
        self, endpoint: Endpoint, remedy: str, sleep: Callable[[float], object] | None = None
    ) -> None:
        self.endpoint, self.remedy = endpoint, remedy
        self._key = endpoint.key()
        import httpx2

        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self._http = httpx2.Client(
            headers={} if self._key is None else {"Authorization": f"Bearer {self._key}"},
            timeout=endpoint.timeout,
            limits=httpx2.Limits(max_connections=None),
            trust_env=not _is_here(str(urlsplit(endpoint.url).hostname)),  # no proxy for this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def each(self, function: Callable[[Item], object], items: Iterable[Item]) -> None:
        """Call a function of every item, several at a time; the first error ends the work."""
        with ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            try:
                for done in as_completed([pool.submit(function, item) for item in items]):
                    done.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def complete(
        self, path: str, body: Mapping[str, Any], usable: Callable[[Choice], object] = lambda choice: None
    ) -> Answer:
        """Return the server's choices for a request, at least one and at most ``n``.

        Args:
            path: ``/chat/completions`` or ``/completions``.
            body: Fields of the request.
            usable: Function that raises :class:`Bad` for a choice that cannot be used.

        Raises:
            InputError: If the server refuses the request, or every attempt failed.
        """
        spent: Counter[str] = Counter()  # by answers that could not be used, too

        def read(reply: Reply) -> Answer:
            found = self.checked(reply).json()
            usage = found.get("usage")
            tokens = {
                name: value
                for name, value in (usage if isinstance(usage, dict) else {}).items()
                if name in TOKENS and type(value) is int and value >= 0
            }
            spent.update(tokens)
            answered = found.get("model")
            if isinstance(answered, str) and not _same(str(body["model"]), answered):
                words = f"{answered!r}, not {body['model']!r}: if it is meant, name it in `model`"
                raise Bad("another model answered", words)
            choices = _choices(found, int(body.get("n", 1)))
            for choice in choices:
                usable(choice)
            facts = {
                "model": answered,
                "server": reply.headers.get("server"),
                "fingerprint": found.get("system_fingerprint"),
                "read_tokens": tokens.get("prompt_tokens"),
            }
            return Answer(choices, facts)

        answer, failures = self.ask(path, {**body, **self.endpoint.body}, read)
        return Answer(
            answer.choices, {**answer.facts, **spent, **({"failures": failures} if failures else {})}
        )

    def ask(self, path: str, body: Mapping[str, Any], read: Callable[[Reply], T]) -> tuple[T, dict[str, int]]:
        """Return what is read from the answer to a request, and the failures before it, by kind.

        Args:
            path: Path after the server's address.
            body: Fields of the request.
            read: Function of the reply that raises :class:`Bad` if it cannot be used; see :meth:`checked`.

        Raises:
            InputError: If every attempt failed, or the server asks for a pause that is too long.
        """
        failures: Counter[str] = Counter()
        content = json.dumps(body, allow_nan=False).encode()
        for attempt in range(self.endpoint.retries + 1):
            try:
                return read(self.send("POST", path, content)), dict(failures)
            except Bad as bad:
                last = bad
            failures[last.kind] += 1
            if attempt < self.endpoint.retries:
                self._pause(attempt, content, last)
        counts = ", ".join(f"{count} x {kind}" for kind, count in failures.items())
        raise InputError(
            f"the server {self.endpoint.url} gave no usable answer (attempts: {attempt + 1}): {last.kind}",
            got=self.hidden(last.words or last.kind) + (f" ({counts})" if len(failures) > 1 else ""),
            remedy=self.remedy,
        )

    def checked(self, reply: Reply) -> Reply:
        """Return a reply of status 200.

        Raises:
            Bad: If the server is busy or in trouble.
            InputError: If it refuses the request.
        """
        if reply.status == 200:
            return reply
        kind, words = f"HTTP {reply.status}", self.hidden(reply.words())
        if reply.status in BUSY or reply.status >= 500:
            raise Bad(kind, f"{kind}: {words}", _asked_pause(reply.headers.get("retry-after", "")))
        named = {401: ", key_env", 403: ", key_env", 404: ", model and url"}.get(reply.status, "")
        raise InputError(
            f"the server {self.endpoint.url} refuses the request",
            got=f"{kind}: {words}",
            remedy=f"correct the settings{named}; {self.remedy}",
        )

    def send(self, method: str, path: str, content: bytes = b"") -> Reply:
        """Send a request once.

        Raises:
            Bad: If the connection fails, or the answer is cut, too late or too large.
        """
        import httpx2

        limit, found = time.monotonic() + self.endpoint.timeout, bytearray()
        late = Bad("timed out", f"no whole answer within {self.endpoint.timeout:g} seconds")
        url = path if "://" in path else f"{self.endpoint.url}{path}"
        json_type = {"Content-Type": "application/json"} if content else {}
        try:
            with self._http.stream(method, url, content=content, headers=json_type) as response:
                for part in response.iter_bytes():
                    found += part
                    if time.monotonic() > limit:
                        raise late
                    if len(found) > LARGEST:
                        raise Bad("too large an answer", f"more than {LARGEST:,} bytes")
                return Reply(response.status_code, response.headers, bytes(found))
        except httpx2.TimeoutException:
            raise late from None
        except httpx2.RemoteProtocolError as error:
            raise Bad("cut answer", str(error)) from None
        except httpx2.RequestError as error:
            raise Bad("no connection", str(error) or type(error).__name__) from None

    def wait(self, seconds: float) -> None:
        """Wait, unless the work is stopped.

        Raises:
            InputError: If it is stopped.
        """
        self._sleep(seconds)
        if self._stop.is_set():
            raise InputError("the work was stopped", got="an error elsewhere", remedy=self.remedy)

    def version(self) -> str | None:
        """Return the version that the server states, where vLLM, SGLang and llama.cpp do; or None."""
        for path, name in VERSIONS:
            try:
                reply = self.send("GET", f"{self.endpoint.url.removesuffix('/v1')}/{path}")
                found = reply.json().get(name) if reply.status == 200 else None
            except Bad:
                continue
            if isinstance(found, str):
                return found[:80]
        return None

    def hidden(self, text: str) -> str:
        """Return a text without the key."""
        return text if self._key is None else text.replace(self._key, "***")

    def _pause(self, attempt: int, content: bytes, bad: Bad) -> None:
        if bad.pause > PATIENCE:
            raise InputError(
                f"the server {self.endpoint.url} asks to wait for {bad.pause:,.0f} seconds",
                got=self.hidden(bad.words),
                remedy=self.remedy,
            )
        # Requests that failed together are spread over the pause; it is never part of the result.
        where = hashlib.sha256(content).hexdigest()
        share = Stream(attempt, (where,)).generator().random()
        pause = min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE) * (0.5 + 0.5 * share)
        self.wait(max(pause, bad.pause))


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same(asked: str, answered: str) -> bool:
    """Return whether a model's name is the one that was asked for, perhaps with a version."""
    rest = answered[len(asked) :]
    return answered.startswith(asked) and (not rest or DATED.fullmatch(rest) is not None)


def _choices(found: Mapping[str, Any], n: int) -> tuple[Choice, ...]:
    """Return the choices of an answer.

    Raises:
        Bad: If there are none or more than n, or one has no text.
    """
    listed = found.get("choices")
    if not isinstance(listed, list) or not listed:
        raise Bad("no choices", short(json.dumps(found)))
    if len(listed) > n:
        raise Bad("too many choices", f"{len(listed)} choices, {n} asked for")
    out = []
    for choice in listed:
        whole = choice if isinstance(choice, dict) else {}
        message = whole.get("message")
        text = message.get("content") if isinstance(message, dict) else whole.get("text")
        reason = whole.get("finish_reason")
        if reason in BROKEN:
            raise Bad("broken choice", f"finish_reason = {reason!r}")
        if not isinstance(text, str):
            raise Bad("choice without text", short(json.dumps(choice)))
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Bad("bad text", "half of a surrogate pair, which is no character") from None
        out.append(Choice(text, reason == "length"))
    return tuple(out)


def _asked_pause(value: str) -> float:
    """Return the seconds of a header Retry-After: a number, or a date; 0 if it is neither."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
