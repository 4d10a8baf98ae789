"""Serves the page: files of its own, and JSON read from the indexes. Only reads, and only for this machine's own names.

Requests enter, answers leave. What a page of another site could do is closed off: only GET, no host name that is not ours
(DNS rebinding), no request that a browser marks as another site's, a Content-Security-Policy that runs nothing but our files.
"""

import ipaddress
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from replay.watch.follow import Following
from replay.watch.index import Index
from replay.watch.plots import VIEWS, as_json, figures_of, standings_of
from replay.watch.rollouts import BANDS, ORDERS, answers_of_version, find_prompts, prompt_history, rollout_tokens
from replay.watch.state import progress_of, state_of
from replay.watch.tokens import Tokens
from stream.errors import UserError

PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/watch.css": ("watch.css", "text/css"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript") for name in ("app", "dom", "plots", "rollouts", "theme")},
}
ALARMS_EVERY_S = 10.0
BUSY_SHARE = 0.05
"""What was worked out is worked out anew after so long that it takes no more of a core than this, while the run goes on."""

_EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""An empty style element, which plotly.js makes and fills rule by rule. It also tries one for maps, which stays refused."""
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_EMPTY_STYLE}; style-src-attr 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(slots=True)
class Watched:
    """One run that the page shows."""

    index: Index
    following: Following
    tokens: Tokens


@dataclass(slots=True)
class _Kept:
    value: bytes
    changes: int
    made_s: float
    cost_s: float


@dataclass(slots=True)
class Cache:
    """Answers that cost something, until the index has changed and enough time has passed."""

    _kept: dict[tuple[object, ...], _Kept] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[object, ...], changes: int, make: Callable[[], bytes]) -> bytes:
        """The answer under a key, made anew if it is old."""
        with self._lock:  # one at a time: two browsers need the same answers
            kept, now = self._kept.get(key), time.monotonic()
            if kept is None or (kept.changes != changes and now - kept.made_s >= kept.cost_s / BUSY_SHARE):
                value = make()
                kept = self._kept[key] = _Kept(value, changes, now, time.monotonic() - now)
            return kept.value


def app_of(runs: Sequence[Watched]) -> "Guard":
    """The page of these runs, the first one in front."""
    pages = Pages(runs)
    routes = [Route(path, _file(name, kind)) for path, (name, kind) in PAGE_FILES.items()]
    routes.append(Route("/plotly.js", _plotly))
    for path, answer in (
        ("state", pages.state),
        ("plots/{view}", pages.plots),
        ("runs", pages.runs),
        ("letters", pages.letters),
        ("prompts", pages.prompts),
        ("prompt", pages.prompt),
        ("answers", pages.answers),
        ("rollout", pages.rollout),
    ):
        routes.append(Route(f"/api/{path}", answer))
    return Guard(Starlette(routes=routes, exception_handlers={UserError: _mistake}))


class Pages:
    """Answers the page's questions. Each runs in a thread of the server's."""

    def __init__(self, runs: Sequence[Watched]) -> None:
        self._runs = runs
        self._cache = Cache()

    def state(self, request: Request) -> Response:
        """How all runs go."""
        states = [self._state(watched) for watched in self._runs]
        return _json({"runs": states, "bands": list(BANDS), "orders": list(ORDERS)})

    def _state(self, watched: Watched) -> dict[str, Any]:
        index, following = watched.index, watched.following
        changes = index.changes + int(time.monotonic() // ALARMS_EVERY_S)  # silence is an alarm too
        kept = self._cache.get(("state", index.run), changes, lambda: as_json(state_of(index, following)))
        state: dict[str, Any] = json.loads(kept)
        return state | progress_of(following) | {"changes": index.changes}

    def plots(self, request: Request) -> Response:
        """The figures of one view."""
        view = request.path_params["view"]
        if view not in VIEWS:
            raise UserError(f"there is no view {view[:40]!r}; want one of {', '.join(VIEWS)}")
        indexes = [watched.index for watched in self._runs]
        return _bytes(self._cache.get(("plots", view), self._changes(), lambda: as_json(figures_of(view, indexes))))

    def runs(self, request: Request) -> Response:
        """The runs side by side."""
        indexes = [watched.index for watched in self._runs]
        return _bytes(self._cache.get(("runs",), self._changes(), lambda: as_json(standings_of(indexes))))

    def letters(self, request: Request) -> Response:
        """The newest dead letters."""
        query = "SELECT role, topic, partition, record, substr(error, 1, 500) AS error, created_s FROM letters"
        return _json({"letters": self._run(request).index.dicts(f"{query} ORDER BY no DESC LIMIT 100")})

    def prompts(self, request: Request) -> Response:
        """A page of prompts."""
        asked = request.query_params
        text, band, order = asked.get("q", "")[:200], asked.get("band", ""), asked.get("order") or "newest"
        return _json(find_prompts(self._run(request).index, text, band, order, _number(asked, "offset")))

    def prompt(self, request: Request) -> Response:
        """One prompt and its history."""
        asked = request.query_params
        return _json(prompt_history(self._run(request).index, _number(asked, "no"), _number(asked, "offset")))

    def answers(self, request: Request) -> Response:
        """What one version answered to a prompt."""
        asked = request.query_params
        return _json(answers_of_version(self._run(request).index, _number(asked, "no"), _number(asked, "version")))

    def rollout(self, request: Request) -> Response:
        """One rollout, token by token."""
        watched = self._run(request)
        return _json(rollout_tokens(watched.index, _number(request.query_params, "no"), watched.tokens))

    def _run(self, request: Request) -> Watched:
        name = request.query_params.get("run", "")
        for watched in self._runs:
            if watched.index.run == name or not name:
                return watched
        raise UserError(
            f"run {name[:80]!r} is not watched here; want one of {', '.join(w.index.run for w in self._runs)}"
        )

    def _changes(self) -> int:
        return sum(watched.index.changes for watched in self._runs)


def _number(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UserError(f"{name} is {text[:40]!r}; want a whole number")
    return int(text)


def _json(value: object) -> Response:
    return _bytes(as_json(value))


def _bytes(value: bytes) -> Response:
    return Response(value, media_type="application/json")


def _mistake(request: Request, error: Exception) -> Response:
    return Response(as_json({"error": str(error)}), status_code=404, media_type="application/json")


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    folder = files("replay") if name == "plots.js" else files("replay.watch").joinpath("page")
    content = folder.joinpath(name).read_bytes()
    return lambda request: Response(content, media_type=kind)


def _plotly(request: Request) -> Response:
    # The file of the package: importing plotly to get it would take half a second.
    with as_file(files("plotly").joinpath("package_data", "plotly.min.js")) as path:
        return FileResponse(path, media_type="text/javascript", headers={"cache-control": "private, max-age=86400"})


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


class Guard:
    """Refuses what the page never asks, and puts the protecting headers on every answer."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """One request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if scope["type"] == "http" and (reason := refusal(scope["method"], dict(scope["headers"]))):
            status, text = reason
            await Response(text, status_code=status, media_type="text/plain")(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def refusal(method: str, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
    """Why a request is refused, as (status, text); None if it is answered."""
    if method not in ("GET", "HEAD"):
        return 405, "this page only reads: GET"
    if not is_ours(headers.get(b"host", b"").decode("latin-1")):
        return 421, "this name is not one of this machine's: use its address, or localhost"
    if (
        headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site")
        and headers.get(b"sec-fetch-mode") != b"navigate"
    ):
        return 403, "this page is not read by other sites"
    return None


def is_ours(host: str) -> bool:
    """Whether a Host header names this machine: an address, localhost, or what the machine calls itself.

    A site that lets its own name point here (DNS rebinding) sends that name, so a name that is not ours is refused.
    """
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() in ("localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
