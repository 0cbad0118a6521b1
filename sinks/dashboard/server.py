"""The dashboard's server: static files and one WebSocket, between the pages and the engine."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import zmq

from engine.access import Access, door_log, new_token
from engine.control import ControlError, request
from engine.errors import ResourceError, VagusError
from engine.keys import ClientKeys
from engine.types import Message, Prediction
from engine.wire import decode
from sinks.dashboard.client import Client, unpack_json
from sinks.dashboard.feed import MessageFeed, PreviewFeed
from sinks.dashboard.story import Story, preview_text, text

__all__ = ["Dashboard"]

VERBS = frozenset(
    ("mark", "mute", "unmute", "calibrate", "record", "stop_record", "pause", "resume")
)
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_LIVE = "/live"
_MAX_IN = 4096  # bytes that a page may send at once
_MAX_PAGES = 32
_FULL = 4002
_TEND_S = 1.0
_RENEW_EVERY = 3  # tends
_ASK_S = 3.0
_SHAKE_S = 1.0  # browsers open connections to spare, and say nothing on them
_RECORDING = "rec/%p_%t.mcap"  # a page does not choose what is written where
_RECALLED = 600  # predictions of the time before somebody listened
_MAX_SEQ = 1 << 53
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' ws://127.0.0.1:* ws://localhost:*; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Dashboard:
    """Serves the page of the engine that publishes at `publish` on 127.0.0.1:`port`.

    A reader of the prediction socket like any other; what the page's buttons do goes through the
    control socket, and of its verbs only VERBS. The page and its WebSocket need the exact Host
    and Origin, and `token` in the address; without one given, one is made. `port` 0 takes any.
    """

    def __init__(
        self,
        publish: str,
        control: str,
        port: int = 5572,
        token: str | None = None,
        keys: ClientKeys | None = None,
    ) -> None:
        self._publish, self._control, self._keys = publish, control, keys
        self.port, self.token = port, token or new_token()
        self._context: zmq.Context[Any] = zmq.Context()
        self._stories: dict[str, Story] = {}
        self._clients: set[Client] = set()
        self._files = _page()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked_for: set[str] = set()  # the sessions that the engine makes previews of

    @property
    def address(self) -> str:
        """What to open in a browser, with the token."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def stop(self) -> None:
        """End `serve`; from the loop's own thread."""
        self._over.set()

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until `stop`; calls `ready` once the port is bound."""
        from websockets.asyncio.server import serve

        loop = asyncio.get_running_loop()
        messages = MessageFeed(
            self._context, self._publish, self._keys,
            lambda message: _call(loop, self._take, message),
        )  # fmt: skip
        self._previews = PreviewFeed(
            self._context, self._publish, self._keys, lambda told: _call(loop, self._show, told)
        )
        feeds = (messages, self._previews)
        for feed in feeds:
            feed.start()
        try:
            server = await serve(
                self._talk, "127.0.0.1", self.port, process_request=self._answer,
                max_size=_MAX_IN, compression=None, open_timeout=_SHAKE_S,
                close_timeout=_SHAKE_S, logger=door_log(),
            )  # fmt: skip
            self.port = server.sockets[0].getsockname()[1]
            async with server:
                ready()
                tending = asyncio.create_task(self._tend())
                await self._over.wait()
                tending.cancel()
                await self._look_away(set(self._asked_for))
        except OSError as error:
            raise ResourceError(
                f"dashboard: port {self.port} cannot be bound: {error.strerror}; choose another "
                "with --port"
            ) from error
        finally:
            for feed in feeds:
                await asyncio.to_thread(feed.stop)
            self._context.term()

    # -- the engine's side --------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        session = message.session
        story = self._stories.get(session)
        if story is None or story.run != message.run:
            engine = _engine(message.run)
            gone = [name for name, s in self._stories.items() if _engine(s.run) != engine]
            for name in gone:
                del self._stories[name]
            story = self._stories[session] = Story(message.run)
            self._send(None, text("sessions", sessions=sorted(self._stories)))
            self._soon(self._recall(session, story, "event", 0, _MAX_SEQ))
        if isinstance(message, Prediction) and story.begins:
            first = max(0, message.seq - _RECALLED)
            self._soon(self._recall(session, story, "prediction", first, message.seq))
        self._send(session, story.take(message))

    async def _recall(self, session: str, story: Story, kind: str, first: int, last: int) -> None:
        """What the engine still has of the time before somebody listened."""
        with contextlib.suppress(VagusError):  # then the page begins with now
            args = {"session": session, "kind": kind, "first": first, "last": last}
            kept = (await self._ask("fetch", args))["messages"]
            told = story.precede([decode(kind, body) for body in kept])
            self._send(session, told)

    def _soon(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _show(self, told: dict[str, Any]) -> None:
        if any(client.looks_at(told["session"]) for client in self._clients):
            self._send(told["session"], preview_text(told), spare=True)

    def _send(self, session: str | None, told: str, spare: bool = False) -> None:
        for client in list(self._clients):
            if session is None or client.session == session:
                client.send(told, spare)

    async def _tend(self) -> None:
        """Once a second: how the sources are; now and then: go on showing previews."""
        turn = 0
        while True:
            watched = {c.session for c in self._clients if c.session is not None}
            looked = {s for s in watched if any(c.looks_at(s) for c in self._clients)}
            self._previews.want(looked)
            await self._look_away(self._asked_for - looked)
            if watched:
                await self._tell_status()
            if turn % _RENEW_EVERY == 0:
                for session in looked:
                    await self._renew(session)
            turn += 1
            await asyncio.sleep(_TEND_S)

    async def _tell_status(self) -> None:
        try:
            found = await self._ask("status", {})
        except VagusError as error:
            self._send(None, text("engine", ok=False, message=str(error)))
            return
        for session, about in found["sessions"].items():
            self._send(session, text("status", engine=found["engine"], **about))

    async def _renew(self, session: str) -> None:
        self._asked_for.add(session)
        try:
            found = await self._ask("preview", {"session": session, "on": True})
        except VagusError:
            return  # the engine is away, or the session over: the status tells it
        self._send(session, text("sensors", sensors=found.get("sensors", {})))

    async def _look_away(self, sessions: set[str]) -> None:
        self._asked_for -= sessions
        for session in sessions:
            with contextlib.suppress(VagusError):
                await self._ask("preview", {"session": session, "on": False})

    async def _ask(self, verb: str, args: Mapping[str, Any]) -> Any:
        return await asyncio.to_thread(
            request, self._control, verb, args, _ASK_S, context=self._context, keys=self._keys
        )

    # -- the pages' side ----------------------------------------------------------------------

    def _answer(self, connection: Any, asked: Any) -> Any:
        """A file or a refusal over HTTP; None where the WebSocket may open."""
        path = urlsplit(asked.path).path
        named = {
            name: ", ".join(values)
            for name in ("Host", "Origin", "Authorization")
            if (values := asked.headers.get_all(name))
        }
        open_to_all = path in self._files and path != "/"  # the same in every installation
        refused = Access(self.port, None if open_to_all else self.token).refusal(asked.path, named)
        if refused is not None:
            hint = "; open the address that 'vagus dashboard' printed" if refused == "token" else ""
            status = 401 if refused == "token" else 403
            return _response(status, f"refused: {refused}{hint}\n".encode(), "text/plain")
        if path == _LIVE:
            return None
        if path not in self._files:
            return _response(404, b"there is no such page\n", "text/plain")
        kind, body = self._files[path]
        return _response(200, body, kind)

    async def _talk(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        if len(self._clients) >= _MAX_PAGES:
            await connection.close(_FULL, "too many pages")
            return
        client = Client(connection)
        client.send(text("sessions", sessions=sorted(self._stories)))
        self._clients.add(client)
        try:
            async for told in connection:
                await self._hear(client, told)
        except ConnectionClosed:  # however it ended: the page comes back by itself
            pass
        finally:
            self._clients.discard(client)

    async def _hear(self, client: Client, told: str | bytes) -> None:
        """What a page says: which session it shows, or what the engine shall do."""
        try:
            asked = unpack_json(told)
            if asked.get("type") == "watch":
                self._watch(client, asked)
            else:
                client.send(text("reply", id=asked.get("id"), **await self._do(client, asked)))
        except ValueError as error:
            client.send(text("reply", id=None, ok=False, message=str(error)))

    def _watch(self, client: Client, asked: dict[str, Any]) -> None:
        session, look = asked.get("session"), asked.get("look") is True
        before, client.look = client.session, look
        if session not in self._stories:
            raise ValueError(f"there is no session {session!r}")
        client.session = session
        if session != before:
            for told in self._stories[session].told():
                client.send(told)
        if look:
            self._previews.want({c.session for c in self._clients if c.session and c.look})
            self._soon(self._renew(session))

    async def _do(self, client: Client, asked: dict[str, Any]) -> dict[str, Any]:
        verb, args = asked.get("verb"), asked.get("args")
        if verb not in VERBS or not isinstance(args, dict) or client.session is None:
            raise ValueError(f"a page cannot ask for {verb!r}")
        given = {"session": client.session} | ({"path": _RECORDING} if verb == "record" else {})
        try:
            result = await self._ask(verb, args | given)
        except ControlError as error:
            return {"ok": False, "code": error.code, "message": str(error)}
        except VagusError as error:
            return {"ok": False, "code": "failed", "message": str(error)}
        return {"ok": True, "result": result}


def _engine(run: str) -> str:
    """The part of a run's id that all sessions of one engine share."""
    return run.partition("-")[0]


def _call(loop: asyncio.AbstractEventLoop, do: Callable[[Any], None], what: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: nobody looks
        loop.call_soon_threadsafe(do, what)


def _page() -> dict[str, tuple[str, bytes]]:
    """{path: (type, content)} of everything that the page is made of."""
    folder = importlib.resources.files("sinks.dashboard") / "page"
    files = {
        f"/{file.name}": (_TYPES[file.name.rpartition(".")[2]], file.read_bytes())
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in _TYPES
    }
    files["/"] = files.pop("/index.html")
    return files


def _response(status: int, body: bytes, kind: str) -> Any:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    headers = Headers({
        "Content-Type": f"{kind}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Connection": "close",
    })  # fmt: skip
    return Response(status, HTTPStatus(status).phrase, headers, body)
