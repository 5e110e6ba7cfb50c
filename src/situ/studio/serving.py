"""Who can reach a page of ours: this machine alone, or others with a password."""

import secrets
import socket
from collections.abc import Callable

from situ.core.errors import FileError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def require_private(what: str, host: str, password: str, share: bool = False) -> None:
    """Raises FileError for a page that others could reach, without a password."""
    if (share or host not in LOOPBACK) and not password:
        link = " or --share" if share else ""
        raise FileError(f"others could reach the {what} on {host}: give it a --password, or leave --host{link} out")


def require_free(what: str, host: str, port: int) -> None:
    """Raises FileError where nobody can listen."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was served just now is free
            probe.bind(address)
    except OSError as error:
        raise FileError(
            f"the {what} cannot be served on {host}, port {port} ({error.strerror}): choose another --port or --host"
        ) from None


def knows(password: str) -> Callable[[str, str], bool] | None:
    """Gradio's question who may come in: any name, with the password; nobody is asked without one."""
    if not password:
        return None
    return lambda _, given: secrets.compare_digest(given.encode(), password.encode())
