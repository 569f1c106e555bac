"""
Hosts: the names that the server answers for, and the pages from which browsers may write.

Nobody signs in. So whoever gets a browser on this machine to send a request acts as its user.
There are two ways to do that. *DNS rebinding*: a page's own name is made to point at this machine,
and the page may then read and write what it likes. Its requests name that host, so requests for
hosts that are not ours are refused. *Cross-site requests*: a page sends a write to our own name,
without reading the answer. Browsers mark these with Origin and Sec-Fetch-Site, which no page can
change.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from atomicbatch.model import Header, Reply
from atomicbatch.problems import problem_reply

_DEFAULT_PORTS = {b"http": 80, b"https": 443}
# RFC 9110, section 7.2, without user information and percent-encoding, which nobody needs here.
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(rb"(https?)://(.+)")
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_REMEMBERED = 256


class Authority(NamedTuple):
    """A host in lower case, without brackets and final dot, and the port if one is named."""

    host: str
    port: int | None


def read_authority(value: bytes) -> Authority | None:
    """Read ``host[:port]``, as in Host and Origin; None if it is anything else."""
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return None
    host = match[1].decode().lower()
    port = int(match[2]) if match[2] else None
    if host.startswith("["):
        try:
            return Authority(str(ipaddress.IPv6Address(host[1:-1])), port)
        except ValueError:
            return None
    host = host.removesuffix(".")  # the same name, written in full
    return Authority(host, port) if host and not host.startswith(".") else None


def is_loopback(host: str) -> bool:
    """Whether a host, as in ``Authority``, is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Hosts:
    """
    The hosts that requests may name: loopback names, the one listened on, and those allowed.

    A server that listens on all addresses of its machine also accepts every IP address. A page that
    was reached by an address comes from that address, so nothing can be rebound.

    Args:
        listening: The name or address that the server was told to listen on.
        allowed: More names, each with a port (that port only) or without (any port).

    Raises:
        ValueError: An allowed name is not a host.
    """

    def __init__(self, listening: str = "127.0.0.1", allowed: Iterable[str] = ()) -> None:
        self._hosts = {_named(listening).host}
        self._any_address = listening in _WILDCARDS
        self._exact: set[Authority] = set()
        for name in allowed:
            authority = _named(name)
            if authority.port is None:
                self._hosts.add(authority.host)
            else:
                self._exact.add(authority)
        # The values of Host that were accepted: clients send the same one each time.
        self._seen: dict[bytes, Authority] = {}

    def refusal(self, method: str, headers: Iterable[Header]) -> Reply | None:
        """
        Why a request is not answered; None: it may pass.

        Args:
            method: The request's.
            headers: The request's, names in lower case.
        """
        hosts: list[bytes] = []
        origins: list[bytes] = []
        same_site = True
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site" and value.lower() not in (b"same-origin", b"none"):
                same_site = False
        if len(hosts) != 1:
            what = "several Host headers" if hosts else "no Host header"
            return _invalid(f"the request has {what}; it needs one")
        own = self._seen.get(hosts[0]) or self._read(hosts[0])
        if isinstance(own, Reply):
            return own
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        if not same_site:
            return _cross_site("a page of another site")
        for origin in origins:
            if not _is_of(origin, own):
                shown = "a page without an origin" if origin == b"null" else "a page of "
                return _cross_site(shown if origin == b"null" else shown + _shown(origin))
        return None

    def _read(self, value: bytes) -> Authority | Reply:
        authority = read_authority(value)
        if authority is None:
            return _invalid(
                f"the Host header {_shown(value)} is not a host name with or without a port"
            )
        if not self._takes(authority):
            return problem_reply(
                421,
                "wrong-host",
                TITLES["wrong-host"],
                f"the request is for the host {_shown(value)}, which is not served here; "
                f"start the server with --allowed-host {_shown(authority.host.encode())} if it is"
                " yours",
            )
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[value] = authority
        return authority

    def _takes(self, authority: Authority) -> bool:
        host = authority.host
        if host in self._hosts or authority in self._exact or is_loopback(host):
            return True
        return self._any_address and _is_address(host)


def _named(name: str) -> Authority:
    """Read what the user allows: a name or an address, IPv6 in brackets or not; port optional."""
    bare = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    authority = read_authority(bare.encode(errors="replace"))
    if authority is None:
        raise ValueError(
            f"{name!r} is not a host: write a name such as shop.example.org, or name:port"
        )
    return authority


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_of(origin: bytes, own: Authority) -> bool:
    """
    Whether an Origin is the host that the request names.

    The scheme does not count: behind a proxy with TLS, pages are https, and we do not know.
    """
    match = _ORIGIN.fullmatch(origin.lower())
    authority = None if match is None else read_authority(match[2])
    if match is None or authority is None:
        return False
    default = _DEFAULT_PORTS[match[1]]
    return (authority.host, authority.port or default) == (own.host, own.port or default)


def _shown(value: bytes) -> str:
    text = value.decode("ascii", "backslashreplace")
    return text if len(text) <= 100 else text[:100] + "..."


TITLES = {
    "invalid-host": "The request does not say for which host it is",
    "wrong-host": "The server does not answer for this host",
    "cross-site": "The request comes from another site",
}
"""The slugs of these problems, and their titles."""


def _invalid(detail: str) -> Reply:
    return problem_reply(400, "invalid-host", TITLES["invalid-host"], detail)


def _cross_site(page: str) -> Reply:
    return problem_reply(
        403,
        "cross-site",
        TITLES["cross-site"],
        f"{page} has made a browser send a write; only this server's own pages may. "
        "If it is your own page behind a proxy, let the proxy pass on the Host header",
    )
