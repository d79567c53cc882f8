"""What stands before MONAI Label: only pages and programs of this machine get through."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class LoopbackGuard:
    """ASGI application that refuses requests which a web page from elsewhere makes, and tells of start and end.

    A server on 127.0.0.1 is out of other machines' reach, but not of the browser on this one: MONAI Label lets any page
    read its answers (CORS from everywhere), and a page whose name is pointed to 127.0.0.1 (DNS rebinding) would count
    as the server's own. So the header Host must name this machine, and Origin, which browsers send, too.

    Args:
        app: the application behind.
        on_start: is called when the server answers.
        on_end: is called when it is about to end.
    """

    def __init__(self, app: App, on_start: Callable[[], None], on_end: Callable[[], None]) -> None:
        self.app, self.on_start, self.on_end = app, on_start, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, *self._listening(receive, send))
        elif scope["type"] == "http" and (fault := _fault(scope)) is not None:
            body = fault.encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await self.app(scope, receive, send)

    def _listening(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        async def listening_receive() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.on_end()
            return message

        async def listening_send(message: MutableMapping[str, Any]) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.on_start()

        return listening_receive, listening_send


def _fault(scope: Scope) -> str | None:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    if host not in LOOPBACK:
        return (
            f"this server answers to {', '.join(LOOPBACK)} alone, not to {host}; use http://127.0.0.1 or an SSH tunnel"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).hostname not in LOOPBACK:
        return f"pages of {origin} may not use this server"
    return None
