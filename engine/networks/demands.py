"""What a network asks of its inputs and arguments, and how it says so where they do not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.errors import ConfigError

__all__ = ["need_at_least", "need_one_of", "picture_shape", "sequence_shapes"]

_LEAST_SIDE = 16  # pixels: what is left of it after four steps of 2 is one


def need_one_of(network: str, key: str, value: str, known: Collection[str]) -> None:
    """Raises ConfigError unless `value` is one of `known`."""
    if value not in known:
        raise ConfigError(f"{network}: {key} must be one of {', '.join(known)}, not {value!r}")


def need_at_least(network: str, least: int, **values: int) -> None:
    """Raises ConfigError for the first of `values` that is below `least`."""
    for key, value in values.items():
        if value < least:
            raise ConfigError(f"{network}: {key} must be {least} or more, not {value}")


def sequence_shapes(network: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """{input: features} of inputs (time, features) that share their time axis.

    Raises ConfigError for any other shapes.
    """
    told = _told(shapes)
    if not shapes or any(len(shape) != 2 for shape in shapes.values()):
        raise ConfigError(f"{network} reads sequences (time, features); it was given {told}")
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ConfigError(
            f"{network} reads inputs side by side, item by item, but these differ in length: "
            f"{told} (time, features). Give them one rate_hz and window_s, or use dnn"
        )
    return {name: shape[1] for name, shape in shapes.items()}


def picture_shape(
    network: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, tuple[int, int, int]]:
    """(name, (height, width, channels)) of the one input, (time, height, width, channels).

    Raises ConfigError for any other shapes, and for pictures below 16 x 16.
    """
    if len(shapes) != 1 or len(next(iter(shapes.values()))) != 4:
        raise ConfigError(
            f"{network} reads one input of pictures (time, height, width, channels); "
            f"it was given {_told(shapes)}"
        )
    ((name, (_, height, width, n_channels)),) = shapes.items()
    if min(height, width) < _LEAST_SIDE:
        raise ConfigError(
            f"{network} reads pictures of {_LEAST_SIDE} x {_LEAST_SIDE} or more; "
            f"those of {name} are {height} x {width}"
        )
    return name, (height, width, n_channels)


def _told(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()) or "no input"
