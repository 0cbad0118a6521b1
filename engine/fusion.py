"""From the modalities' probabilities to one prediction: fusion, smoothing, dimensions."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import ConfigError
from engine.plan import SessionPlan, Tick
from engine.predictor import Predictor
from engine.types import Array, Prediction

if TYPE_CHECKING:
    from engine.bundle import Bundle

__all__ = ["Fusion", "Smoothing", "dimensions", "fuse"]

_FLOOR = 1e-12  # a probability of zero must not veto the others for ever


def fuse(probabilities: Sequence[Array]) -> Array:
    """Equal-weight mean of log probabilities, renormalised: n times (labels,) -> (labels,).

    The logarithmic opinion pool (Genest and Zidek 1986). One modality alone stays as it is.
    """
    if len(probabilities) == 1:
        p = np.asarray(probabilities[0], np.float64)
    else:
        logs = [np.log(np.maximum(np.asarray(p, np.float64), _FLOOR)) for p in probabilities]
        p = np.exp(np.mean(logs, axis=0))
    fused: Array = p / p.sum()
    return fused


def dimensions(
    probabilities: Mapping[str, float], places: Mapping[str, Mapping[str, float]] | None
) -> dict[str, float] | None:
    """The expected place in valence, arousal, dominance, in [0, 1]; None without places."""
    if not places:
        return None
    axes = next(iter(places.values())).keys()
    return {a: sum(p * places[label][a] for label, p in probabilities.items()) for a in axes}


class Smoothing:
    """Causal smoothing over a session's predictions.

    `none`; `mean`: of the probabilities of the last `n`; `hysteresis`: the label stays until
    another one leads it by `margin` (the probabilities stay as they are).
    """

    def __init__(self, method: str = "none", n: int = 4, margin: float = 0.1) -> None:
        if method not in ("none", "mean", "hysteresis"):
            raise ConfigError(
                f"smoothing.method is '{method}'; choose one of none, mean, hysteresis"
            )
        self.method = method
        self._margin = margin
        self._past: deque[Array] = deque(maxlen=max(1, n))
        self._held = -1

    def __call__(self, p: Array) -> tuple[Array, int]:
        """(labels,) -> smoothed (labels,), and the index of the label to show."""
        if self.method == "mean":
            self._past.append(p)
            p = np.mean(self._past, axis=0)
        top = int(np.argmax(p))
        if self.method == "hysteresis":
            if not 0 <= self._held < len(p) or p[top] - p[self._held] >= self._margin:
                self._held = top
            top = self._held
        return p, top

    def reset(self) -> None:
        """Forget the past predictions."""
        self._past.clear()
        self._held = -1


class Fusion:
    """A session's way from the results of its modalities to predictions, tick by tick."""

    def __init__(self, plan: SessionPlan) -> None:
        if plan.fusion != "mean":
            raise ConfigError(f"fusion.method is '{plan.fusion}'; the one there is: mean")
        self.smoothing = Smoothing(**plan.smoothing)
        self._plan = plan
        self._labels: tuple[str, ...] = ()

    def predict(
        self,
        tick: Tick,
        predictors: Sequence[Predictor],
        results: Mapping[str, Array | None],
        seq: int,
        t_wall: float | None,
    ) -> Prediction:
        """Fuse what stands after `results` (labels,) per modality; None is a failed one."""
        missing = _settle(tick, predictors, results)
        modalities, used = _sort(predictors, missing, tick.faults)
        label = probabilities = confidence = None
        if used:
            bundle = used[0][0]
            if bundle.labels != self._labels:  # of the past, which is then no past of these
                self._labels = bundle.labels
                self.smoothing.reset()
            p, top = self.smoothing(fuse([p for _, p in used]))
            probabilities = dict(zip(bundle.labels, p.tolist(), strict=True))
            confidence = float(p[top])
            if confidence >= max(b.abstain_below for b, _ in used):
                label = bundle.labels[top]
        places = used[0][0].dimensions if used else None
        return Prediction(
            run=self._plan.run,
            session=self._plan.session,
            seq=seq,
            tick=tick.number,
            t=tick.t,
            t_wall=t_wall,
            label=label,
            probabilities=probabilities,
            confidence=confidence,
            dimensions=dimensions(probabilities, places) if probabilities else None,
            modalities=modalities,
            missing=sorted(missing),
            truth=tick.truth,
        )


def _settle(
    tick: Tick, predictors: Sequence[Predictor], results: Mapping[str, Array | None]
) -> dict[str, str]:
    """Let the results stand; what is missing, and why."""
    missing = dict(tick.missing)
    requests = {request.modality: request for request in tick.requests}
    for predictor in predictors:
        request = requests.get(predictor.name)
        if request is not None:
            p = results[predictor.name]
            if p is None:
                predictor.fail("infer_error")
            else:
                predictor.stand(request, p)
        elif predictor.name in missing:
            predictor.fail(missing[predictor.name])
        if predictor.standing is None:
            missing[predictor.name] = predictor.reason
    return missing


def _sort(
    predictors: Sequence[Predictor],
    missing: Mapping[str, str],
    faults: Mapping[str, Mapping[str, list[str]]],
) -> tuple[dict[str, dict[str, Any]], list[tuple[Bundle, Array]]]:
    """What the wire says of each modality, and the results to fuse: those of one label set."""
    modalities: dict[str, dict[str, Any]] = {}
    used: list[tuple[Bundle, Array]] = []
    for predictor in predictors:
        if predictor.name in missing or predictor.standing is None:
            about = {"used": False, "reason": missing[predictor.name]}
            wrong = faults.get(predictor.name)
            modalities[predictor.name] = {**about, "faults": wrong} if wrong else about
            continue
        bundle, p, about = predictor.standing
        if used and bundle.labels != used[0][0].labels:
            about = {**about, "used": False, "reason": "other labels"}
        else:
            used.append((bundle, p))
        modalities[predictor.name] = about
    return modalities, used
