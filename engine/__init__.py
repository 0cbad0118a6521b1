"""The engine: exact streaming from chunks of signal to predictions on a socket."""

__version__ = "0.1.0"
