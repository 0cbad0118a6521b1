"""How fast networks are trained: windows drawn by index, against a plain loop over a DataLoader."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.result import Result, interleave, versions

__all__ = ["Case", "measure", "training_large", "training_open", "training_small"]

N_LABELS = 5
SMOOTHING = 0.1


@dataclass(frozen=True)
class Case:
    """A network, the shape of a window, how many there are, and how many in a batch."""

    network: str
    shape: tuple[int, ...]
    n: int
    batch: int


SMALL = Case("linear", (96,), 16384, 256)  # the band powers of simulated-eeg
LARGE = Case("dnn", (310,), 8192, 512)  # differential entropy as in SEED-V


def training_small(n_repeats: int = 7) -> Result:
    """Windows trained on per CPU second: a small network, so that handing out windows counts."""
    result = _result("training_small", SMALL, 20, n_repeats)
    others = {}
    for batch in (16, 64, 512):
        found = measure(replace(SMALL, batch=batch), 3, 5)
        pairs = zip(found["ours"], found["plain"], strict=True)
        others[f"ratio in batches of {batch}"] = median(ours / plain for ours, plain in pairs)
    return replace(result, details={**result.details, **others})


def training_large(n_repeats: int = 7) -> Result:
    """Windows trained on per CPU second, where nearly all of it goes into the network itself."""
    return _result("training_large", LARGE, 3, n_repeats)


def training_open(n_repeats: int = 9) -> Result:
    """Milliseconds until windows that were cut once are there again, in a process that is warm and
    in one that has yet to look whether the code that cuts is still the same."""
    from offline import cache
    from offline.datasets.simulate import people
    from offline.recipe import load_recipe

    recipe, persons = load_recipe("simulated-eeg"), people(900, 8)
    with tempfile.TemporaryDirectory() as folder:

        def opened(*, anew: bool, into: str = "kept") -> float:
            if anew:
                cache._code.cache_clear()
            begin_s = time.perf_counter()
            path = cache.cached_cut(
                persons, recipe.specs("plain"), recipe.hop_s, Path(folder) / into,
                labels=recipe.labels,
            )  # fmt: skip
            cache.open_windows(path)
            return 1e3 * (time.perf_counter() - begin_s)

        cut_ms = opened(anew=True)
        found = interleave(
            {"ours": lambda: opened(anew=False), "first in a process": lambda: opened(anew=True)},
            n_repeats,
        )
        n = len(cache.open_windows(next((Path(folder) / "kept").iterdir())))
    details = {"windows": n, "cut the first time, ms": cut_ms}
    known = versions("vagus", "numpy")
    return Result("training_open", "ms until cut windows are open", found.pop("ours"), found, known,
                  details)  # fmt: skip


def measure(case: Case, n_repeats: int, n_epochs: int) -> dict[str, list[float]]:
    """{"ours", "plain"}: windows per CPU second, measured in turn."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(case.n, *case.shape)).astype(np.float32)
    valid = np.ones((case.n, case.shape[0]), bool)
    truth = np.eye(N_LABELS, dtype=np.float32)[rng.integers(0, N_LABELS, case.n)]

    def rate(train: Callable[..., None]) -> Callable[[], float]:
        def run() -> float:
            torch.manual_seed(0)
            begin_s = time.process_time()
            train(case, x, valid, truth, n_epochs)
            return n_epochs * case.n / (time.process_time() - begin_s)

        return run

    return interleave({"ours": rate(_ours), "plain": rate(_plain)}, n_repeats)


def _result(name: str, case: Case, n_epochs: int, n_repeats: int) -> Result:
    found = measure(case, n_repeats, n_epochs)
    details = {
        "network": case.network, "shape": case.shape, "windows": case.n, "batch": case.batch,
        "epochs": n_epochs, "threads": 1,
    }  # fmt: skip
    notes = [
        "More is better. Ours is the whole of offline.fitting: lightning, cosine schedule, "
        "checkpoints, a look at validation after each epoch; without a mean of the weights.",
        "The plain loop is that of the tutorials: a Dataset that gives one window, a DataLoader "
        "that shuffles and collates in the same process, AdamW as it comes. It validates nothing "
        "and keeps no checkpoint.",
    ]
    known = versions("vagus", "torch", "lightning", "numpy")
    peers = {"PyTorch loop with a DataLoader": found["plain"]}
    return Result(name, "windows per CPU second", found["ours"], peers, known, details, notes)


def _network(case: Case) -> Any:
    from engine import plugins

    return plugins.load("vagus.networks", case.network)({"x": case.shape}, N_LABELS)


def _ours(case: Case, x: Any, valid: Any, truth: Any, n_epochs: int) -> None:
    import torch

    from offline.batches import Draws, Judged, Material
    from offline.fitting import Learner, fit
    from offline.tuition import Training

    told = Training(
        epochs=n_epochs, batch=case.batch, average=0.0, balance="none", device="cpu",
        label_smoothing=SMOOTHING, patience=None, clip_gradient=None,
    )  # fmt: skip
    given = Material(
        {"x": torch.from_numpy(x)}, {"x": torch.from_numpy(valid)}, torch.from_numpy(truth),
        np.arange(case.n), np.ones(case.n),
    )  # fmt: skip
    cpu = torch.device("cpu")
    drawn = Draws(given, np.arange(case.n), told, 0, cpu)
    judged = Judged(given, np.arange(min(case.n, 256)), False, cpu)
    with tempfile.TemporaryDirectory() as folder:
        fit(Learner(_network(case), told, drawn, judged), told, Path(folder) / "run.ckpt")


def _plain(case: Case, x: Any, valid: Any, truth: Any, n_epochs: int) -> None:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Windows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return case.n

        def __getitem__(self, i: int) -> tuple[Any, Any, Any]:
            return torch.from_numpy(x[i]), torch.from_numpy(valid[i]), torch.from_numpy(truth[i])

    network = _network(case)
    loader = DataLoader(Windows(), batch_size=case.batch, shuffle=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    network.train()
    for _ in range(n_epochs):
        for windows, masks, labels in loader:
            optimizer.zero_grad()
            loss = loss_of(network({"x": windows}, {"x": masks}), labels)
            loss.backward()
            optimizer.step()
