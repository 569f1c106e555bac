"""What a call takes over from the outer request, name by name (SPEC 3)."""

from __future__ import annotations

import pytest

from atomicbatch.errors import LimitError
from atomicbatch.limits import Limits
from atomicbatch.model import Headers
from atomicbatch.wire.inherit import Inheritance
from atomicbatch.wire.rules import Rules

INHERITED = """
    accept accept-language authorization batch-references cache-control cookie host if-match
    if-modified-since if-none-match if-unmodified-since origin referer sec-fetch-mode tenant
    traceparent user-agent x-api-key x-csrf-token x-request-id x_custom
""".split()  # noqa: SIM905  a list of words reads better than 50 quoted ones

NOT_INHERITED = """
    content-type content-length content-encoding content-digest content-whatever connection
    keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings
    proxy-authorization proxy-authenticate expect max-forwards range if-range from mime-version
    accept-encoding idempotency-key repeatability-request-id repeatability-first-sent
    x-retry-on-version-conflict batch-outcome batch-name x-http-method x-http-method-override
    x-method-override digest repr-digest want-digest want-content-digest want-repr-digest
    signature signature-input signature-agent dpop x-hub-signature x-hub-signature-256
    sec-websocket-key sec-websocket-version upgrade-insecure-requests priority early-data
""".split()  # noqa: SIM905  a list of words reads better than 50 quoted ones

NOT_OVERRIDABLE = """
    host forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix
    x-forwarded x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip
    cf-connecting-ipv6 fastly-client-ip x-original-url x-original-host x-rewrite-url
    x-arr-clientcert x-ms-client-principal x-ms-client-principal-id x-amzn-oidc-data
    x-goog-authenticated-user-email x-goog-iap-jwt-assertion remote-user remote-groups
    x-remote-user ssl-client-cert ssl-client-verify x-ssl-cert client-cert client-cert-chain
    x-client-cert x-auth-request-user x-webauth-user x-envoy-external-address x-azure-clientip
    tailscale-user-login x-authentik-username x-appengine-user-ip
    x-auth-user x-auth-request-email x-auth x-authenticated-userid x-authenticated-groups
    x-authelia-user x-consumer-id x-consumer-username x-consumer-custom-id x-credential-identifier
    x-vouch-user x-vouch-idp-claims-email x-pomerium-jwt-assertion x-pomerium-claim-email
    x-goog-authenticated-user-id x-goog-iap-anything x-amzn-oidc-identity x-amzn-oidc-accesstoken
    x-ms-client-principal-name x-ms-client-principal-idp oidc-claim-sub oidc-access-token
    cf-access-authenticated-user-email cf-access-jwt-assertion client-ip x-originating-ip
    fly-client-ip x-envoy-peer-metadata x-envoy-original-path ssl-client-s-dn x-ssl-client-verify
    x-client-cert-chain x-forwarded-client-cert x-forwarded-user x-forwarded-email
    x-forwarded-access-token remote-email x-original-uri x-original-forwarded-for
    x-userinfo x-id-token x-amzn-mtls-clientcert-subject x-tls-client-subject shib-session-id
    iv-user iv-groups sm-user oam-remote-user x-jwt-payload x-webauth-email x-host x-scheme
    x-script-name x-real-port wl-proxy-client-ip cloudfront-viewer-address x-vercel-forwarded-for
""".split()  # noqa: SIM905  a list of words reads better than 50 quoted ones


def inherited(*headers: tuple[bytes, bytes]) -> Headers:
    return Inheritance(headers).headers_for(())


@pytest.mark.parametrize("name", INHERITED + NOT_OVERRIDABLE)
def test_inherited(name: str) -> None:
    """These reach every call; what a trusted proxy says reaches it too."""
    header = (name.encode(), b"outer")
    assert inherited(header) == (header,)


@pytest.mark.parametrize("name", NOT_INHERITED)
def test_not_inherited(name: str) -> None:
    """These concern the outer message, its connection, or the batch as a whole (SPEC 3.2)."""
    assert inherited((name.encode(), b"outer")) == ()


@pytest.mark.parametrize(
    "name", sorted(set(INHERITED + NOT_INHERITED) - {"accept-encoding", "host"})
)
def test_own_headers(name: str) -> None:
    """A call's own header wins, also where the outer one is not inherited."""
    outer = Inheritance(((name.encode(), b"outer"),))
    own = ((name.encode(), b"own"),)
    assert outer.headers_for(own) == own


@pytest.mark.parametrize("name", NOT_OVERRIDABLE)
def test_not_overridable(name: str) -> None:
    """What a trusted proxy sets, a call cannot, in either spelling, whether it was set or not."""
    header = (name.encode(), b"outer")
    for spelling in (name.encode(), *(name.replace("-", mark).encode() for mark in "_.!~")):
        own = ((spelling, b"own"), (b"a", b"b"))
        assert Inheritance((header,)).headers_for(own) == ((b"a", b"b"), header)
        assert Inheritance(()).headers_for(own) == ((b"a", b"b"),)


def test_configured_names() -> None:
    """More names can be protected; they are compared without regard to case and ``_``."""
    outer = Inheritance(((b"x-tenant", b"t"),), rules=Rules(not_overridable=[b"X-Tenant"]))
    for own in (b"x-tenant", b"x_tenant"):
        assert outer.headers_for(((own, b"own"),)) == ((b"x-tenant", b"t"),)


def test_configured_prefixes() -> None:
    """A name that ends in a star stands for all that start so; others stay the call's own."""
    outer = Inheritance(((b"x-acme-user", b"t"),), rules=Rules(not_overridable=[b"X-Acme-*"]))
    for own in (b"x-acme-user", b"x_acme_role", b"x-acme-"):
        assert outer.headers_for(((own, b"own"),)) == ((b"x-acme-user", b"t"),)
    own_headers = ((b"x-acme", b"own"),)
    assert outer.headers_for(own_headers)[:1] == own_headers


def test_repeats() -> None:
    """One own header replaces all outer ones of its name; repeats are kept apart and in order."""
    outer = Inheritance(((b"a", b"1"), (b"b", b"2"), (b"a", b"3")))
    assert outer.headers_for(()) == ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    own = ((b"a", b"4"), (b"a", b"5"))
    assert outer.headers_for(own) == (*own, (b"b", b"2"))


def test_accept_encoding() -> None:
    """A call runs with identity whatever it says: the response is compressed as a whole."""
    assert Inheritance(()).headers_for(((b"accept-encoding", b"gzip"),)) == ()


def test_connection() -> None:
    """What Connection names goes, but for what the client could so take away from the proxy."""
    assert inherited(
        (b"connection", b"close, X-A ,x-forwarded-for"),
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"connection", b"x-c, host"),
        (b"x-c", b"3"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"host", b"api"),
    ) == ((b"x-b", b"2"), (b"x-forwarded-for", b"1.2.3.4"), (b"host", b"api"))


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        (b"application/json", b"application/json"),
        (b"a/b;q=0.1,c/d", b"a/b;q=0.1,c/d"),
        (b"multipart/mixed", None),
        (b"Multipart/Mixed;q=0.9, MULTIPART/*", None),
        (b"multipart/mixed, a/b;q=0.1 , */*", b"a/b;q=0.1, */*"),
        (b'a/b;x="y, multipart/mixed", multipart/mixed', b'a/b;x="y, multipart/mixed"'),
        (b'a/b;x="y\\", c", multipart/mixed', b'a/b;x="y\\", c"'),
        (b'multipart/mixed, a/b;x="y, c/d', b'a/b;x="y, c/d'),
        (b'multipart/mixed, a/b;x="y\\', b'a/b;x="y\\'),
        (b"", None),
    ],
)
def test_accept(outer: bytes, expected: bytes | None) -> None:
    """Accept loses its multipart ranges: they mean the response as a whole."""
    header = (b"accept", outer)
    assert inherited(header) == (() if expected is None else ((b"accept", expected),))


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        (b"return=minimal", b"return=minimal"),
        (b"respond-async, wait=10", None),
        (b"tx=rollback, Return=minimal; foo", b"Return=minimal; foo"),
        (b"All-Errors,handling=lenient, continue-on-error=true", b"handling=lenient"),
        (b'batch-status="strict", a="wait, tx"', b'a="wait, tx"'),
        (b"wait ; a=b, waiting=1", b"waiting=1"),
    ],
)
def test_prefer(outer: bytes, expected: bytes | None) -> None:
    """Preferences about the batch stay outside, the others are inherited."""
    assert inherited((b"prefer", outer)) == (() if expected is None else ((b"prefer", expected),))
    own = ((b"prefer", b"tx=commit"),)
    assert Inheritance(((b"prefer", outer),)).headers_for(own) == own


@pytest.mark.parametrize(
    ("outer", "own", "merged"),
    [
        (b"", b"", b""),
        (b"", b"a=1", b"a=1"),
        (b"a=1", b"", b"a=1"),
        (b"a=1&b=2", b"c=3", b"c=3&a=1&b=2"),
        (b"a=1&b=2&a=3", b"b=4", b"b=4&a=1&a=3"),
        (b"a=1", b"a", b"a"),
        (b"a=1", b"a=", b"a="),
        (b"a=1", b"A=2", b"A=2&a=1"),
        (b"a%20b=1", b"a+b=2", b"a+b=2"),
        (b"a+b=1", b"a%20b=2", b"a%20b=2"),
        (b"%61=1", b"a=2", b"a=2"),
        (b"a=1", b"%61=2", b"%61=2"),
        (b"a%2Bb=1", b"a+b=2", b"a+b=2&a%2Bb=1"),
        (b"a=1", b"b=a=2&&", b"b=a=2&&&a=1"),
        (b"=1&&b=%2&%zz=3", b"c", b"c&b=%2&%zz=3"),
        (b"x=1&x=2", b"y=%26x%3D3", b"y=%26x%3D3&x=1&x=2"),
        (b"a=1&b=2", b"b=3&a=4", b"b=3&a=4"),
    ],
)
def test_query(outer: bytes, own: bytes, merged: bytes) -> None:
    """The call's bytes stay; outer pairs follow whose decoded name is not among them (3.4)."""
    inheritance = Inheritance((), outer)
    assert inheritance.query_for(own) == merged
    assert inheritance.query_for(own) == merged


def test_consumed_query() -> None:
    """Names that the batch itself uses are not passed on, however they are spelt."""
    rules = Rules(consumed_query=["comp", "é"])
    inheritance = Inheritance((), b"c%6Fmp=batch&k=v&%C3%A9=1", rules)
    assert inheritance.query_for(b"a=1") == b"a=1&k=v"


def test_what_is_inherited_is_bounded() -> None:
    """A short request cannot become a batch of any length by what its calls inherit."""
    with pytest.raises(LimitError) as caught:
        Inheritance(((b"a", b"b"),) * 3, rules=Rules(Limits(max_header_lines=2)))
    assert caught.value.limit == "max_header_lines"
    inheritance = Inheritance((), b"a=" + b"x" * 40, Rules(Limits(max_body_bytes=100)))
    for own in (b"b=1", b"b=2", b"b=1", b"b=2", b"b=1"):
        assert len(inheritance.query_for(own)) == 46
    with pytest.raises(LimitError) as caught:
        inheritance.query_for(b"b=3")
    assert caught.value.limit == "max_body_bytes"
