"""Adaptation to a person: what a session learns of its features, and how later ones are told by it.

Every method keeps the moments of feature vectors in float64, added in the order of ticks, so what
comes out depends on the windows alone. `rest` takes away the mean of a calibration, `whiten` sets
covariances in relation to that of a calibration, `cumulative` standardises by all that came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

from engine.arguments import misfits
from engine.errors import BundleError, ConfigError
from engine.plugins import nearest
from engine.types import Array, StreamInfo

__all__ = ["UNCALIBRATED", "Adapter", "State", "Tell", "adapter", "needs_calibration"]

UNCALIBRATED = "uncalibrated"  # why a modality is missing before its adapter knows enough

State: TypeAlias = dict[str, Any]  # plain: {"method", "n", "mean": [...], "m2": [...]}
Tell: TypeAlias = Callable[[float, dict[str, Any]], None]  # hears when and how one ended
_Transform: TypeAlias = Callable[[Array], Array]  # (features,) float64 to the same

_TOLERANCE_S = 1e-6
_FEWEST = 2  # windows that a calibration needs
_LEAST_SHARE = 1e-6  # of a mean: a deviation below is that of rounding
_LEAST = 1e-12
_LEAST_EIGENVALUE = 1e-9  # of the largest


class Adapter(Protocol):
    """What one input of one session has learnt; called once for each of its windows, in order."""

    @property
    def state(self) -> State | None:
        """What it has learnt, for another session; None before it knows enough."""
        ...

    def __call__(self, t: float, x: Array) -> Array | None:
        """The adapted (features,) float32 of the window that ends at `t`; None: not yet."""
        ...

    def refusal(self, seconds: float) -> str:
        """Why `calibrate` would be refused; empty if it would not."""
        ...

    def calibrate(self, start_s: float, seconds: float) -> None:
        """Learn from the windows that lie wholly in the `seconds` from `start_s` on."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what another session learnt."""
        ...


def adapter(
    spec: Mapping[str, Any],
    info: StreamInfo,
    n_features: int,
    window_s: float,
    hop_s: float,
    tell: Tell,
) -> Adapter:
    """What an input's `adapt` ({"method": ..., **arguments}) describes.

    `info` is that of the features' windows. Raises BundleError or ConfigError for what is unknown
    or does not fit.
    """
    args = dict(spec)
    method = args.pop("method", None)
    if method not in _METHODS:
        hint = nearest(str(method), _METHODS) or f"; known: {', '.join(_METHODS)}"
        raise BundleError(f"adapt: no method is called {method!r}{hint}")
    if not n_features:
        raise BundleError("adapt: changes feature vectors; the input names no features")
    factory = _METHODS[method]
    for key, problem in misfits(args, factory, ("info", "n_features", "hop_s")):
        raise ConfigError(f"adapt, method {method!r}{key and f', argument {key!r}'}: {problem}")
    if factory is _Cumulative:
        return _Cumulative(n_features, hop_s, **args)
    return _Calibrated(method, n_features, window_s, factory(info, n_features, **args), tell)


def needs_calibration(spec: Mapping[str, Any] | None) -> bool:
    """Whether an input with this `adapt` gives nothing before it was calibrated."""
    return spec is not None and spec.get("method") in ("rest", "whiten")


class _Moments:
    """Count, mean and summed squares about it of vectors (features,), after Welford (1962)."""

    def __init__(self, n_features: int) -> None:
        self.n = 0
        self.mean: Array = np.zeros(n_features)
        self.m2: Array = np.zeros(n_features)

    def add(self, x: Array) -> None:
        """One more vector."""
        self.n += 1
        off = x - self.mean
        self.mean += off / self.n
        self.m2 += off * (x - self.mean)

    def deviation(self) -> Array:
        """Per feature, with a floor where it is but rounding."""
        floor = np.maximum(_LEAST_SHARE * np.abs(self.mean), _LEAST)
        found: Array = np.maximum(np.sqrt(self.m2 / max(self.n, 1)), floor)
        return found

    def told(self, method: str) -> State:
        """As plain numbers and lists."""
        return {
            "method": method, "n": self.n, "mean": self.mean.tolist(), "m2": self.m2.tolist()
        }  # fmt: skip

    @staticmethod
    def of(state: Mapping[str, Any], method: str, n_features: int) -> _Moments:
        """Those that `told` gave; raises ConfigError for anything else."""
        if state.get("method") != method:
            raise ConfigError(f"adapt: a state of method {state.get('method')!r}; need {method!r}")
        made = _Moments(n_features)
        try:
            made.n = int(state["n"])
            made.mean = np.array(state["mean"], np.float64)
            made.m2 = np.array(state["m2"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"adapt: the state is none: {error}") from error
        finite = np.isfinite(made.mean).all() and np.isfinite(made.m2).all()
        if made.mean.shape != (n_features,) or made.m2.shape != (n_features,) or not finite:
            raise ConfigError(f"adapt: the state needs {n_features} finite means and m2")
        return made


class _Calibrated:
    """Applies `form` of the moments that a calibration found; gives nothing before there was one.

    A new calibration replaces the old one when it is over; until then the old one counts.
    """

    def __init__(
        self,
        method: str,
        n_features: int,
        window_s: float,
        form: Callable[[_Moments], _Transform],
        tell: Tell,
    ) -> None:
        self._method, self._n, self._window_s = method, n_features, window_s
        self._form, self._tell = form, tell
        self._span: tuple[float, float] | None = None  # of the calibration under way
        self._gathered = _Moments(n_features)
        self._known: _Moments | None = None
        self._transform: _Transform | None = None

    @property
    def state(self) -> State | None:
        return None if self._known is None else self._known.told(self._method)

    def __call__(self, t: float, x: Array) -> Array | None:
        transform = self._transform
        wide = x.astype(np.float64)
        if self._span is not None:
            start_s, end_s = self._span
            begin_s = t - self._window_s
            inside = begin_s >= start_s - _TOLERANCE_S and t <= end_s + _TOLERANCE_S
            if inside:
                self._gathered.add(wide)
            if t >= end_s - _TOLERANCE_S:
                self._finish(t)
            if not inside:
                transform = self._transform
        return None if transform is None else transform(wide).astype(np.float32)

    def refusal(self, seconds: float) -> str:
        if math.isfinite(seconds) and seconds >= self._window_s:
            return ""
        return f"{seconds:g} s hold no window of {self._window_s:g} s; calibrate for longer"

    def calibrate(self, start_s: float, seconds: float) -> None:
        if refusal := self.refusal(seconds):
            raise ConfigError(f"calibrate: {refusal}")
        self._span = (start_s, start_s + seconds)
        self._gathered = _Moments(self._n)

    def restore(self, state: Mapping[str, Any]) -> None:
        self._know(_Moments.of(state, self._method, self._n))

    def _know(self, moments: _Moments) -> None:
        self._known, self._transform = moments, self._form(moments)

    def _finish(self, t: float) -> None:
        self._span = None
        n = self._gathered.n
        if n < _FEWEST:
            why = f"{n} whole windows were usable; need {_FEWEST} or more"
            self._tell(t, {"calibration": "failed", "windows": n, "why": why})
            return
        self._know(self._gathered)
        self._tell(t, {"calibration": "done", "windows": n})


class _Cumulative:
    """Standardises by all vectors of the session so far, the present one included.

    Gives nothing before the vectors cover `min_s`, at one each `hop_s`.
    """

    def __init__(self, n_features: int, hop_s: float, *, min_s: float = 60.0) -> None:
        self._moments = _Moments(n_features)
        self._n_min = max(_FEWEST, math.ceil(min_s / hop_s - _TOLERANCE_S))

    @property
    def state(self) -> State | None:
        known = self._moments.n >= self._n_min
        return self._moments.told("cumulative") if known else None

    def __call__(self, t: float, x: Array) -> Array | None:
        wide = x.astype(np.float64)
        self._moments.add(wide)
        if self._moments.n < self._n_min:
            return None
        scaled = (wide - self._moments.mean) / self._moments.deviation()
        return scaled.astype(np.float32)

    def refusal(self, seconds: float) -> str:
        return "it adapts to the session as it goes; there is nothing to calibrate"

    def calibrate(self, start_s: float, seconds: float) -> None:
        raise ConfigError(f"calibrate: {self.refusal(seconds)}")

    def restore(self, state: Mapping[str, Any]) -> None:
        self._moments = _Moments.of(state, "cumulative", len(self._moments.mean))


def _rest(
    info: StreamInfo, n_features: int, *, spread: bool = False
) -> Callable[[_Moments], _Transform]:
    """Less the calibration's mean; with `spread`, in its standard deviations."""

    def form(moments: _Moments) -> _Transform:
        scale = moments.deviation() if spread else np.ones(n_features)
        return lambda x: (x - moments.mean) / scale

    return form


def _whiten(
    info: StreamInfo, n_features: int, *, bands: int | None = None
) -> Callable[[_Moments], _Transform]:
    """Covariances C, as upper triangles, to those of logm(R^-1/2 C R^-1/2), R the calibration's
    mean and off-diagonals times sqrt 2: the tangent space at R (Barachant et al. 2012)."""
    n = len(info.channels)
    rows, columns = np.triu_indices(n)
    n_bands, left = divmod(n_features, len(rows))
    if left or bands not in (None, n_bands):
        raise BundleError(
            f"adapt, method 'whiten': {n_features} features are not the upper triangles of "
            f"{bands or 'some'} covariances of {n} channels, {len(rows)} each"
        )
    weights = np.where(rows == columns, 1.0, math.sqrt(2.0))

    def matrices(x: Array) -> Array:
        full = np.zeros((n_bands, n, n))
        full[:, rows, columns] = full[:, columns, rows] = x.reshape(n_bands, -1)
        return full

    def form(moments: _Moments) -> _Transform:
        whitener = _spectral(matrices(moments.mean), lambda values: 1.0 / np.sqrt(values))

        def transform(x: Array) -> Array:
            logs = _spectral(whitener @ matrices(x) @ whitener, np.log)
            return (logs[:, rows, columns] * weights).ravel()

        return transform

    return form


def _spectral(symmetric: Array, function: Callable[[Array], Array]) -> Array:
    """A function of symmetric positive matrices (bands, n, n), by their eigenvalues."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.swapaxes(1, 2)) / 2)
    floor = np.maximum(values[:, -1:] * _LEAST_EIGENVALUE, np.finfo(np.float64).tiny)
    applied = function(np.maximum(values, floor))
    made: Array = (vectors * applied[:, None, :]) @ vectors.swapaxes(1, 2)
    return made


_METHODS: Mapping[str, Callable[..., Any]] = {
    "rest": _rest, "whiten": _whiten, "cumulative": _Cumulative,
}  # fmt: skip
