"""A server that speaks OpenAI's API on the loopback, and fails on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "429", "500", "cut", "empty", "fewer", "slow", "wrong model", "nan", "bad json", "no text", "more",
    "half",
)  # fmt: skip
Says = Callable[[dict[str, Any], int], str]


def echo(body: dict[str, Any], number: int) -> str:
    """A text that tells which completion of which request it is."""
    return f"text {body.get('seed')}.{number}"


class FakeServer:
    """A context manager; ``faults`` are what the next requests meet, one each, before all is well.

    Attributes:
        bodies: Body of every request for completions.
        headers: Headers of the same.
        others: Path and body of every other request.
        replies: Status and text of requests with other paths.
        usage: Whether numbers of tokens are stated.
        most: Largest number of choices; 1: as a server that ignores n.
    """

    def __init__(self, says: Says = echo, most: int = 10**6, port: int = 0) -> None:
        self.says, self.most = says, most
        self.usage = True
        self.faults: list[str] = []
        self.always: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.others: list[tuple[str, Any]] = []
        self.replies: dict[str, tuple[int, str]] = {}
        self.good = 0  # answers without a fault
        self.enough: int | None = None  # good answers after which every request gets status 500
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "fake/1.0", ""

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                fake.other(self, None)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                if self.path.endswith("/completions"):
                    fake.complete(self, body)
                else:
                    fake.other(self, body)

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self) -> FakeServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def other(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        with self.lock:
            self.others.append((handler.path, body))
        status, text = self.replies.get(handler.path, (404, "no such path"))
        self.send(handler, status, text.encode())

    def complete(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            fault = self.faults.pop(0) if self.faults else self.always
            if fault is None and self.enough is not None and self.good >= self.enough:
                fault = "500"
            self.good += fault is None
        n = min(body.get("n", 1), self.most)
        chat = "messages" in body
        choices = [self.choice(chat, i, self.says(body, i)) for i in range(n)]
        answer = {
            "id": "x",
            "model": body["model"],
            "system_fingerprint": "fp_1",
            "choices": choices,
            "usage": self.usage
            and {"prompt_tokens": len(body.get("prompt", "ab")), "completion_tokens": 3 * n},
        }
        if fault in ("429", "500", "400", "401", "404"):
            key = handler.headers.get("Authorization", "")
            words = json.dumps({"error": {"message": f"status {fault} for {key}", "code": int(fault)}})
            wait = {"Retry-After": "7"} if fault == "429" else {}
            self.send(handler, int(fault), words.encode(), **wait)
            return
        if fault == "empty":
            answer["choices"] = []
        elif fault == "fewer":
            answer["choices"] = choices[: max(n // 2, 1)]
        elif fault == "more":
            answer["choices"] = [*choices, *choices]
        elif fault == "wrong model":
            answer["model"] = "somebody else"
        elif fault == "no text":
            answer["choices"] = [self.choice(chat, 0, None)]
        elif fault == "half":
            answer["choices"] = [self.choice(chat, 0, "\ud83d")]
        elif fault == "nan":
            answer["choices"][0]["logprobs"] = {"token_logprobs": [float("nan")]}
        elif fault == "slow":
            time.sleep(0.6)
        content = json.dumps(answer).encode()
        if fault == "bad json":
            content = content[: len(content) // 2]
        self.send(handler, 200, content, cut=fault == "cut")

    @staticmethod
    def choice(chat: bool, index: int, text: str | None) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {"index": index, "finish_reason": "stop", **said}

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler, status: int, content: bytes, cut: bool = False, **headers: str
    ) -> None:
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(content)))
            handler.send_header("Content-Type", "application/json")
            handler.end_headers()
            handler.wfile.write(content[: len(content) // 2] if cut else content)
            handler.close_connection = True
        except OSError:
            pass  # the client has left
