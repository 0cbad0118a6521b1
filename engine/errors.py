"""The exception tree: what went wrong, and whose move is next (exit codes follow from it)."""

from __future__ import annotations

__all__ = [
    "AccountError",
    "BundleError",
    "ConfigError",
    "DataError",
    "EndOfStream",
    "InferenceError",
    "ResourceError",
    "SourceLost",
    "UserError",
    "VagusError",
]


class VagusError(Exception):
    """Anything vagus raises on purpose."""

    exit_code = 1


class UserError(VagusError):
    """The user can mend it: the message says what is wrong, where, and what would be right."""

    exit_code = 2


class ConfigError(UserError):
    """A config file, an argument or a parameter does not fit."""


class DataError(UserError):
    """A data file is missing, empty, truncated, foreign or inconsistent."""


class BundleError(UserError):
    """A bundle is damaged, unknown, or does not fit the stream."""


class ResourceError(VagusError):
    """A device, port or lock is missing or busy."""

    exit_code = 3


class InferenceError(VagusError):
    """A graph failed, or gave something that is no probability."""


class AccountError(VagusError):
    """A conservation law is broken: items were lost or doubled without a reason. Our fault."""


class EndOfStream(Exception):
    """A source has no more items and never will."""


class SourceLost(Exception):
    """A source went away; it may come back. The message is the reason."""
