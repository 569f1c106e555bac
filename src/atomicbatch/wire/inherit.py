"""
What a call takes over from the outer request, and what it cannot change (SPEC, section 3).

The lists are the security of the batch: what a trusted proxy has said about the outer request
holds for every call, whatever the call's own headers say, as those are text of the client.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote_to_bytes

from atomicbatch.errors import LimitError, UnsupportedError
from atomicbatch.limits import Limits
from atomicbatch.model import Header, Headers
from atomicbatch.wire.grammar import connection_names

# They describe the outer message, its connection or the batch as a whole. A name that ends in
# "-" or "*" below stands for all that start so.
_NOT_INHERITED = frozenset({
    # hop by hop, RFC 9110 section 7.6.1
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
    b"upgrade", b"http2-settings",
    # the outer message
    b"expect", b"max-forwards", b"range", b"if-range", b"from", b"mime-version",
    b"upgrade-insecure-requests", b"priority", b"early-data",
    # the response is compressed as a whole
    b"accept-encoding",
    # the batch as a whole
    b"idempotency-key", b"x-retry-on-version-conflict",
    # would turn every call into something else
    b"x-http-method", b"x-http-method-override", b"x-method-override",
    # computed over the outer request
    b"digest", b"repr-digest", b"want-digest", b"want-repr-digest", b"dpop",
})  # fmt: skip
_NOT_INHERITED_PREFIXES = (
    b"content-", b"proxy-auth", b"batch-", b"repeatability-", b"signature", b"x-hub-signature",
    b"want-content-", b"sec-websocket-",
)  # fmt: skip
# Asks for nothing by itself: it switches references on, for all calls when it is on the outer
# request (SPEC 6.5).
_INHERITED_NEVERTHELESS = frozenset({b"batch-references"})

# What proxies, gateways and identity-aware load balancers say about the client and its request:
# who calls, from where, to which host and path (SPEC 3.3).
_NOT_OVERRIDABLE = frozenset({
    # host, scheme, mount point
    b"host", b"forwarded", b"x-host", b"x-http-host-override", b"x-rewrite-url", b"x-scheme",
    b"x-url-scheme", b"x-script-name", b"front-end-https",
    # the client's address
    b"client-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"x-true-client-ip",
    b"x-originating-ip", b"proxy-client-ip", b"wl-proxy-client-ip", b"fly-client-ip",
    b"do-connecting-ip", b"fastly-client-ip", b"x-azure-clientip", b"x-azure-socketip",
    b"x-nf-client-connection-ip", b"x-proxyuser-ip",
    # who calls
    b"x-userinfo", b"x-id-token", b"client-cert", b"client-cert-chain",  # RFC 9440
    b"x-client-dn", b"x-client-verify", b"sm-user", b"teleport-jwt-assertion",
})  # fmt: skip
_NOT_OVERRIDABLE_PREFIXES = (
    b"x-forwarded", b"x-original-", b"x-real-", b"cf-connecting-", b"x-envoy-", b"x-vercel-",
    b"cloudfront-viewer-", b"x-arr-", b"x-appengine-",
    b"remote-", b"x-remote-", b"x-auth", b"x-webauth-", b"x-consumer-", b"x-credential-",
    b"x-vouch-", b"x-pomerium-", b"x-goog-authenticated-", b"x-goog-iap-", b"x-amzn-oidc-",
    b"x-amzn-mtls-", b"x-ms-client-principal", b"x-ms-token-", b"oidc-", b"x-oidc-", b"cf-access-",
    b"tailscale-", b"ssl-client-", b"x-ssl-", b"x-tls-client-", b"x-client-cert", b"shib-",
    b"iv-", b"oam-", b"x-jwt-", b"x-saml-", b"x-sso-", b"x-spiffe-",
)  # fmt: skip

# Preferences (RFC 7240) about the batch as a whole.
BATCH_PREFERENCES = frozenset({
    b"respond-async", b"wait", b"continue-on-error", b"odata.continue-on-error", b"tx",
    b"all-errors", b"diff", b"batch-status",
})  # fmt: skip

# What matters in a list, RFC 9110 section 5.6.1, outside of quotes and inside.
_OUTSIDE = re.compile(rb'[",]')
_INSIDE = re.compile(rb'"|\\.', re.DOTALL)
_QUOTES_END = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
_PREFERENCE_NAME = re.compile(rb"[^=; \t]*")


class Inheritance:
    """
    What all calls of one batch take over; made once for each batch.

    Args:
        headers: The outer request's.
        query: The outer request's, without the ``?``.
        limits: ``max_header_lines`` bounds what is inherited too, and ``max_body_bytes`` what the
            outer query adds to all calls together: otherwise a short request could become a batch
            of any length.
        consumed_query: Decoded names in the outer query that the batch itself uses.
        not_overridable: More header names that a call cannot change, in any case; one that ends
            in ``*`` stands for all that start so.
        underscores: Keep a call's headers that have ``_`` in their name. WSGI cannot tell
            ``X_User`` from ``X-User``, so that they must go there.

    Raises:
        LimitError: Calls would inherit more than ``max_header_lines`` headers.
    """

    def __init__(
        self,
        headers: Headers,
        query: bytes = b"",
        *,
        limits: Limits | None = None,
        consumed_query: Collection[str] = (),
        not_overridable: Collection[bytes] = (),
        underscores: bool = True,
    ) -> None:
        self._limits = limits or Limits()
        named = [name for name in not_overridable if not name.endswith(b"*")]
        self._not_overridable = _NOT_OVERRIDABLE.union(map(_plain, named))
        self._prefixes = _NOT_OVERRIDABLE_PREFIXES + tuple(
            _plain(name[:-1]) for name in not_overridable if name.endswith(b"*")
        )
        self._underscores = underscores
        self._headers = self._inherited(headers)
        self._inherited_names = {name for name, _ in self._headers}
        self._settable: set[bytes] = set()
        if len(self._headers) > self._limits.max_header_lines:
            raise LimitError(
                f"calls would inherit more than {self._limits.max_header_lines} headers",
                limit="max_header_lines",
                maximum=self._limits.max_header_lines,
            )
        consumed = {name.encode() for name in consumed_query}
        self._pairs = [
            (name, pair)
            for pair in query.split(b"&")
            if (name := _decoded_name(pair)) and name not in consumed
        ]
        self._names = {name for name, _ in self._pairs}
        self._query = b"&".join(pair for _, pair in self._pairs)
        self._queries: dict[bytes, bytes] = {}
        self._query_bytes_left = self._limits.max_body_bytes

    def headers_for(self, own: Headers) -> Headers:
        """
        Merge a call's own headers with the inherited ones; own ones come first.

        Args:
            own: As in the call; Content-Length is the caller's business.
        """
        names = {name for name, _ in own}
        if not names <= self._settable:
            refused = {name for name in names - self._settable if not self._may_set(name)}
            self._settable |= names - refused
            own = tuple(header for header in own if header[0] not in refused)
            names -= refused
        if names.isdisjoint(self._inherited_names):
            return own + self._headers
        return own + tuple(header for header in self._headers if header[0] not in names)

    def query_for(self, own: bytes) -> bytes:
        """
        Append the outer pairs whose decoded name does not occur in the call's own query.

        Args:
            own: The call's query as sent; its bytes stay as they are.

        Raises:
            LimitError: What was added to all calls together exceeds ``max_body_bytes``.
        """
        if not self._pairs:
            return own
        merged = self._queries.get(own)
        if merged is None:
            # The names are compared for each different query, so that this also bounds the time.
            self._query_bytes_left -= len(self._query)
            if self._query_bytes_left < 0:
                raise LimitError(
                    "the outer query, added to every call, makes the batch too long",
                    limit="max_body_bytes",
                    maximum=self._limits.max_body_bytes,
                )
            merged = self._queries[own] = self._merge_query(own)
        return merged

    def _merge_query(self, own: bytes) -> bytes:
        if not own:
            return self._query
        names = set(map(_decoded_name, own.split(b"&")))
        if names.isdisjoint(self._names):
            return own + b"&" + self._query
        return b"&".join([own, *(pair for name, pair in self._pairs if name not in names)])

    def _may_set(self, name: bytes) -> bool:
        """Tell whether a call's own header reaches the call."""
        if name == b"accept-encoding" or (b"_" in name and not self._underscores):
            return False
        return not self._is_protected(name)

    def _is_protected(self, name: bytes) -> bool:
        plain = _plain(name)
        return plain in self._not_overridable or plain.startswith(self._prefixes)

    def _inherited(self, headers: Headers) -> Headers:
        named = connection_names(headers)
        inherited: list[Header] = []
        for name, value in headers:
            # A client must not be able to take away what the proxy said by naming it in
            # Connection, hence the second half.
            if _is_outer_only(name) or (name in named and not self._is_protected(name)):
                continue
            if name in (b"accept", b"prefer"):
                value = _for_calls(name, value)
                if not value:
                    continue
            inherited.append((name, value))
        return tuple(inherited)


# CGI-like environments cannot tell "_" from "-", also behind ASGI (Django's, for one), and some
# write every character that is no letter and no digit as "_".
_PLAIN = bytes(
    byte if chr(byte).isascii() and chr(byte).isalnum() else ord("-") for byte in range(256)
)


def _plain(name: bytes) -> bytes:
    return name.lower().translate(_PLAIN)


def _is_outer_only(name: bytes) -> bool:
    """Tell whether a header concerns the outer request alone (SPEC 3.2)."""
    if name in _NOT_INHERITED or name.startswith(_NOT_INHERITED_PREFIXES):
        return name not in _INHERITED_NEVERTHELESS
    return False


def _for_calls(name: bytes, value: bytes) -> bytes:
    """Keep those elements of Accept or Prefer that mean the calls, or all if all do."""
    concerns_batch = _is_multipart_range if name == b"accept" else _is_batch_preference
    elements = [element.strip(b" \t") for element in _elements(value)]
    kept = [element for element in elements if element and not concerns_batch(element)]
    return value if len(kept) == len(elements) else b", ".join(kept)


def _elements(value: bytes) -> Iterator[bytes]:
    """Yield the elements of a list; commas in quotes separate nothing."""
    pattern = _OUTSIDE
    start = position = 0
    while found := pattern.search(value, position):
        position = found.end()
        if found[0] == b",":
            yield value[start : position - 1]
            start = position
        elif found[0] == b'"':
            pattern = _OUTSIDE if pattern is _INSIDE else _INSIDE
    yield value[start:]


def _is_multipart_range(element: bytes) -> bool:
    return element[:10].lower() == b"multipart/"


def _is_batch_preference(element: bytes) -> bool:
    found = _PREFERENCE_NAME.match(element)
    return found is not None and found[0].lower() in BATCH_PREFERENCES


def read_preferences(value: bytes) -> list[tuple[bytes, bytes]]:
    """
    Read the value of a Prefer header: names and values in lower case, without quotes.

    Raises:
        UnsupportedError: A quote is not closed, so that it may hide other preferences.
    """
    if not _QUOTES_END.fullmatch(value):
        raise UnsupportedError("a quote in Prefer is not closed")
    wishes = (wish.partition(b";")[0].partition(b"=") for wish in _elements(value.lower()))
    return [(name.strip(b" \t"), what.strip(b' \t"')) for name, _, what in wishes]


def _decoded_name(pair: bytes) -> bytes:
    """Return the name of a query pair, decoded as forms are (``+`` is a space)."""
    name = pair.partition(b"=")[0]
    if b"+" in name:
        name = name.replace(b"+", b" ")
    return unquote_to_bytes(name) if b"%" in name else name
