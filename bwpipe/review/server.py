"""The server of the page with corrections: for this computer only, and for whoever knows the token in its address.

Requests must name this server in `Host`, and those that write are POST with a body of known, limited length, from this page.
Paths hold numbers only; what they stand for is looked up in the ledger.
"""

import json
import re
import secrets
import socket
from collections.abc import Callable
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from bwpipe.core.console import printable
from bwpipe.errors import BwpipeError
from bwpipe.review.desk import BusyError, Desk, FrameAsked, HintsAsked, MarkAsked, OutOfDateError
from bwpipe.review.page import page, policy

JSON_BYTES, PICTURE_BYTES = 1 << 20, 64 << 20
"""Most bytes of a body: of a request in JSON, and of a picture."""
_SECONDS = 30
"""How long a client may take for a request."""
_IMAGE = re.compile(r"image/(\d{1,9})/(\d{1,9})/(after|before|large|large-before|loop|[0-2])")
_STATE = re.compile(r"state/(\d{1,9})/(\d{1,9})(?:/(\d{1,9}))?")
_REFERENCE = re.compile(r"reference/(\d{1,9})/(\d{1,9})(?:/(\d{1,9}))?")
_HOSTS = ("127.0.0.1", "localhost")


class ReviewServer(ThreadingHTTPServer):
    """Serves a `Desk` at `address`, on the loopback interface."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, desk: Desk, port: int = 0) -> None:
        """Listen on a port, or on any free one. Raises OSError."""
        self.desk = desk
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        """The address of the page, with its token."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that closes a connection early is no error."""

    def server_bind(self) -> None:
        """Bind without looking up a name, as the base class would."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


class _Refused(Exception):
    """A request that is not answered; the text is for the page."""

    def __init__(self, status: HTTPStatus, text: str = "") -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: ReviewServer
    server_version, sys_version = "bwpipe", ""
    timeout = _SECONDS

    def do_GET(self) -> None:
        """The page, pictures and states: nothing that writes."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Previews, and all that writes."""
        self._answer(self._post)

    def _answer(self, find: Callable[[str], tuple[str, bytes]]) -> None:
        """Answer with what is found, or with why not."""
        try:
            kind, body = find(self._path())
            self._send(HTTPStatus.OK, kind, body)
        except _Refused as error:
            self._send_error(error.status, str(error))
        except OutOfDateError as error:
            self._send_error(HTTPStatus.GONE, str(error))
        except BusyError as error:
            self._send_error(HTTPStatus.CONFLICT, str(error))
        except LookupError:
            self._send_error(HTTPStatus.NOT_FOUND, "there is no such picture")
        except BwpipeError as error:
            self._send_error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            self._send_error(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}")
        except TimeoutError:
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except OSError as error:
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, f"can't be read or written ({error.strerror or error})")

    def _path(self) -> str:
        """The path below the token. Raises _Refused if the request is not for this server, or lacks the token."""
        port = self.server.server_port
        if self.headers.get("Host", "") not in [f"{host}:{port}" for host in _HOSTS]:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST)
        token, slash, rest = self.path.removeprefix("/").partition("/")
        if not (slash and compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())):
            raise _Refused(HTTPStatus.NOT_FOUND)
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers["Host"]:
            raise _Refused(HTTPStatus.FORBIDDEN)
        return rest

    def _get(self, path: str) -> tuple[str, bytes]:
        desk = self.server.desk
        if path == "":
            return "text/html; charset=utf-8", "".join(page(desk.page_data(), live=True)).encode()
        if found := _IMAGE.fullmatch(path):
            return "image/webp", desk.image(int(found[1]), int(found[2]), found[3])
        if found := _STATE.fullmatch(path):
            return _json(desk.state(int(found[1]), int(found[2]), None if found[3] is None else int(found[3])))
        if path == "run":
            return _json(desk.run_state())
        raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self, path: str) -> tuple[str, bytes]:
        desk = self.server.desk
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise _Refused(HTTPStatus.FORBIDDEN)
        if found := _REFERENCE.fullmatch(path):
            data = self._body("application/octet-stream", PICTURE_BYTES)
            asked = FrameAsked(version=int(found[1]), entry=int(found[2]), frame=None if found[3] is None else int(found[3]))
            return _json(desk.put_reference(asked, data))
        actions: dict[str, tuple[type[BaseModel], Callable[[Any], Any]]] = {
            "preview": (HintsAsked, desk.preview),
            "save": (HintsAsked, desk.save),
            "mark": (MarkAsked, desk.mark),
            "remove-reference": (FrameAsked, desk.remove_reference),
            "run": (_Nothing, lambda _: desk.run()),
        }
        if path not in actions:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        model, act = actions[path]
        result = act(model.model_validate_json(self._body("application/json", JSON_BYTES)))
        return ("image/webp", result) if isinstance(result, bytes) else _json(result)

    def _body(self, kind: str, most: int) -> bytes:
        """The body of a request. Raises _Refused."""
        if self.headers.get_content_type() != kind:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {kind}")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,12}", length) or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "say how long it is")
        if int(length) > most:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"it is larger than {most >> 20} MB")
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise _Refused(HTTPStatus.BAD_REQUEST, "it was cut short")
        return data

    def _send_error(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True
        self._send(status, "application/json", json.dumps({"error": printable(text or status.phrase)}).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", f"{policy(live=True)}; frame-ancestors 'none'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        kept = kind == "image/webp" and status == HTTPStatus.OK and self.command == "GET"
        self.send_header("Cache-Control", "private, max-age=3600" if kept else "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (named by the base class)
        """Log nothing: the address holds the token."""


class _Nothing(BaseModel):
    """A request that says nothing else."""


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, default=str).encode()
