"""Who may talk to a local port: a matrix of hosts, origins and tokens."""

from __future__ import annotations

import pytest

from engine.access import Access, new_token
from engine.errors import ConfigError

PORT, TOKEN = 5575, "secret"
PAGE = "http://localhost:3000"
OWN = f"http://127.0.0.1:{PORT}"
GOOD = f"127.0.0.1:{PORT}"

ROWS = [
    # host, origin, token in the query, what is wrong
    (GOOD, None, TOKEN, None),
    (f"localhost:{PORT}", None, TOKEN, None),
    (f"[::1]:{PORT}", None, TOKEN, None),
    (GOOD, OWN, TOKEN, None),
    (GOOD, f"http://localhost:{PORT}", TOKEN, None),
    (GOOD, PAGE, TOKEN, None),
    (f"localhost:{PORT}", PAGE, TOKEN, None),
    ("127.0.0.1", None, TOKEN, "host"),
    ("localhost", None, TOKEN, "host"),
    ("127.0.0.1:80", None, TOKEN, "host"),
    (f"127.0.0.2:{PORT}", None, TOKEN, "host"),
    (f"0.0.0.0:{PORT}", None, TOKEN, "host"),
    (f"evil.example:{PORT}", None, TOKEN, "host"),
    (f"127.0.0.1.evil.example:{PORT}", None, TOKEN, "host"),
    (f"localhost.evil.example:{PORT}", None, TOKEN, "host"),
    (f"LOCALHOST:{PORT}", None, TOKEN, "host"),
    (f"127.0.0.1:{PORT}@evil.example", None, TOKEN, "host"),
    ("", None, TOKEN, "host"),
    (None, None, TOKEN, "host"),
    (GOOD, "http://evil.example", TOKEN, "origin"),
    (GOOD, "https://localhost:3000", TOKEN, "origin"),
    (GOOD, "http://localhost:3001", TOKEN, "origin"),
    (GOOD, "http://localhost:3000.evil.example", TOKEN, "origin"),
    (GOOD, "http://localhost:3000/", TOKEN, "origin"),
    (GOOD, "http://localhost", TOKEN, "origin"),
    (GOOD, "null", TOKEN, "origin"),
    (GOOD, "", TOKEN, "origin"),
    (GOOD, f"https://127.0.0.1:{PORT}", TOKEN, "origin"),
    (GOOD, "file://", TOKEN, "origin"),
    (GOOD, None, "", "token"),
    (GOOD, None, "Secret", "token"),
    (GOOD, None, TOKEN + "x", "token"),
    (GOOD, PAGE, "wrong", "token"),
    ("evil.example", "http://evil.example", "wrong", "host"),
]


@pytest.mark.parametrize(("host", "origin", "token", "wrong"), ROWS)
def test_only_exact_hosts_origins_and_tokens_pass(
    host: str | None, origin: str | None, token: str, wrong: str | None
) -> None:
    headers = {"Host": host, "Origin": origin}
    given = {name: value for name, value in headers.items() if value is not None}
    assert Access(PORT, TOKEN, (PAGE,)).refusal(f"/?token={token}", given) == wrong


def test_a_token_may_come_as_a_header_and_then_the_query_does_not_count() -> None:
    access = Access(PORT, TOKEN)
    good = {"Host": GOOD, "Authorization": f"Bearer {TOKEN}"}
    assert access.refusal("/", good) is None
    assert access.refusal(f"/?token={TOKEN}", {**good, "Authorization": "Bearer x"}) == "token"


def test_without_a_token_the_host_still_counts() -> None:
    assert Access(PORT).refusal("/", {"Host": GOOD}) is None
    assert Access(PORT).refusal("/", {"Host": "evil.example"}) == "host"


@pytest.mark.parametrize("origin", ["localhost:3000", "http://x/", "ftp://x", "*"])
def test_what_is_no_origin_is_refused_when_the_rules_are_made(origin: str) -> None:
    with pytest.raises(ConfigError, match="is no origin"):
        Access(PORT, TOKEN, (origin,))


def test_tokens_are_long_and_differ() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert all(len(new_token()) >= 32 for _ in range(10))
