"""
Environ: what a batch request's environ says, and the environ that each of its calls gets.

Text in an environ is bytes, each written as the character of that number (PEP 3333, "Unicode
Issues").
"""

from __future__ import annotations

from io import BytesIO
from urllib.parse import quote, unquote_to_bytes

from atomicbatch.model import Call, Header, Headers
from atomicbatch.wsgi.types import Environ

# What a call takes from the outer request of PEP 3333's own variables. Not wsgi.file_wrapper: a
# file that a server sends by itself would never pass through here.
_FROM_OUTER = (
    "wsgi.version",
    "wsgi.url_scheme",
    "wsgi.errors",
    "wsgi.multithread",
    "wsgi.multiprocess",
    "wsgi.run_once",
)
# These describe the outer request alone; so do all names that start as below.
_NOT_FROM_OUTER = frozenset(
    {
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "SCRIPT_FILENAME",
        "SCRIPT_URI",
        "SCRIPT_URL",
        "PATH_INFO",
        "PATH_TRANSLATED",
        "QUERY_STRING",
        "REQUEST_URI",
        "RAW_URI",
        "UNIQUE_ID",
    }
)
_NOT_FROM_OUTER_PREFIXES = ("HTTP_", "CONTENT_", "REDIRECT_")
# How many sets of headers are kept.
_MOST_KEPT = 100
# Where servers put the request's target as it was sent.
_TARGETS = ("REQUEST_URI", "RAW_URI")


def headers_of(environ: Environ) -> Headers:
    """Tell a request's headers; the server has joined those of one name by commas."""
    headers: list[Header] = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:]
            if name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                continue  # CGI has them twice
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            name = key
        else:
            continue
        headers.append((name.replace("_", "-").lower().encode("latin-1"), _bytes(value)))
    return tuple(headers)


def query_of(environ: Environ) -> bytes:
    """Tell a request's query, without the ``?``."""
    return _bytes(environ.get("QUERY_STRING", ""))


def script_of(environ: Environ) -> bytes:
    """Tell the prefix that the app is mounted at, decoded; no slash at its end."""
    return _bytes(environ.get("SCRIPT_NAME", "")).rstrip(b"/")


class CallEnvirons:
    """
    Makes the environs of the calls of one batch.

    Args:
        outer: The environ of the batch request, as it was when it reached us.
    """

    def __init__(self, outer: Environ) -> None:
        self._script = script_of(outer)
        self._script_name = wsgi_text(self._script)
        self._targets = [name for name in _TARGETS if name in outer]
        self._base = {name: outer[name] for name in _FROM_OUTER if name in outer}
        for name, value in outer.items():
            # A name with a dot belongs to a server or a middleware, which has put it there for the
            # outer request: werkzeug.*, gunicorn.*, a session.
            if (
                "." not in name
                and name not in _NOT_FROM_OUTER
                and not name.startswith(_NOT_FROM_OUTER_PREFIXES)
            ):
                self._base[name] = value
        # It ends where the body does; most frameworks read no body of unknown length without it.
        self._base["wsgi.input_terminated"] = True
        # What headers become in an environ. The calls of a batch have the same ones as a rule.
        self._known: dict[Headers, Environ] = {}

    def environ(self, call: Call) -> Environ | None:
        """
        Make a call's environ.

        Returns:
            None: the call's path is outside of what the app is mounted at.
        """
        method, path, query, headers, body, _ = call
        decoded = unquote_to_bytes(path) if b"%" in path else path
        if self._script:
            if decoded != self._script and not decoded.startswith(self._script + b"/"):
                return None
            decoded = decoded[len(self._script) :]
        fields = self._known.get(headers)
        environ: Environ = {
            **self._base,
            **(self._read(headers) if fields is None else fields),
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": self._script_name,
            "PATH_INFO": decoded.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "wsgi.input": BytesIO(body),
        }
        for name in self._targets:
            environ[name] = wsgi_text(path + b"?" + query if query else path)
        return environ

    def _read(self, headers: Headers) -> Environ:
        fields: Environ = {}
        for name, value in headers:
            _add_header(fields, name, value)
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[headers] = fields
        return fields


def batch_paths(environ: Environ, path: str) -> tuple[bytes, bytes]:
    """Write the batch endpoint's path, with and without the prefix that the app is mounted at."""
    return quote(script_of(environ)).encode() + path.encode(), path.encode()


def _add_header(environ: Environ, name: bytes, value: bytes) -> None:
    key = wsgi_text(name).upper().replace("-", "_")
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        environ[key] = wsgi_text(value)
        return
    key = f"HTTP_{key}"
    if key in environ:
        # RFC 9110, section 5.3; cookies have a separator of their own (RFC 6265, section 4.2.1).
        between = "; " if key == "HTTP_COOKIE" else ","
        environ[key] += between + wsgi_text(value)
    else:
        environ[key] = wsgi_text(value)


def wsgi_text(value: bytes) -> str:
    """Write bytes as an environ has them."""
    return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return value.encode("latin-1")
