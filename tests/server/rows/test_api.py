"""Rows as resources, on every kind of database, looked at through an independent connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.served import Served, call, kind_of, make_shop, on_its_own

ITEM = {"sku": "jam", "name": "Jam", "price": "3.20", "stock": 5, "note": None}


def problem(response: Any, status: int, slug: str) -> dict[str, Any]:
    """The problem document of a refusal, checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"urn:atomicbatch:problem:{slug}"
    assert document["status"] == status
    return document


def test_a_created_row_is_answered_as_stored_and_can_be_read_at_its_location(shop: Served) -> None:
    """POST is 201 with Location, ETag and the row; GET there gives the same."""
    created = shop.request("POST", "/v1/api/items", ITEM)
    assert created.status_code == 201
    assert created.json() == {"id": 4, **ITEM}
    assert created.headers["location"] == "/v1/api/items/4"
    read = shop.request("GET", "/v1/api/items/4")
    assert read.status_code == 200
    assert read.content == created.content
    assert read.headers["etag"] == created.headers["etag"]
    assert shop.rows("SELECT sku, stock FROM items WHERE id = 4") == [("jam", 5)]


def test_an_array_creates_many_rows_or_none(shop: Served) -> None:
    """All rows of an array are created in order; a wrong one leaves none."""
    rows = [{**ITEM, "sku": f"jam {n}"} for n in range(3)]
    created = shop.request("POST", "/v1/api/items", rows)
    assert created.status_code == 201
    assert [row["sku"] for row in created.json()] == ["jam 0", "jam 1", "jam 2"]
    wrong = [{**ITEM, "sku": "new"}, {**ITEM, "sku": "tea"}]
    problem(shop.request("POST", "/v1/api/items", wrong), 409, "unique-violation")
    assert shop.rows("SELECT count(*) FROM items") == [(6,)]


def test_a_create_without_columns_takes_the_defaults(shop: Served) -> None:
    """An empty object is a row of defaults where there are defaults for all that is needed."""
    document = problem(shop.request("POST", "/v1/api/items", {}), 422, "not-null-violation")
    assert document["column"] == "sku"


def test_patch_changes_what_it_names(shop: Served) -> None:
    """PATCH answers with the row as stored and leaves the other columns alone."""
    changed = shop.request("PATCH", "/v1/api/items/1", {"stock": 7, "note": "fresh ✓"})
    assert changed.status_code == 200
    assert changed.json() == {
        "id": 1, "sku": "tea", "name": "Tea", "price": "4.50", "stock": 7, "note": "fresh ✓",
    }  # fmt: skip
    assert shop.rows("SELECT stock, note, name FROM items WHERE id = 1") == [(7, "fresh ✓", "Tea")]
    same = shop.request("PATCH", "/v1/api/items/1", {"stock": 7})
    assert same.status_code == 200, "a change to the same value is no missing row"
    assert shop.request("PATCH", "/v1/api/items/1", {}).json() == changed.json()
    problem(shop.request("PATCH", "/v1/api/items/99", {"stock": 7}), 404, "not-found")
    problem(shop.request("PATCH", "/v1/api/items/99", {}), 404, "not-found")


def test_minimal_answers_have_no_row(shop: Served) -> None:
    """return=minimal leaves the body out and tells that it did; the ETag is there all the same."""
    minimal = "return=minimal"
    created = shop.request("POST", "/v1/api/items", ITEM, prefer=minimal)
    assert (created.status_code, created.content) == (201, b"")
    assert created.headers["location"] == "/v1/api/items/4"
    changed = shop.request("PATCH", "/v1/api/items/4", {"stock": 1}, prefer=minimal)
    assert (changed.status_code, changed.content) == (204, b"")
    assert changed.headers["etag"] == shop.request("GET", "/v1/api/items/4").headers["etag"]
    put = shop.request("PUT", "/v1/api/items/9", {"sku": "x", "name": "x"}, prefer=minimal)
    assert (put.status_code, put.content) == (201, b"")
    many = shop.request("POST", "/v1/api/items", [{**ITEM, "sku": "y"}], prefer=minimal)
    assert (many.status_code, many.content) == (201, b"")
    for response in (created, changed, put, many):
        assert response.headers["preference-applied"] == minimal


def test_patch_can_change_the_key(shop: Served) -> None:
    """The row is then found under its new key only."""
    assert shop.request("PATCH", "/v1/api/items/3", {"id": 30}).json()["id"] == 30
    assert shop.request("GET", "/v1/api/items/3").status_code == 404
    assert shop.request("GET", "/v1/api/items/30").json()["sku"] == "pot"


def test_put_creates_and_replaces(shop: Served) -> None:
    """PUT is 201 for a new row, 200 for an old one, whose other columns go to their defaults."""
    created = shop.request("PUT", "/v1/api/items/50", {"sku": "hat", "name": "Hat", "stock": 2})
    assert created.status_code == 201
    assert created.headers["location"] == "/v1/api/items/50"
    assert created.json()["price"] == "0.00"
    shop.request("PATCH", "/v1/api/items/50", {"note": "x", "price": "5"})
    replaced = shop.request("PUT", "/v1/api/items/50", {"id": 50, "sku": "hat", "name": "Cap"})
    assert replaced.status_code == 200
    assert shop.rows("SELECT sku, name, price, stock, note FROM items WHERE id = 50") == [
        ("hat", "Cap", 0, 0, None)
    ]
    mismatch = shop.request("PUT", "/v1/api/items/50", {"id": 51, "sku": "hat", "name": "Cap"})
    assert problem(mismatch, 400, "key-mismatch")
    incomplete = shop.request("PUT", "/v1/api/items/50", {"name": "Cap"})
    problem(incomplete, 422, "not-null-violation")


def test_delete_removes_one_row(shop: Served) -> None:
    """DELETE is 204, or 200 with the row when it is asked for; then 404."""
    gone = shop.request("DELETE", "/v1/api/items/1")
    assert (gone.status_code, gone.content) == (204, b"")
    shown = shop.request("DELETE", "/v1/api/items/2", prefer="return=representation")
    assert (shown.status_code, shown.json()["sku"]) == (200, "cup")
    problem(shop.request("DELETE", "/v1/api/items/1"), 404, "not-found")
    assert shop.rows("SELECT sku FROM items") == [("pot",)]


def test_composite_keys(shop: Served) -> None:
    """The parts of a key stand in key order, separated by commas."""
    line = {"order_no": 7, "line_no": 1, "item_id": 2, "quantity": 3}
    created = shop.request("POST", "/v1/api/order_lines", line)
    assert created.headers["location"] == "/v1/api/order_lines/7,1"
    assert shop.request("GET", "/v1/api/order_lines/7,1").json() == line
    assert shop.request("PUT", "/v1/api/order_lines/7,2", {"item_id": 1}).status_code == 201
    assert shop.request("DELETE", "/v1/api/order_lines/7,1").status_code == 204
    assert shop.rows("SELECT order_no, line_no FROM order_lines") == [(7, 2)]
    problem(shop.request("GET", "/v1/api/order_lines/7"), 400, "invalid-key")
    problem(shop.request("GET", "/v1/api/order_lines/7,x"), 400, "wrong-type")


def test_many_rows_are_changed_and_deleted_by_filter_only(shop: Served) -> None:
    """PATCH and DELETE of a collection need a filter, and reach what it matches."""
    for method in ("PATCH", "DELETE"):
        body = {"stock": 0} if method == "PATCH" else None
        for query in ("", "?limit=1", "?alt=json"):
            problem(shop.request(method, f"/v1/api/items{query}", body), 400, "filter-required")
    changed = shop.request("PATCH", "/v1/api/items?price=gt.10", {"stock": 9})
    assert sorted(row["sku"] for row in changed.json()) == ["cup", "pot"]
    assert shop.rows("SELECT sku FROM items WHERE stock = 9 ORDER BY sku") == [("cup",), ("pot",)]
    minimal = shop.request(
        "PATCH", "/v1/api/items?price=gt.10", {"stock": 8}, prefer="return=minimal"
    )
    assert (minimal.status_code, minimal.headers["preference-applied"]) == (204, "return=minimal")
    assert shop.request("PATCH", "/v1/api/items?price=gt.1000", {"stock": 8}).json() == []
    gone = shop.request("DELETE", "/v1/api/items?stock=eq.8", prefer="return=representation")
    assert sorted(row["sku"] for row in gone.json()) == ["cup", "pot"]
    assert shop.request("DELETE", "/v1/api/items?id=eq.1").status_code == 204
    assert shop.rows("SELECT count(*) FROM items") == [(0,)]


def test_lists_are_filtered_ordered_paged_and_counted(shop: Served) -> None:
    """filter, select, order, limit, offset and count=exact work together."""
    listed = shop.request(
        "GET", "/v1/api/items?stock=gt.0&select=sku,kept:stock&order=stock.desc&limit=2&offset=1",
        prefer="count=exact",
    )  # fmt: skip
    assert listed.json() == [{"sku": "cup", "kept": 3}, {"sku": "pot", "kept": 1}]
    assert listed.headers["content-range"] == "1-2/3"
    assert listed.headers["preference-applied"] == "count=exact"
    nothing = shop.request("GET", "/v1/api/items?id=gt.99", prefer="count=exact")
    assert (nothing.json(), nothing.headers["content-range"]) == ([], "*/0")
    again = shop.request("GET", "/v1/api/items?id=gt.99", if_none_match=nothing.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")


def test_a_long_list_is_whole(shop: Served) -> None:
    """More rows than are fetched at once come as one valid array, in key order."""
    rows = [{**ITEM, "sku": f"s{n}"} for n in range(2500)]
    assert shop.request("POST", "/v1/api/items", rows, prefer="return=minimal").status_code == 201
    listed = shop.request("GET", "/v1/api/items?sku=like.s*&select=sku")
    assert [row["sku"] for row in listed.json()] == [f"s{n}" for n in range(2500)]


def test_head_tells_the_same_without_a_body(shop: Served) -> None:
    """HEAD has GET's status and headers."""
    for target in ("/v1/api/items", "/v1/api/items/1", "/", "/openapi.json"):
        read, head = shop.request("GET", target), shop.request("HEAD", target)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("etag") == read.headers.get("etag")
        assert head.headers["content-length"] == read.headers["content-length"]


def test_conditions(shop: Served) -> None:
    """If-None-Match gives 304 on reads; If-Match and If-None-Match give 412 on writes."""
    tag = shop.request("GET", "/v1/api/items/1").headers["etag"]
    assert shop.request("GET", "/v1/api/items/1", if_none_match=tag).status_code == 304
    assert shop.request("GET", "/v1/api/items/1", if_none_match=f'"x", W/{tag}').status_code == 304
    assert shop.request("GET", "/v1/api/items/1?select=sku").headers["etag"] == tag
    problem(shop.request("GET", "/v1/api/items/1", if_match='"x"'), 412, "precondition-failed")
    # Lists may have empty elements (RFC 9110, section 5.6.1).
    listed = f',"x", ,{tag},'
    changed = shop.request("PATCH", "/v1/api/items/1", {"stock": 1}, if_match=listed)
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    for method, body in (
        ("PATCH", {"stock": 2}),
        ("DELETE", None),
        ("PUT", {"sku": "t", "name": "T"}),
    ):
        stale = shop.request(method, "/v1/api/items/1", body, if_match=tag)
        problem(stale, 412, "precondition-failed")
    item = {"sku": "new", "name": "New"}
    problem(shop.request("PUT", "/v1/api/items/9", item, if_match="*"), 412, "precondition-failed")
    assert shop.request("PUT", "/v1/api/items/9", item, if_none_match="*").status_code == 201
    again = shop.request("PUT", "/v1/api/items/9", item, if_none_match="*")
    problem(again, 412, "precondition-failed")
    problem(shop.request("POST", "/v1/api/items", ITEM, if_match="*"), 400, "invalid-precondition")
    assert shop.rows("SELECT stock FROM items WHERE id = 1") == [(1,)]


def test_duplicates_are_merged_or_ignored_when_asked(shop: Served) -> None:
    """resolution= decides by primary key, or by the unique columns of on_conflict."""
    item = {"id": 1, "sku": "tea", "name": "Green tea"}
    problem(shop.request("POST", "/v1/api/items", item), 409, "unique-violation")
    ignore, merge = "resolution=ignore-duplicates", "resolution=merge-duplicates"
    ignored = shop.request("POST", "/v1/api/items", item, prefer=ignore)
    assert (ignored.status_code, ignored.json()["name"]) == (200, "Tea")
    merged = shop.request("POST", "/v1/api/items", item, prefer=merge)
    assert (merged.status_code, merged.json()["name"]) == (200, "Green tea")
    assert merged.headers["preference-applied"] == merge
    both = [{"sku": "cup", "name": "Mug"}, {"sku": "fork", "name": "Fork"}]
    mixed = shop.request("POST", "/v1/api/items?on_conflict=sku", both, prefer=merge)
    assert (mixed.status_code, [row["name"] for row in mixed.json()]) == (201, ["Mug", "Fork"])
    assert shop.rows("SELECT name FROM items WHERE sku IN ('tea', 'cup') ORDER BY name") == [
        ("Green tea",), ("Mug",),
    ]  # fmt: skip
    wrong = shop.request("POST", "/v1/api/items?on_conflict=name", item, prefer=merge)
    problem(wrong, 400, "invalid-query")


@pytest.mark.parametrize(
    ("change", "status", "slug", "column"),
    [
        ({"sku": "tea"}, 409, "unique-violation", None),
        ({"sku": None}, 422, "not-null-violation", "sku"),
        ({"stock": -1}, 422, "check-violation", None),
        ({"stock": "many"}, 400, "wrong-type", "stock"),
        ({"stock": 1.5}, 400, "wrong-type", "stock"),
        ({"stock": True}, 400, "wrong-type", "stock"),
        ({"stock": 2**70}, 422, "value-out-of-range", "stock"),
        ({"name": 5}, 400, "wrong-type", "name"),
        ({"name": ["x"]}, 400, "wrong-type", "name"),
        ({"name": "x" * 51}, 422, "value-too-long", "name"),
        ({"price": "1.999"}, 422, "value-out-of-range", "price"),
        ({"price": "123456789.00"}, 422, "value-out-of-range", "price"),
        ({"price": "cheap"}, 400, "wrong-type", "price"),
        ({"colour": "red"}, 400, "unknown-column", "colour"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    shop: Served, change: dict[str, Any], status: int, slug: str, column: str | None
) -> None:
    """Each kind of wrong value has its status; the column is named and the value is not shown."""
    for method, target, body in (
        ("POST", "/v1/api/items", {**ITEM, **change}),
        ("PATCH", "/v1/api/items/2", change),
    ):
        document = problem(shop.request(method, target, body), status, slug)
        if column is not None:
            assert document["column"] == column
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]
    assert shop.rows("SELECT stock, name FROM items WHERE id = 2") == [(3, "Cup")]


def test_foreign_keys_are_enforced(shop: Served) -> None:
    """A reference to nothing is 409, and so is the deletion of what is referenced."""
    line = {"order_no": 1, "line_no": 1, "item_id": 99}
    shop.request("POST", "/v1/api/order_lines", {**line, "item_id": 1})
    for method, target, body in (
        ("POST", "/v1/api/order_lines", {**line, "order_no": 2}),
        ("PUT", "/v1/api/order_lines/1,1", {"item_id": 99}),
        ("PATCH", "/v1/api/order_lines/1,1", {"item_id": 99}),
        ("DELETE", "/v1/api/items/1", None),
        ("PATCH", "/v1/api/items/1", {"id": 50}),
    ):
        refused = problem(shop.request(method, target, body), 409, "foreign-key-violation")
        if shop.kind == "sqlite":  # the others name their constraint
            assert refused.get("column") == "item_id", (method, target, refused)
        else:
            assert refused["constraint"] == "line_item", (method, target, refused)
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]


def test_views_are_read_only(shop: Served) -> None:
    """A view is listed; every write to it is 405 with Allow."""
    assert len(shop.request("GET", "/v1/api/item_names?order=id").json()) == 3
    refused = shop.request("POST", "/v1/api/item_names", {"id": 5, "name": "x"})
    assert "view" in problem(refused, 405, "method-not-allowed")["detail"]
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("method", "target", "status", "slug"),
    [
        ("GET", "/v1/api/nothing", 404, "not-found"),
        ("GET", "/v1/api/nothing/1", 404, "not-found"),
        ("GET", "/elsewhere", 404, "not-found"),
        ("GET", "/v1/api/items/99", 404, "not-found"),
        ("GET", "/v1/api/items/1/2", 404, "not-found"),
        ("GET", "/v1/api/items/x", 400, "wrong-type"),
        ("GET", "/v1/api/items?colour=eq.1", 400, "invalid-query"),
        ("GET", "/v1/api/items?id=5", 400, "invalid-query"),
        ("GET", "/v1/api/items?id=eq.x", 400, "wrong-type"),
        ("GET", "/v1/api/items/1?id=eq.1", 400, "invalid-query"),
        ("TRACE", "/v1/api/items", 405, "method-not-allowed"),
        ("PUT", "/v1/api/items", 405, "method-not-allowed"),
        ("POST", "/v1/api/items/1", 405, "method-not-allowed"),
        ("POST", "/healthz", 405, "method-not-allowed"),
        ("GET", "/v1/api/item_names/1", 404, "not-found"),
    ],
)
def test_what_is_not_there_is_told(
    shop: Served, method: str, target: str, status: int, slug: str
) -> None:
    """Unknown resources, rows, columns and methods each have their status."""
    problem(shop.request(method, target), status, slug)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "slug"),
    [
        (b"{", "application/json", 400, "malformed-json"),
        (b"", "application/json", 400, "malformed-json"),
        (b"[" * 100000, "application/json", 400, "malformed-json"),
        (b'"text"', "application/json", 400, "wrong-type"),
        (b"[1]", "application/json", 400, "wrong-type"),
        (b"sku=1", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b"{}", "application/json; charset=utf-16", 415, "unsupported-media-type"),
    ],
)
def test_a_body_that_is_not_a_row_is_refused(
    shop: Served, content: bytes, content_type: str, status: int, slug: str
) -> None:
    """Only JSON objects, or arrays of them, become rows."""
    response = shop.client.post(
        "/v1/api/items", content=content, headers={"content-type": content_type}
    )
    problem(response, status, slug)


def test_nothing_in_a_name_or_value_reaches_the_sql(shop: Served) -> None:
    """Quotes, percent signs and placeholders are only text."""
    nasty = "'; DROP TABLE items; -- %s %(x)s ? \" ` \\ %"
    created = shop.request("POST", "/v1/api/items", {**ITEM, "sku": "n", "name": nasty})
    assert created.json()["name"] == nasty
    assert shop.client.get("/v1/api/items", params={"name": f"eq.{nasty}"}).json() == [
        created.json()
    ]
    problem(shop.request("POST", "/v1/api/items", {nasty: 1}), 400, "unknown-column")


def test_a_trigger_s_work_is_in_the_answer(
    database_url: str, serve: Callable[[str], Served]
) -> None:
    """Where a trigger changes the row, the answer shows what is stored."""
    make_shop(database_url)
    on_its_own(database_url, *_UPPERCASE[kind_of(database_url)])
    shop = serve(database_url)
    created = shop.request("POST", "/v1/api/items", ITEM)
    assert created.json()["name"] == "JAM"
    changed = shop.request("PATCH", f"/v1/api/items/{created.json()['id']}", {"name": "plum"})
    assert changed.json()["name"] == "PLUM"
    assert shop.rows("SELECT name FROM items WHERE sku = 'jam'") == [("PLUM",)]


_DROP_NEGATIVE = {
    "sqlite": [
        f"CREATE TRIGGER drop_{event} BEFORE {event} ON items WHEN {row}.stock < 0"
        " BEGIN SELECT RAISE(IGNORE); END"
        for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old"))
    ],
    "postgresql": [
        (
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF TG_OP = 'DELETE' THEN"
            "   IF old.stock < 0 THEN RETURN NULL; ELSE RETURN old; END IF;"
            " END IF;"
            " IF new.stock < 0 THEN RETURN NULL; ELSE RETURN new; END IF; END $$"
        ),
        (
            "CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON items"
            " FOR EACH ROW EXECUTE FUNCTION keep()"
        ),
    ],
}


@pytest.mark.parametrize("name", ["sqlite_path", "postgresql_url"])
def test_what_a_trigger_drops_is_not_told_as_done(
    name: str, request: pytest.FixtureRequest, serve: Callable[[str], Served]
) -> None:
    """A trigger that silently drops a write makes the call fail, whichever write it is."""
    value = request.getfixturevalue(name)
    url = f"sqlite:///{value}" if name == "sqlite_path" else value
    make_shop(url)
    on_its_own(
        url,
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, stock INTEGER)",
        "INSERT INTO plain VALUES (1, 5), (2, -1), (3, 7)",
        *(s.replace(" items ", " plain ") for s in _DROP_NEGATIVE[kind_of(url)]),
    )
    shop = serve(url)
    before = shop.rows("SELECT * FROM plain ORDER BY id")
    for method, target, body in (
        ("POST", "/v1/api/plain", {"id": 9, "stock": -1}),
        ("PATCH", "/v1/api/plain/1", {"stock": -2}),
        ("PUT", "/v1/api/plain/1", {"stock": -2}),
        ("DELETE", "/v1/api/plain/2", None),
        ("PATCH", "/v1/api/plain?id=lt.3", {"stock": -2}),
        ("DELETE", "/v1/api/plain?id=gt.0", None),
    ):
        for prefer in ("return=minimal", "return=representation"):
            refused = shop.request(method, target, body, prefer=prefer)
            problem(refused, 422, "trigger-refused")
    assert shop.rows("SELECT * FROM plain ORDER BY id") == before
    assert shop.request("PATCH", "/v1/api/plain?id=gt.2", {"stock": 8}).json() == [
        {"id": 3, "stock": 8}
    ]
    problem(shop.request("DELETE", "/v1/api/plain/99"), 404, "not-found")


_UNDO = {
    "sqlite": [
        ("CREATE TRIGGER gone AFTER INSERT ON {table} WHEN new.v = 1"
        " BEGIN DELETE FROM {table} WHERE v = 1; END"),
        ("CREATE TRIGGER moved AFTER INSERT ON {table} WHEN new.v = 2"
        " BEGIN UPDATE {table} SET id = id + 1000, v = -2 WHERE v = 2; END"),
        ("CREATE TRIGGER gone2 AFTER UPDATE ON {table} WHEN new.v = 3"
        " BEGIN DELETE FROM {table} WHERE v = 3; END"),
        ("CREATE TRIGGER back AFTER DELETE ON {table} WHEN old.v = 4"
        " BEGIN INSERT INTO {table} VALUES (old.id, 4); END"),
    ],
    "postgresql": [
        ("CREATE FUNCTION undo_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF TG_OP = 'DELETE' THEN"
        "  IF old.v = 4 THEN INSERT INTO {table} VALUES (old.id, 4); END IF; RETURN NULL;"
        " END IF;"
        " IF new.v = 1 OR new.v = 3 THEN DELETE FROM {table} WHERE v = new.v; END IF;"
        " IF new.v = 2 THEN UPDATE {table} SET id = id + 1000, v = -2 WHERE v = 2; END IF;"
        " RETURN NULL; END $$"),
        ("CREATE TRIGGER undo AFTER INSERT OR UPDATE OR DELETE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION undo_{table}()"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ["sqlite_path", "postgresql_url"])
@pytest.mark.parametrize("table", ["keyed", "Keyless"])
def test_a_row_that_a_trigger_does_not_keep_is_no_success(
    name: str, table: str, request: pytest.FixtureRequest, serve: Callable[[str], Served]
) -> None:
    """Where a trigger deletes or moves the row that was written, or brings a deleted one back."""
    value = request.getfixturevalue(name)
    url = f"sqlite:///{value}" if name == "sqlite_path" else value
    key = " PRIMARY KEY" if table == "keyed" else ""
    kind, quoted = kind_of(url), f'"{table}"' if kind_of(url) == "postgresql" else table.lower()
    on_its_own(
        url,
        f'CREATE TABLE "{table}" (id INTEGER{key}, v INTEGER)',
        f'INSERT INTO "{table}" VALUES (7, 7), (8, 4)',
        *(s.format(table=quoted).replace('undo_"', '"undo_') for s in _UNDO[kind]),
    )
    served = serve(url)
    path = f"/v1/api/{table}"
    writes: list[tuple[str, str, Any]] = [
        ("POST", path, {"id": 1, "v": 1}),
        ("POST", path, [{"id": 1, "v": 5}, {"id": 2, "v": 1}]),
        ("DELETE", f"{path}?v=eq.4", None),
    ]
    if key:
        writes += [
            ("POST", path, {"id": 2, "v": 2}),
            ("PUT", f"{path}/1", {"v": 1}),
            ("PUT", f"{path}/7", {"v": 3}),
            ("PATCH", f"{path}/7", {"v": 3}),
            ("PATCH", f"{path}?id=eq.7", {"v": 3}),
            ("DELETE", f"{path}/8", None),
        ]
    for method, target, body in writes:
        refused = served.request(method, target, body)
        problem(refused, 422, "trigger-refused")
    assert served.rows(f'SELECT * FROM "{table}" ORDER BY id') == [(7, 7), (8, 4)]
    kept = served.request("POST", path, {"id": 9, "v": 9})
    assert (kept.status_code, kept.json()) == (201, {"id": 9, "v": 9})


def test_a_table_with_rules_that_replace_writes_is_read_only(
    postgresql_url: str, serve: Callable[[str], Served]
) -> None:
    """A rule that does something instead is told as such; one that does something also is fine."""
    on_its_own(
        postgresql_url,
        "CREATE TABLE silent (id integer PRIMARY KEY)",
        "CREATE RULE nothing AS ON INSERT TO silent DO INSTEAD NOTHING",
        "CREATE TABLE heard (id integer PRIMARY KEY, v integer)",
        "CREATE TABLE log (id integer)",
        "CREATE RULE also AS ON INSERT TO heard DO ALSO INSERT INTO log VALUES (new.id)",
        "CREATE TABLE undone (id integer PRIMARY KEY)",
        "CREATE RULE undo AS ON INSERT TO undone DO ALSO DELETE FROM undone",
        "CREATE TABLE parted (id integer PRIMARY KEY, v integer) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100)",
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE part SET v = v + 1 WHERE id = new.id; RETURN NULL; END $$",
        "CREATE TRIGGER up AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION up()",
        "CREATE TABLE tree (id integer PRIMARY KEY,"
        " up integer REFERENCES tree (id) ON UPDATE CASCADE)",
        "INSERT INTO tree VALUES (1, 1)",
    )  # fmt: skip
    served = serve(postgresql_url)
    refused = served.request("POST", "/v1/api/silent", {"id": 1})
    assert "rule" in problem(refused, 405, "method-not-allowed")["detail"]
    assert served.request("POST", "/v1/api/heard", {"id": 1, "v": 2}).json() == {"id": 1, "v": 2}
    problem(served.request("POST", "/v1/api/undone", {"id": 1}), 422, "trigger-refused")
    assert served.request("POST", "/v1/api/parted", {"id": 1, "v": 1}).json()["v"] == 2
    assert served.request("PATCH", "/v1/api/tree/1", {"id": 2}).json() == {"id": 2, "up": 2}
    assert served.rows("SELECT * FROM log") == [(1,)]


def test_what_a_constraint_of_sqlite_ignores_is_not_told_as_done(
    sqlite_path: Any, serve: Callable[[str], Served]
) -> None:
    """ON CONFLICT IGNORE drops a write without an error."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(
        url,
        "CREATE TABLE u (id INTEGER PRIMARY KEY, k TEXT UNIQUE ON CONFLICT IGNORE)",
        "INSERT INTO u VALUES (1, 'a'), (2, 'b')",
        "CREATE TABLE tree (id INTEGER PRIMARY KEY,"
        " up INTEGER REFERENCES tree (id) ON UPDATE CASCADE)",
        "INSERT INTO tree VALUES (1, 1)",
    )  # fmt: skip
    served = serve(url)
    for method, target, body in (
        ("POST", "/v1/api/u", {"k": "a"}),
        ("PATCH", "/v1/api/u/2", {"k": "a"}),
        ("PUT", "/v1/api/u/2", {"k": "a"}),
        ("PATCH", "/v1/api/u?id=eq.2", {"k": "a"}),
    ):
        problem(served.request(method, target, body), 422, "trigger-refused")
    assert served.rows("SELECT * FROM u") == [(1, "a"), (2, "b")]
    assert served.request("PATCH", "/v1/api/tree/1", {"id": 2}).json() == {"id": 2, "up": 2}


def test_a_table_called_batch_gives_way_to_the_endpoint(
    sqlite_path: Any, serve: Callable[[str], Served]
) -> None:
    """It is not served at all, and not in the document."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(url, "CREATE TABLE batch (id INTEGER PRIMARY KEY)", "INSERT INTO batch VALUES (1)")
    served = serve(url)
    problem(served.request("GET", "/v1/api/batch/1"), 404, "not-found")
    assert set(served.client.get("/openapi.json").json()["paths"]["/v1/api/batch"]) == {"post"}


def test_a_row_without_a_key_has_no_location(
    sqlite_path: Any, serve: Callable[[str], Served]
) -> None:
    """SQLite lets a key be NULL, and a text may be empty; such a row has no address."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(url, "CREATE TABLE loose (k TEXT PRIMARY KEY, v INTEGER)")
    served = serve(url)
    created = served.request("POST", "/v1/api/loose", {"v": 1})
    assert (created.status_code, created.json()) == (201, {"k": None, "v": 1})
    assert "location" not in created.headers
    assert "location" not in served.request("POST", "/v1/api/loose", {"k": ""}).headers
    assert served.request("POST", "/v1/api/loose", {"k": "x"}).headers["location"].endswith("/x")


_UPPERCASE = {
    "sqlite": [
        (
            "CREATE TRIGGER up1 AFTER INSERT ON items BEGIN"
            " UPDATE items SET name = upper(name) WHERE id = new.id; END"
        ),
        (
            "CREATE TRIGGER up2 AFTER UPDATE OF name ON items WHEN new.name <> upper(new.name)"
            " BEGIN UPDATE items SET name = upper(name) WHERE id = new.id; END"
        ),
    ],
    "postgresql": [
        (
            "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN UPDATE items SET name = upper(name)"
            " WHERE id = new.id AND name <> upper(name); RETURN NULL; END $$"
        ),
        "CREATE TRIGGER up AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION up()",
    ],
    "mysql": [
        "CREATE TRIGGER up1 BEFORE INSERT ON items FOR EACH ROW SET new.name = upper(new.name)",
        "CREATE TRIGGER up2 BEFORE UPDATE ON items FOR EACH ROW SET new.name = upper(new.name)",
    ],
}


def test_a_batch_of_one_and_a_plain_request_answer_alike(shop: Served) -> None:
    """Status, headers and body of a reply are those of the plain response."""
    for method, target, body in (
        ("GET", "/v1/api/items/1", None),
        ("GET", "/v1/api/items?order=id", None),
        ("GET", "/openapi.json", None),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("PATCH", "/v1/api/items/1", {"stock": 4}),
    ):
        plain = shop.request(method, target, body)
        response, (reply,) = shop.batch(call(method, target, body))
        assert response.headers["batch-outcome"] == "committed"
        assert (reply.status, reply.body) == (plain.status_code, plain.content)
        headers = dict(reply.headers)
        assert headers.get(b"etag", b"").decode() == plain.headers.get("etag", "")
        assert headers[b"content-type"].decode() == plain.headers["content-type"]


def test_a_page_of_another_site_cannot_write(shop: Served) -> None:
    """A browser's cross-site write is 403, in a batch too; reads are the browser's business."""
    refused = shop.request("POST", "/v1/api/items", ITEM, sec_fetch_site="cross-site")
    problem(refused, 403, "cross-site")
    response, _ = shop.batch(call("DELETE", "/v1/api/items/1"), sec_fetch_site="cross-site")
    problem(response, 403, "cross-site")
    assert shop.request("POST", "/v1/api/items", ITEM, sec_fetch_site="none").status_code == 201
    assert shop.rows("SELECT count(*) FROM items") == [(4,)]
