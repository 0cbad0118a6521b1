"""One open page: what it shows, and how much may wait on its way."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Client", "unpack_json"]

_SPARE = 1 << 17  # bytes under way, from which on previews are left out
_SLOW = 1 << 21  # from which on it is cut off as too slow: it comes back and starts afresh


class Client:
    """A page with the session that it shows; `look` says whether somebody sees it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.session: str | None = None
        self.look = False

    def looks_at(self, session: str) -> bool:
        """Whether this page shows `session` to somebody."""
        return self.look and self.session == session

    def send(self, told: str, spare: bool = False) -> None:
        """Write a text, without waiting; what is `spare` may be left out."""
        from websockets.asyncio.server import broadcast

        waiting = self._connection.transport.get_write_buffer_size()
        if waiting > _SLOW:
            self._connection.transport.abort()
        elif not (spare and waiting > _SPARE):
            broadcast([self._connection], told)


def unpack_json(told: str | bytes) -> dict[str, Any]:
    """The map in a page's message; raises ValueError for anything else."""
    try:
        asked = msgspec.json.decode(told)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise ValueError("expected a JSON object")
    return asked
