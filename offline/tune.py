"""Searches a training config's settings on validation alone; the test part stays unread."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, UserError
from offline.calls import prepare
from offline.fitting import fit
from offline.folds import divide, training_of
from offline.parallel import Watch
from offline.recipe import Recipe, load_recipe
from offline.space import SPACE, Space
from offline.splits import LEAKY, write_split
from offline.train import Run, learner_of, windows_of

__all__ = ["Found", "tune", "validate"]

_JOURNAL = "trials.journal"
_FREE_TRIALS = 4  # before the first one can be pruned
_FREE_SHARE = 0.2  # of the epochs, in which none is pruned


@dataclass(frozen=True, slots=True)
class Found:
    """The best settings {key: value}, their validation UAR, and how many trials came to an end."""

    settings: dict[str, Any]
    uar: float
    n_complete: int
    n_pruned: int
    n_failed: int


def tune(
    config: str,
    data: Path | None,
    out: Path,
    *,
    n_trials: int = 30,
    timeout_s: float | None = None,
    changes: Mapping[str, str] | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    watch: Watch = lambda name, done, total, text: None,
) -> Found:
    """Search `config`'s settings until there are `n_trials` in `out`; writes `out`/best.yaml.

    Each trial trains the first fold's training part and is judged on its validation part, epoch
    by epoch: one that falls behind the median of those before it is given up. Nothing of the test
    part is opened. The same call goes on with what an interrupted one left. Raises ConfigError
    where `out` holds another search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    changes = dict(changes or {})
    prepared = prepare(config, data, changes)
    space = prepared.recipe.tune or SPACE
    run = _first_run(prepared.recipe, prepared.recordings)
    _check(config, changes, space)
    out.mkdir(parents=True, exist_ok=True)
    write_split(run.split, out / "split.json")
    study = _study(prepared.recipe, run, space, out)
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    done = [t.state.is_finished() for t in study.get_trials(deepcopy=False)].count(True)
    while done < n_trials and (ends_s is None or time.monotonic() < ends_s):
        watch("trials", done, n_trials, _best_so_far(study))
        trial = study.ask()
        drawn = {key: _draw(trial, key, one) for key, one in space.items()}
        told = {**changes, **{key: json.dumps(value) for key, value in drawn.items()}}
        say(f"trial {trial.number}: " + ", ".join(f"{k} {_short(v)}" for k, v in drawn.items()))
        _try(study, trial, load_recipe(config, told), run, cache or out / "windows", watch, say)
        done += 1
    watch("trials", done, n_trials, _best_so_far(study))
    return _finish(study, config, changes, out)


def validate(run: Run, told: Callable[[int, float], None], watch: Watch) -> float:
    """Train `run` and give the best validation UAR; `told` hears of each (epoch, validation UAR).

    What `told` raises ends the training.
    """
    learner, _ = learner_of(run)
    heard = 0

    def tell(done: int, total: int, text: str) -> None:
        nonlocal heard
        watch("this trial", done, total, text)
        new, heard = learner.scores[heard:], len(learner.scores)
        for epoch, uar in new:
            told(epoch, uar)

    begun = run.weights.with_suffix(".ckpt")
    begun.parent.mkdir(parents=True, exist_ok=True)
    try:
        fit(learner, run.told, begun, tell)
    finally:
        begun.unlink(missing_ok=True)
    return float(learner.best["uar"])


def _first_run(recipe: Recipe, found: Any) -> Run:
    """The first fold with the first seed, of those recordings that train or validate."""
    told = training_of(recipe)
    if told.split.unit == LEAKY:
        raise ConfigError(
            f"{recipe.bundle}: a search on a {LEAKY} split would find what leaks best"
        )
    known = [r for r in found if r.label in ("", *recipe.labels)]
    fold, split = divide(recipe, known)[0]
    seen = tuple(r for r in known if split.part_of(r) in ("train", "val"))
    return Run(recipe, seen, split, fold, told.seeds[0], Path(), Path())


def _check(config: str, changes: Mapping[str, str], space: Mapping[str, Space]) -> None:
    """Both ends of every key make a config: a fault is told before hours are spent."""
    for key, one in space.items():
        values = one.choices if one.choices is not None else [one.low, one.high]
        for value in values:
            try:
                load_recipe(config, {**changes, key: json.dumps(value)})
            except ConfigError as error:
                raise ConfigError(f"tune.{key}: {value!r} makes no config: {error}") from error


def _study(recipe: Recipe, run: Run, space: Mapping[str, Space], out: Path) -> Any:
    """The search in `out`, new or taken up; what was under way is asked again."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    told = training_of(recipe)
    backend = JournalFileBackend(str(out / _JOURNAL))
    study = optuna.create_study(
        storage=JournalStorage(backend),
        study_name=recipe.bundle,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=told.seeds[0]),
        pruner=optuna.pruners.MedianPruner(_FREE_TRIALS, int(_FREE_SHARE * told.epochs)),
    )
    trials = study.get_trials(deepcopy=False)
    study.sampler = optuna.samplers.TPESampler(seed=told.seeds[0] + len(trials))
    ours = _fingerprint(recipe, run, space)
    theirs = study.user_attrs.setdefault("search", ours) if trials else ours
    if theirs != ours:
        raise ConfigError(
            f"{out}: holds trials of another search (config, data or space differ); "
            "choose another folder with --out"
        )
    study.set_user_attr("search", ours)
    for trial in trials:
        if not trial.state.is_finished():
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


def _fingerprint(recipe: Recipe, run: Run, space: Mapping[str, Space]) -> str:
    """Changes with all that makes trials comparable; how many there are does not matter."""
    told = recipe.model_dump(mode="json", exclude={"tune"})
    spaces = {key: one.model_dump(mode="json") for key, one in space.items()}
    text = json.dumps([told, spaces, run.split.hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _draw(trial: Any, key: str, one: Space) -> Any:
    if one.choices is not None:  # as text: it takes no lists
        return json.loads(trial.suggest_categorical(key, [json.dumps(c) for c in one.choices]))
    assert one.low is not None
    assert one.high is not None
    if isinstance(one.low, int) and isinstance(one.high, int):
        return trial.suggest_int(key, one.low, one.high, log=one.log)
    return trial.suggest_float(key, float(one.low), float(one.high), log=one.log)


def _try(
    study: Any,
    trial: Any,
    recipe: Recipe,
    first: Run,
    cache: Path,
    watch: Watch,
    say: Callable[[str], None],
) -> None:
    """One trial to its end: a value, given up, or failed with a reason."""
    import optuna

    def told(epoch: int, uar: float) -> None:
        trial.report(uar, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    state = optuna.trial.TrialState
    windows = windows_of(recipe, first.recordings, cache, watch)
    run = Run(recipe, first.recordings, first.split, first.fold, first.seed, windows, cache.parent)
    try:
        uar = validate(run, told, watch)
    except optuna.TrialPruned:
        study.tell(trial, state=state.PRUNED)
        say(f"trial {trial.number}: given up")
    except UserError as error:  # settings that do not go together; others may
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=state.FAIL)
        say(f"trial {trial.number}: {error}")
    else:
        study.tell(trial, uar)
        say(f"trial {trial.number}: validation UAR {uar:.3f}")


def _finish(study: Any, config: str, changes: Mapping[str, str], out: Path) -> Found:
    import optuna

    trials = study.get_trials(deepcopy=False)
    names = [trial.state.name for trial in trials]
    listed = [
        {"number": t.number, "state": t.state.name, "uar": t.value, "settings": _settings(t)}
        for t in trials
    ]
    (out / "trials.json").write_text(json.dumps(listed, indent=1) + "\n")
    whole = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
    if not whole:
        errors = {t.user_attrs["error"] for t in trials if "error" in t.user_attrs}
        raise ConfigError(f"no trial came to its end: {'; '.join(errors) or 'too little time'}")
    best = max(whole, key=lambda trial: trial.value)
    settings = _settings(best)
    told = {**changes, **{key: json.dumps(value) for key, value in settings.items()}}
    (out / "best.yaml").write_text(load_recipe(config, told).resolved)
    counts = [names.count(name) for name in ("COMPLETE", "PRUNED", "FAIL")]
    return Found(settings, float(best.value), *counts)


def _settings(trial: Any) -> dict[str, Any]:
    """{key: value}, choices as they were before they were text."""
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in trial.params.items()}


def _best_so_far(study: Any) -> str:
    values = [t.value for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    return f"best validation UAR {max(values):.3f}" if values else ""


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
