"""
Rules: which headers of the outer request a call takes over, and which a call may set itself.

The lists are the security of the batch: what a trusted proxy has said about the outer request
holds for every call, whatever the call's own headers say, as those are text of the client (SPEC,
section 3).
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from functools import lru_cache

from atomicbatch.limits import Limits
from atomicbatch.wire.memo import Memo
from atomicbatch.wire.message import new_part_heads
from atomicbatch.wire.target import TargetReader

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

# Lists of which some elements mean the batch, and the others its calls.
_SHARED = frozenset({b"accept", b"prefer"})

# Of the names that clients send, most are the same each time. What is longer is no usual name.
_NAMES, _NAME_BYTES = 1024, 64
# Paths of one endpoint, by the prefixes that apps are mounted at.
_MOST_MOUNTS = 16


class Fate(Enum):
    """What becomes of a header of the outer request, by its name."""

    INHERITED = "inherited"
    SHARED = "shared"
    """Inherited without what it says about the batch itself."""
    KEPT_OUTSIDE = "kept outside"
    CONNECTION = "connection"
    """Kept outside, and so is what it names."""


class Rules:
    """
    What an endpoint has been told about the headers and queries of its calls; made once for it.

    Of all that requests say, it remembers nothing but names of headers.

    Args:
        limits: Bounds on a batch.
        not_overridable: More header names that a call cannot change, in any case; one that ends
            in ``*`` stands for all that start so.
        consumed_query: Decoded names in the outer query that the batch itself uses.
        underscores: Keep a call's headers that have ``_`` in their name. WSGI cannot tell
            ``X_User`` from ``X-User``, so that they must go there.

    Attributes:
        limits: The same.
        consumed: ``consumed_query``, as bytes.
        fates: What ``fate_of`` has said so far.
        settable: What ``may_set`` has said so far.
        part_heads: By line end, the heads of parts that were read; see ``PartReader``.
        targets: Gives the reader of targets for the paths of the endpoint.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        not_overridable: Collection[bytes] = (),
        consumed_query: Collection[str] = (),
        underscores: bool = True,
    ) -> None:
        self.limits = limits or Limits()
        self.consumed = frozenset(name.encode() for name in consumed_query)
        named = [name for name in not_overridable if not name.endswith(b"*")]
        self._protected = _NOT_OVERRIDABLE.union(map(_plain, named))
        self._protected_prefixes = _NOT_OVERRIDABLE_PREFIXES + tuple(
            _plain(name[:-1]) for name in not_overridable if name.endswith(b"*")
        )
        self._underscores = underscores
        self.fates: Memo[bytes, Fate] = Memo(_NAMES, _NAME_BYTES)
        self.settable: Memo[bytes, bool] = Memo(_NAMES, _NAME_BYTES)
        self.part_heads = {newline: new_part_heads() for newline in (b"\r\n", b"\n")}
        self.targets = lru_cache(maxsize=_MOST_MOUNTS)(TargetReader)

    def fate_of(self, name: bytes) -> Fate:
        """Tell what becomes of the outer headers of a name, also of one that is not known yet."""
        return self.fates.keep(name, _fate_of(name), len(name))

    def may_set(self, name: bytes) -> bool:
        """Tell whether a call's own headers of a name reach the call."""
        return self.settable.keep(name, self._may_set(name), len(name))

    def is_protected(self, name: bytes) -> bool:
        """Tell whether a name is one by which proxies and gateways speak (SPEC 3.3)."""
        plain = _plain(name)
        return plain in self._protected or plain.startswith(self._protected_prefixes)

    def _may_set(self, name: bytes) -> bool:
        if name == b"accept-encoding" or (b"_" in name and not self._underscores):
            return False
        return not self.is_protected(name)


# CGI-like environments cannot tell "_" from "-", also behind ASGI (Django's, for one), and some
# write every character that is no letter and no digit as "_".
_PLAIN = bytes(
    byte if chr(byte).isascii() and chr(byte).isalnum() else ord("-") for byte in range(256)
)


def _plain(name: bytes) -> bytes:
    return name.lower().translate(_PLAIN)


def _fate_of(name: bytes) -> Fate:
    if name == b"connection":
        return Fate.CONNECTION
    if name in _NOT_INHERITED or name.startswith(_NOT_INHERITED_PREFIXES):
        return Fate.INHERITED if name in _INHERITED_NEVERTHELESS else Fate.KEPT_OUTSIDE
    return Fate.SHARED if name in _SHARED else Fate.INHERITED
