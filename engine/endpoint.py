"""Where sockets stand: which addresses may be bound, and who holds one that is taken."""

from __future__ import annotations

import errno
import os
import re
import socket as sockets
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from engine.errors import ConfigError, ResourceError

__all__ = ["bind", "connect", "holder"]

_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]/:\s]+):(?P<port>\d{1,5}|\*)")
_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}|localhost|\[::1\]")
_IPC = re.compile(r"ipc://(?P<path>[^@].*)")
_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp
_PRIVATE = 0o077  # the bits that a socket file's mode must not have
_PATIENCE_S = 1.0


def bind(socket: zmq.Socket[Any], url: str, name: str, *, guarded: bool = False) -> str:
    """Bind `socket`, called `name` in errors, and return the address with its real port.

    Loopback and ipc only, unless the socket is `guarded` by CURVE; an ipc socket has mode 0700.
    Raises ConfigError for an address that is wrong or not allowed, and ResourceError for one that
    is taken, saying by whom.
    """
    path = _check(url, name, guarded)
    if path is not None:
        _clear(path, url, name)
    before = os.umask(_PRIVATE)
    try:
        socket.ipv6 = "[" in url
        socket.bind(url)
    except zmq.ZMQError as error:
        raise _refusal(error, url, name) from error
    finally:
        os.umask(before)
    return socket.get_string(zmq.LAST_ENDPOINT)


def connect(socket: zmq.Socket[Any], url: str, name: str) -> None:
    """Connect `socket`, called `name` in errors; raises ConfigError for what is no address."""
    if not (_TCP.fullmatch(url) or _IPC.fullmatch(url)):
        raise ConfigError(f"{name}: expected tcp://host:port or ipc://path, found {url!r}")
    try:
        socket.ipv6 = "[" in url
        socket.connect(url)
    except zmq.ZMQError as error:
        raise ConfigError(f"{name} {url}: {error.strerror}") from error


def holder(url: str) -> str | None:
    """Who listens at `url`, such as "process 123 (vagus run live.yaml)"; None if unknown."""
    tcp, ipc = _TCP.fullmatch(url), _IPC.fullmatch(url)
    pid = None
    if ipc:
        pid = _listener(ipc["path"])
    elif tcp and tcp["port"] != "*":
        pid = _owner(_listening(int(tcp["port"])))
    return None if pid is None else f"process {pid}{_command(pid)}"


def _check(url: str, name: str, guarded: bool) -> str | None:
    """Refuse an address that may not be bound; the path of an ipc address."""
    tcp, ipc = _TCP.fullmatch(url), _IPC.fullmatch(url)
    if ipc:
        return None if ipc["path"] == "*" else ipc["path"]
    if not tcp or (tcp["port"] != "*" and int(tcp["port"]) > 65535):
        raise ConfigError(f"{name}: expected tcp://host:port or ipc://path, found {url!r}")
    if not guarded and not _LOOPBACK.fullmatch(tcp["host"]):
        raise ConfigError(
            f"{name} {url} is an address beyond loopback and needs CURVE keys (vagus keys makes "
            "them) and an allow-list of clients; without them use 127.0.0.1 or ipc://"
        )
    return None


def _clear(path: str, url: str, name: str) -> None:
    """Remove the socket file of an engine that is gone; refuse to take one that is in use."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # not there, or binding will tell what is wrong with the folder
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{name} {url}: that file is no socket; choose another path")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:  # nobody listens any more
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError:
            pass  # somebody is there, or will not let us see
    raise _taken(url, name)


def _refusal(error: zmq.ZMQError, url: str, name: str) -> ConfigError | ResourceError:
    if error.errno == zmq.EADDRINUSE:
        return _taken(url, name)
    if error.errno == errno.EACCES:  # a privileged port, somebody else's folder
        return ResourceError(f"{name} {url}: permission denied; choose another address")
    return ConfigError(f"{name} {url} cannot be bound: {error}; choose another address")


def _taken(url: str, name: str) -> ResourceError:
    by = holder(url) or "another process"
    return ResourceError(f"{name} {url} is in use by {by}; stop it or choose another address")


def _listening(port: int) -> set[str]:
    """The inodes of the TCP sockets that listen at `port` of this machine."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                field = line.split()
                if field[3] == _LISTEN and int(field[1].rpartition(":")[2], 16) == port:
                    found.add(field[9])
    return found


def _owner(inodes: set[str]) -> int | None:
    """The process that has one of these sockets open, as far as we may look."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in filter(str.isdigit, os.listdir("/proc") if wanted else ()):
        folder = Path("/proc", process, "fd")
        with suppress(OSError):
            for descriptor in os.listdir(folder):
                with suppress(OSError):
                    if os.readlink(folder / descriptor) in wanted:
                        return int(process)
    return None


def _listener(path: str) -> int | None:
    """The process behind a socket file, as the kernel tells whoever connects to it."""
    if not hasattr(sockets, "SO_PEERCRED"):
        return None
    with sockets.socket(sockets.AF_UNIX) as probe, suppress(OSError):
        probe.settimeout(_PATIENCE_S)
        probe.connect(path)
        told = probe.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", told)[0])
    return None


def _command(pid: int) -> str:
    """ " (vagus run live.yaml)" for a process, without the interpreter and the folders."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if len(words) > 2 and Path(words[0]).name.startswith("python") and words[1][:1] != "-":
        words = words[1:]
    words[0] = Path(words[0]).name
    line = " ".join(word for word in words if word)
    return f" ({line if len(line) <= 80 else line[:77] + '...'})" if line else ""
