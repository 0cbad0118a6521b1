"""The input log: everything that went into a session, and what it said, in one MCAP file."""

from engine.log.check import LogReport, check_log
from engine.log.format import ChunkRange, Command, LogHeader, SourceEvent
from engine.log.name import expand_name
from engine.log.reader import LogReader, LogRecord
from engine.log.writer import LogWriter

__all__ = [
    "ChunkRange",
    "Command",
    "LogHeader",
    "LogReader",
    "LogRecord",
    "LogReport",
    "LogWriter",
    "SourceEvent",
    "check_log",
    "expand_name",
]
