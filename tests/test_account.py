"""The third law, and the proof that it is a law: no counting line can lie unnoticed."""

from __future__ import annotations

import ast
import copy
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest

from engine.account import Account
from engine.batcher import Batcher
from engine.errors import AccountError
from engine.inbox import Inbox, Item
from engine.plan import SessionPlan, StreamPlan, Tick
from engine.session import Session
from engine.swap import prepare
from engine.types import Chunk
from tests.streams import device, info
from tests.toys import toy

COUNTED = ["timeline", "lane", "session", "slot", "batcher", "inbox"]


def scenario() -> Account:
    """One session through everything that is ever counted, its account checked on the way."""
    rng = np.random.default_rng(7)
    made: list[Any] = []
    inbox, batcher = Inbox(), Batcher(lambda *_: None)
    shed = {9}

    def emit(message: Any) -> None:
        if not isinstance(message, Tick):
            made.append(message)
        elif message.number in shed:
            session.shed(message)
        else:
            batcher.add(session, message)

    through = StreamPlan(toy(), min_quality=0.0)  # silence, too, shall reach the runtime
    session = Session(SessionPlan("p1", "run", {"eeg": through}), emit)
    batcher.join(session)
    stage = inbox.open("p1", "eeg", session.account, 64, block=False)
    session.account.equal("inbox", lambda: stage.n_out, lambda: session.items_in("eeg"))
    session.command("connect", stream="eeg", info=info())

    def turn() -> None:
        for item in inbox.take():
            assert item.chunk is not None
            session.push(item.chunk)
        session.account.check()  # while windows and messages are held
        made.extend(prediction for _, prediction, _ in batcher.run())
        while made:
            session.sent(made.pop())
        session.account.check()

    faults = ["gap", "nan", "duplicate", "reorder", "lost"]
    chunks = device(rng, 3000, faults=faults)
    half = len(chunks) // 2
    silent = Chunk("eeg", 1000, 0, ((0, 90.0),), np.zeros((700, 3), np.float32))
    odd = Chunk("eeg", 1000, 700, ((700, 96.0),), np.zeros((5, 2), np.float32))
    old = Chunk("eeg", 0, 0, ((0, 0.0),), np.zeros((5, 3), np.float32))
    other = toy({"eeg": {"window_s": 1.0}}, name="other")
    for chunk in [*chunks[:half], old, *chunks[half:], silent, odd, old]:
        if chunk is old:
            session.command("swap", stream="eeg", swap=prepare(session, "eeg", other))
        inbox.put(Item("p1", "eeg", 0.0, chunk))
        if rng.random() < 0.7 or chunk is silent:  # else the inbox overruns
            session.account.check()
            turn()
    turn()
    unstamped = Chunk("eeg", 1001, 5, ((8, 100.0),), np.ones((9, 3), np.float32))
    nothing = Chunk("eeg", 1002, 5, (), np.ones((9, 3), np.float32))
    for chunk in (unstamped, nothing):
        inbox.put(Item("p1", "eeg", 0.0, chunk))
        turn()
    session.command("connect", stream="eeg", info=info(rate_hz=100.0))  # refused
    for _ in range(2):
        inbox.put(Item("p1", "eeg", 0.0, old))
    turn()
    session.command("connect", stream="eeg", info=info())
    go_on = Chunk("eeg", 1003, 0, ((0, 110.0),), rng.normal(size=(300, 3)).astype(np.float32))
    inbox.put(Item("p1", "eeg", 0.0, go_on))
    for item in inbox.take():
        assert item.chunk is not None
        session.push(item.chunk)
    inbox.put(Item("p1", "eeg", 0.0, old))
    batcher.leave(session)
    for message in made:
        session.sent(message)
    inbox.close("p1")
    session.account.check()
    inbox.shut()
    return session.account


class _Mutant(ast.NodeTransformer):
    """Changes the one counting line at `at`."""

    def __init__(self, at: tuple[int, int]) -> None:
        self.at = at

    def _more(self, value: ast.expr) -> ast.expr:
        return ast.BinOp(value, ast.Add(), ast.Constant(1))

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        if (node.lineno, node.col_offset) == self.at:
            node.value = self._more(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if (node.lineno, node.col_offset) == self.at:
            node.args[1] = self._more(node.args[1])
        return node


def counting_lines() -> Iterator[tuple[str, int, int]]:
    """(module, line, column) of everything that counts: n_in +=, n_out +=, make(), drop()."""
    for name in COUNTED:
        module = importlib.import_module(f"engine.{name}")
        assert module.__file__ is not None
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            augmented = isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute)
            if augmented and node.target.attr in ("n_in", "n_out"):
                yield name, node.lineno, node.col_offset
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if called and node.func.attr in ("make", "drop") and len(node.args) == 2:
                yield name, node.lineno, node.col_offset


def codes(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    """All code objects inside a module's, by qualified name."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield f"{prefix}{inner.co_name}", inner
            yield from codes(inner, f"{prefix}{inner.co_name}.")


def mutated(name: str, at: tuple[int, int]) -> Iterator[tuple[Any, CodeType, CodeType]]:
    """(function, its code, its mutated code) for each method that the mutation changes."""
    module = importlib.import_module(f"engine.{name}")
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    before = dict(codes(compile(tree, module.__file__, "exec")))
    mutant = ast.fix_missing_locations(_Mutant(at).visit(copy.deepcopy(tree)))
    after = dict(codes(compile(mutant, module.__file__, "exec")))
    for qualified, code in after.items():
        parts = qualified.split(".")
        if len(parts) == 2 and code != before[qualified]:
            function = vars(getattr(module, parts[0]))[parts[1]]
            yield function, function.__code__, code


def test_everything_that_is_counted_balances() -> None:
    stages = scenario().snapshot()["eeg"]
    assert set(stages["timeline"]["dropped"]) == {"nonfinite", "duplicate", "late", "refused"}
    assert set(stages["timeline"]["made"]) == {"nonfinite", "gap"}
    assert set(stages["inbox"]["dropped"]) == {"overrun", "shutdown"}
    assert set(stages["batch"]["dropped"]) == {"infer_error", "shutdown"}
    assert set(stages["windows"]["dropped"]) == {"stale"}


@pytest.mark.parametrize("line", list(counting_lines()), ids=lambda at: f"{at[0]}:{at[1]}")
def test_a_counting_line_that_lies_is_caught(line: tuple[str, int, int]) -> None:
    changed = list(mutated(line[0], line[1:]))
    assert changed, "the mutation changed nothing"
    for function, _, code in changed:
        function.__code__ = code
    try:
        with pytest.raises(AccountError):
            scenario()
    finally:
        for function, code, _ in changed:
            function.__code__ = code
