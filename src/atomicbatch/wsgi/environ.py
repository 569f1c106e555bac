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

    def environ(self, call: Call) -> Environ | None:
        """
        Make a call's environ.

        Returns:
            None: the call's path is outside of what the app is mounted at.
        """
        path = unquote_to_bytes(call.path)
        if self._script:
            if path != self._script and not path.startswith(self._script + b"/"):
                return None
            path = path[len(self._script) :]
        environ = self._base.copy()
        environ["REQUEST_METHOD"] = call.method
        environ["SCRIPT_NAME"] = _text(self._script)
        environ["PATH_INFO"] = _text(path)
        environ["QUERY_STRING"] = _text(call.query)
        for name in self._targets:
            target = call.path + b"?" + call.query if call.query else call.path
            environ[name] = _text(target)
        environ["wsgi.input"] = BytesIO(call.body)
        # It ends where the body does; most frameworks read no body of unknown length without it.
        environ["wsgi.input_terminated"] = True
        for name_, value in call.headers:
            _add_header(environ, name_, value)
        return environ


def batch_paths(environ: Environ, path: str) -> tuple[bytes, bytes]:
    """Write the batch endpoint's path, with and without the prefix that the app is mounted at."""
    return quote(script_of(environ)).encode() + path.encode(), path.encode()


def _add_header(environ: Environ, name: bytes, value: bytes) -> None:
    key = _text(name).upper().replace("-", "_")
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        environ[key] = _text(value)
        return
    key = f"HTTP_{key}"
    if key in environ:
        # RFC 9110, section 5.3; cookies have a separator of their own (RFC 6265, section 4.2.1).
        between = "; " if key == "HTTP_COOKIE" else ","
        environ[key] += between + _text(value)
    else:
        environ[key] = _text(value)


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return value.encode("latin-1")
