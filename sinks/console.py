"""The terminal: sessions as they are now, or one line a prediction where it is no terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live

from engine.clock import Clock, MonotonicClock
from engine.types import Message
from sinks.panel import Marks, SessionState, draw, overview, plain

__all__ = ["ConsoleSink"]

_REDRAW_S = 0.1


class ConsoleSink:
    """Shows messages on `console` (default: the standard output).

    A terminal shows a panel for each session, or a row where the panels do not fit, drawn anew at
    most ten times a second. Elsewhere predictions, events and markers become plain lines.
    """

    def __init__(self, console: Console | None = None, clock: Clock | None = None) -> None:
        self._console = console or Console()
        self._clock = clock or MonotonicClock()
        self._states: dict[str, SessionState] = {}
        self._marks = Marks.ascii() if self._console.options.ascii_only else Marks()
        self._drawn_s = -_REDRAW_S
        self._live: Live | None = None

    def write(self, message: Message) -> None:
        """Show one more message."""
        state = self._states.setdefault(message.session, SessionState(message.session))
        state.take(message)
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            if (text := plain(message, state)) is not None:
                print(text, file=self._console.file, flush=True)
            return
        now_s = self._clock.now()
        if now_s - self._drawn_s >= _REDRAW_S:
            self._drawn_s = now_s
            self._draw()

    def close(self) -> None:
        """Leave the last state standing."""
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._screen(), refresh=True)

    def _screen(self) -> RenderableType:
        """Panels while they fit, else a row for each session."""
        states = [self._states[name] for name in sorted(self._states)]
        panels = Group(*(draw(state, self._marks) for state in states))
        n_lines = len(self._console.render_lines(panels, pad=False))
        if len(states) == 1 or n_lines < self._console.height:
            return panels
        return overview(states, self._marks)
