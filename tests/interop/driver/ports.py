"""Ports that can be bound again after their owner died."""

import pathlib
import random
import socket
import threading

# Below this, ports are for servers; above, the kernel gives them to outgoing
# connections. A balancer that dies must find its port free when it returns, and
# a client that retries a dead port above it can even connect to itself.
_EPHEMERAL = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000

_given = set()
_lock = threading.Lock()


def reserve(hosts=("127.0.0.1",)):
    """A port that is free on every host, for UDP and TCP, and given only once."""
    end = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    with _lock:
        for _ in range(1000):
            port = random.randrange(_LOWEST, max(end, _LOWEST + 1000))
            if port not in _given and all(is_free(host, port) for host in hosts):
                _given.add(port)
                return port
    raise OSError(f"no free port between {_LOWEST} and {end}")


def is_free(host, port):
    """Whether a port of a host can be bound, for UDP and TCP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def exists(host):
    """Whether something can listen on this host's address."""
    return is_free(host, 0)


def join(host, port):
    """`host:port`, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address(host="127.0.0.1"):
    """A free port of a host, joined to it."""
    return join(host, reserve((host,)))
