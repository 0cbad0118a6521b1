"""Prometheus metrics: what health says, at http://127.0.0.1:PORT/metrics."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from engine.access import Access
from engine.errors import ConfigError, ResourceError
from engine.types import Event, Health, Message, Prediction

__all__ = ["MetricsSink"]


class MetricsSink:
    """Serves the counters, lags and latencies of all sessions to Prometheus.

    `port` 0 takes any free one; `port` then tells which. Loopback only, and only under a
    loopback name. Raises ResourceError where the port is taken.
    """

    def __init__(self, port: int = 5573) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app

        if not 0 <= port <= 65535:
            raise ConfigError(f"metrics: port {port} is none; need 0 to 65535")
        self._registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Any:
            return Gauge(f"vagus_{name}", text, ("session", *labels), registry=self._registry)

        self._items = gauge(
            "items", "Items at a stage, as the account counts them.", "stream", "stage", "count"
        )
        self._dropped = gauge("dropped", "Items dropped.", "stream", "stage", "reason")
        self._lag = gauge("lag_seconds", "How far a stream is behind the clock.", "stream")
        self._latency = gauge("latency_seconds", "Per stage and quantile.", "stage", "quantile")
        self._ready = gauge("ready", "1 while every stream is live.")
        self._degraded = gauge("degraded", "How many reasons make predictions worse.")
        self._confidence = gauge("confidence", "Of the last prediction.")
        self._probability = gauge("probability", "Of the last prediction.", "label")
        self._predictions = Counter(
            "vagus_predictions", "Predictions sent.", ("session", "label"), registry=self._registry
        )
        self._events = Counter(
            "vagus_events", "Events sent.", ("session", "code"), registry=self._registry
        )
        app = make_wsgi_app(self._registry)
        try:
            self._server = make_server(
                "127.0.0.1", port, self._guarded(app), _Server, handler_class=_Quiet
            )
        except OSError as error:
            raise ResourceError(
                f"metrics: port {port} cannot be bound: {error.strerror}; choose another"
            ) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def write(self, message: Message) -> None:
        """Take up what a message tells."""
        session = message.session
        if isinstance(message, Prediction):
            self._predictions.labels(session, message.label or "none").inc()
            if message.probabilities is not None:
                self._confidence.labels(session).set(message.confidence or 0.0)
                for label, p in message.probabilities.items():
                    self._probability.labels(session, label).set(p)
        elif isinstance(message, Event):
            self._events.labels(session, message.code).inc()
        elif isinstance(message, Health):
            self._health(message)

    def close(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _health(self, message: Health) -> None:
        session = message.session
        self._ready.labels(session).set(message.ready)
        self._degraded.labels(session).set(len(message.degraded))
        for stream, stages in message.counters.items():
            for stage, counts in stages.items():
                for name in ("in", "out", "held"):
                    self._items.labels(session, stream, stage, name).set(counts[name])
                for reason, n in counts["dropped"].items():
                    self._dropped.labels(session, stream, stage, reason).set(n)
        for stream, lag_s in message.lag_s.items():
            self._lag.labels(session, stream).set(lag_s)
        for stage, quantiles in message.latency_ms.items():
            for quantile, ms in quantiles.items():
                self._latency.labels(session, stage, quantile).set(ms / 1e3)

    def _guarded(self, app: Any) -> Callable[..., Iterable[bytes]]:
        def serve(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            headers = {"Host": environ.get("HTTP_HOST", "")}
            if "HTTP_ORIGIN" in environ:
                headers["Origin"] = environ["HTTP_ORIGIN"]
            refused = Access(self.port).refusal(environ.get("PATH_INFO", ""), headers)
            if refused is not None:
                start("403 Forbidden", [("Content-Type", "text/plain")])
                return [f"refused: {refused}\n".encode()]
            found: Iterable[bytes] = app(environ, start)
            return found

        return serve


class _Server(WSGIServer):
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up or says nothing is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    timeout = 1.0  # seconds that a client may keep the others waiting

    def log_message(self, *about: object) -> None:
        """Nobody wants a line per scrape."""
