"""
Handlers, written as Django's users write them: each is a pattern, and knows nothing of batches.

What each answers tells how it saw the database. Another connection tells what it has stored.
"""

from __future__ import annotations

import asyncio
import io
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.contrib.auth import authenticate, login
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cached_db import SessionStore as CachedSession
from django.core.cache import cache
from django.db import (
    IntegrityError,
    close_old_connections,
    connection,
    connections,
    models,
    reset_queries,
    transaction,
)
from django.db.models.functions import MD5, Now, Sin, TruncDate
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils import timezone as zones

from tests.django.patterns.models import Coded, Item, Line, Made, Place, Value

View = Callable[[Any], Any]


class Pattern(NamedTuple):
    """A handler and what it does, for the docs."""

    view: View
    does: str


PATTERNS: dict[str, Pattern] = {}
ran: list[object] = []
"""What the functions have left here that were to run after COMMIT."""
count_stored: Callable[[], int] = lambda: 0  # noqa: E731
"""Counts the stored items through an independent connection; whoever runs the patterns sets it."""


def pattern(does: str) -> Callable[[View], View]:
    """Register a handler."""

    def register(view: View) -> View:
        PATTERNS[view.__name__] = Pattern(view, does)
        return view

    return register


_from_replica: ContextVar[bool] = ContextVar("from_replica", default=False)


@contextmanager
def reading_from_replica() -> Iterator[None]:
    """Let the router send what reads to the other alias."""
    token = _from_replica.set(True)
    try:
        yield
    finally:
        _from_replica.reset(token)


class Router:
    """Reads from a replica, in some patterns."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return "replica" if _from_replica.get() else None

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        return "default" if _from_replica.get() else None

    def allow_relation(self, one: Any, other: Any, **_: Any) -> bool | None:
        return True if _from_replica.get() else None


def sync_only(get_response: View) -> View:
    """Make a middleware that is sync only, whatever is behind it."""
    return lambda request: get_response(request)


def reply(**said: Any) -> JsonResponse:
    return JsonResponse(said)


def items() -> int:
    return int(Item.objects.count())


# What stands around the patterns ---------------------------------------------------------------


def seed(_: Any) -> HttpResponse:
    Item.objects.create(name="seed")
    return reply(n=items())


def make(_: Any, name: str) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name=name)
    return reply(name=name)


def fail(_: Any) -> HttpResponse:
    return JsonResponse({}, status=409)


# Transactions ----------------------------------------------------------------------------------


@pattern("a write in autocommit mode")
def create(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    return reply(n=items())


@pattern("an exception after a write")
def raises(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    raise ValueError


@pattern("`atomic()`")
def atomic(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        inside = connection.in_atomic_block, connection.get_autocommit()
    return reply(n=items(), inside=inside, after=connection.get_autocommit())


@pattern("`@atomic` around a view that raises")
@transaction.atomic
def atomic_raises(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    raise ValueError


@pattern("`atomic()` in `atomic()`: a savepoint that is kept, and one that is not")
def nested(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        try:
            with transaction.atomic():
                Item.objects.create(name="y")
                raise KeyError
        except KeyError:
            pass
        with transaction.atomic():
            Item.objects.create(name="z")
    return reply(n=items())


@pattern("`atomic(savepoint=False)` that fails inside `atomic()`")
def no_savepoint(_: Any) -> HttpResponse:
    try:
        with transaction.atomic():
            Item.objects.create(name="x")
            with transaction.atomic(savepoint=False):
                Item.objects.create(name="y")
                raise KeyError
    except KeyError:
        pass
    return reply(n=items())


@pattern("`atomic(durable=True)`")
def durable(_: Any) -> HttpResponse:
    with transaction.atomic(durable=True):
        Item.objects.create(name="x")
    return reply(n=items())


@pattern("`atomic(durable=True)` inside `atomic()`")
def durable_inside(_: Any) -> HttpResponse:
    try:
        with transaction.atomic(), transaction.atomic(durable=True):
            Item.objects.create(name="x")
    except RuntimeError as error:
        return reply(error=str(error), n=items())
    return reply(n=items())


@pattern("`set_rollback(True)` in `atomic()`, and a write afterwards")
def set_rollback(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.set_rollback(True)
    Item.objects.create(name="y")
    return reply(n=items())


@pattern("`set_rollback(True)` outside of `atomic()`")
def set_rollback_outside(_: Any) -> HttpResponse:
    transaction.set_rollback(True)
    return reply()


@pattern("`set_autocommit(False)`, `commit()`, `rollback()`")
def manual(_: Any) -> HttpResponse:
    transaction.set_autocommit(False)
    try:
        Item.objects.create(name="x")
        transaction.commit()
        Item.objects.create(name="y")
        transaction.rollback()
        Item.objects.create(name="z")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    return reply(n=items())


@pattern("`set_autocommit(True)` with a transaction open")
def manual_implicit(_: Any) -> HttpResponse:
    transaction.set_autocommit(False)
    Item.objects.create(name="x")
    error = ""
    try:
        transaction.set_autocommit(True)
    except Exception as raised:
        error = type(raised).__name__
        transaction.rollback()
        transaction.set_autocommit(True)
    return reply(n=items(), error=error)


@pattern("`set_autocommit(False)` and a write, never committed")
def manual_forgotten(_: Any) -> HttpResponse:
    transaction.set_autocommit(False)
    Item.objects.create(name="x")
    return reply()


@pattern("`set_autocommit(False)` inside `atomic()`")
def manual_inside(_: Any) -> HttpResponse:
    error = ""
    with transaction.atomic():
        Item.objects.create(name="x")
        try:
            transaction.set_autocommit(False)
        except transaction.TransactionManagementError as raised:
            error = type(raised).__name__
    return reply(error=error, n=items())


@pattern("`atomic()` after `set_autocommit(False)`")
def atomic_in_manual(_: Any) -> HttpResponse:
    transaction.set_autocommit(False)
    try:
        Item.objects.create(name="x")
        with transaction.atomic():
            Item.objects.create(name="y")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    return reply(n=items())


@pattern("`savepoint()`, `savepoint_rollback()`, `savepoint_commit()`")
def savepoints(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        undone = transaction.savepoint()
        Item.objects.create(name="y")
        transaction.savepoint_rollback(undone)
        kept = transaction.savepoint()
        Item.objects.create(name="z")
        transaction.savepoint_commit(kept)
    return reply(n=items())


@pattern("`savepoint()` in autocommit mode")
def savepoint_outside(_: Any) -> HttpResponse:
    kept = transaction.savepoint()
    Item.objects.create(name="x")
    transaction.savepoint_rollback(kept)
    return reply(none=kept is None, n=items())


@pattern("`@non_atomic_requests`")
@transaction.non_atomic_requests
def non_atomic(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    try:
        Item.objects.create(name="x")
    except IntegrityError:
        pass
    return reply(n=items())


@pattern("two databases, of which one is only read")
def two_databases_one_read(_: Any) -> HttpResponse:
    with transaction.atomic(), transaction.atomic(using="other"):
        Item.objects.create(name="y")
        found = Item.objects.using("other").count()
    return reply(found=found)


@pattern("two databases, each in `atomic()`")
def two_databases(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    Item.objects.using("other").create(name="x")
    with transaction.atomic(), transaction.atomic(using="other"):
        Item.objects.create(name="y")
        Item.objects.using("other").create(name="y")
    return reply(n=Item.objects.using("other").count())


@pattern("two databases, of which one rolls back")
def two_databases_one_rolls_back(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="y")
        try:
            with transaction.atomic(using="other"):
                Item.objects.using("other").create(name="y")
                raise KeyError
        except KeyError:
            pass
    return reply(n=Item.objects.using("other").count())


@pattern("a second alias of the same database, which is read")
def second_alias(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    return reply(found=Item.objects.using("replica").count(), n=items())


@pattern("a router that reads from a replica")
def routed(_: Any) -> HttpResponse:
    with reading_from_replica():
        item = Item.objects.get(name="seed")
        item.n += 4
        item.save()
        Line.objects.create(item=item)
        Item.objects.update_or_create(name="x", defaults={"n": 1})
        read = Item.objects.get(name="seed")
        found = read._state.db
    return reply(found=found, written=item._state.db, n=items())


# Errors that are caught ------------------------------------------------------------------------


@pattern("an `IntegrityError` that is caught in autocommit mode")
def catches(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    try:
        Item.objects.create(name="x")
    except IntegrityError:
        pass
    Item.objects.create(name="y")
    return reply(n=items())


@pattern("an `IntegrityError` that is caught around an inner `atomic()`")
def catches_nested(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        try:
            with transaction.atomic():
                Item.objects.create(name="x")
        except IntegrityError:
            pass
        Item.objects.create(name="y")
    return reply(n=items())


@pattern("an `IntegrityError` that is caught inside `atomic()`, which then is broken")
def catches_broken(_: Any) -> HttpResponse:
    try:
        with transaction.atomic():
            Item.objects.create(name="x")
            try:
                Item.objects.create(name="x")
            except IntegrityError:
                pass
            Item.objects.create(name="y")
    except Exception as error:
        return reply(error=type(error).__name__, n=items())
    return reply(n=items())


@pattern("an `IntegrityError` in the second table of a model")
def catches_in_two_tables(_: Any) -> HttpResponse:
    Coded.objects.create(name="x", code="1")
    try:
        Coded.objects.create(name="y", code="1")
    except IntegrityError:
        pass
    Item.objects.create(name="z")
    return reply(n=items(), coded=Coded.objects.count())


@pattern("a `DataError` or the like that is caught, and a write afterwards")
def catches_bad_sql(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    error = ""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")
    except Exception as raised:
        error = type(raised).__name__
    Item.objects.create(name="y")
    return reply(error=error, n=items())


# Constraints that are checked at COMMIT --------------------------------------------------------


@pattern("a row that refers to none, in autocommit mode, and the error caught")
def dangling(_: Any) -> HttpResponse:
    error = ""
    try:
        Line.objects.create(item_id=999_999)
    except IntegrityError:
        error = "IntegrityError"
    Item.objects.create(name="x")
    return reply(error=error, n=items())


@pattern("a row that refers to none, in `atomic()`, and the error caught")
def dangling_atomic(_: Any) -> HttpResponse:
    error = ""
    try:
        with transaction.atomic():
            Line.objects.create(item_id=999_999)
    except IntegrityError:
        error = "IntegrityError"
    Item.objects.create(name="x")
    return reply(error=error, n=items())


@pattern("a row that refers to none, and the error not caught")
def dangling_uncaught(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        Line.objects.create(item_id=999_999)
    return reply(n=items())


@pattern("a row that refers to one that is stored later in the same `atomic()`")
def dangling_for_a_while(_: Any) -> HttpResponse:
    with transaction.atomic():
        Line.objects.create(item_id=555_555)
        Item.objects.create(pk=555_555, name="x")
    return reply(n=items(), lines=Line.objects.count())


@pattern("two unique values that are swapped in `atomic()`")
def swaps(_: Any) -> HttpResponse:
    Place.objects.create(name="a", rank=1)
    Place.objects.create(name="b", rank=2)
    error = ""
    try:
        with transaction.atomic():
            Place.objects.filter(name="a").update(rank=2)
            Place.objects.filter(name="b").update(rank=1)
    except IntegrityError:
        error = "IntegrityError"
    return reply(ranks=list(Place.objects.order_by("name").values_list("rank", flat=True)), e=error)


@pattern("a unique value twice in `atomic()`, and the error caught")
def twice(_: Any) -> HttpResponse:
    Place.objects.create(name="a", rank=1)
    error = ""
    try:
        with transaction.atomic():
            Place.objects.create(name="b", rank=1)
    except IntegrityError:
        error = "IntegrityError"
    Item.objects.create(name="x")
    return reply(error=error, n=items())


@pattern("`constraint_checks_disabled()`")
def unchecked(_: Any) -> HttpResponse:
    with connection.constraint_checks_disabled():
        Item.objects.create(name="x")
    return reply(n=items())


@pattern("`check_constraints()`")
def checks(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    connection.check_constraints()
    return reply(n=items())


# Queries ---------------------------------------------------------------------------------------


@pattern("`select_for_update()` in `atomic()`")
def locks(_: Any) -> HttpResponse:
    with transaction.atomic():
        item = Item.objects.select_for_update().get(name="seed")
        item.n += 1
        item.save()
    return reply(n=item.n)


@pattern("`select_for_update()` outside of `atomic()`")
def locks_outside(_: Any) -> HttpResponse:
    return reply(n=len(Item.objects.select_for_update()))


@pattern("`select_for_update()` with `nowait`, `skip_locked`, `of`, `no_key`")
def locks_in_other_ways(_: Any) -> HttpResponse:
    with transaction.atomic():
        item = Item.objects.select_for_update(nowait=True).get(name="seed")
        item.n += 1
        item.save()
        found = len(Item.objects.select_for_update(skip_locked=True))
        if connection.features.has_select_for_update_of:
            found += len(Item.objects.select_for_update(of=("self",)))
        if connection.features.has_select_for_no_key_update:
            found += len(Item.objects.select_for_update(no_key=True))
    return reply(found=found, n=items())


@pattern("`get_or_create()`, `update_or_create()`")
def gets_or_creates(_: Any) -> HttpResponse:
    _, made = Item.objects.get_or_create(name="x")
    _, again = Item.objects.get_or_create(name="x")
    item, _ = Item.objects.update_or_create(name="x", defaults={"n": 5})
    return reply(made=made, again=again, v=item.n, n=items())


@pattern("`bulk_create()`, `update()`, `delete()`, `aggregate()`")
def bulk(_: Any) -> HttpResponse:
    Item.objects.bulk_create([Item(name=f"b{i}") for i in range(60)], batch_size=20)
    Item.objects.filter(name__startswith="b1").update(n=models.F("n") + 1)
    Item.objects.filter(name="seed").delete()
    return reply(n=items(), sum=Item.objects.aggregate(s=models.Sum("n"))["s"])


@pattern("`bulk_create(ignore_conflicts=True)`, `bulk_update()`, `in_bulk()`")
def bulk_more(_: Any) -> HttpResponse:
    Item.objects.bulk_create([Item(name="seed"), Item(name="x")], ignore_conflicts=True)
    found = list(Item.objects.order_by("name"))
    for item in found:
        item.n = 3
    Item.objects.bulk_update(found, ["n"])
    return reply(n=sorted(item.n for item in Item.objects.in_bulk().values()), all=items())


@pattern("`bulk_create(update_conflicts=True)`")
def upserts(_: Any) -> HttpResponse:
    told = {} if connection.vendor == "mysql" else {"unique_fields": ["name"]}
    Item.objects.bulk_create(
        [Item(name="seed", n=5), Item(name="x", n=6)],
        update_conflicts=True,
        update_fields=["n"],
        **told,
    )
    return reply(rows=list(Item.objects.order_by("name").values_list("name", "n")))


@pattern("`explain()`")
def explains(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    said = [Item.objects.filter(n=0).explain()]
    if connection.features.supports_explain_analyze:
        said.append(Item.objects.filter(n=0).explain(analyze=True))
    return reply(said=[text != "" for text in said], n=items())


@pattern("`delete()` with `CASCADE`")
def cascades(_: Any) -> HttpResponse:
    item = Item.objects.create(name="x")
    Line.objects.create(item=item)
    Line.objects.create(item=Item.objects.get(name="seed"))
    deleted, _ = item.delete()
    return reply(deleted=deleted, n=items(), lines=Line.objects.count())


@pattern("a signal's receiver that writes")
def signals(_: Any) -> HttpResponse:
    def saved(instance: Item, created: bool, **_: Any) -> None:
        if created and not instance.name.startswith("of "):
            Item.objects.create(name=f"of {instance.name}")

    models.signals.post_save.connect(saved, sender=Item)
    try:
        Item.objects.create(name="x")
    finally:
        models.signals.post_save.disconnect(saved, sender=Item)
    return reply(n=items())


@pattern("`iterator()`, in autocommit mode and in `atomic()`")
def iterates(_: Any) -> HttpResponse:
    Item.objects.bulk_create([Item(name=f"b{i}") for i in range(30)])
    seen = 0
    for item in Item.objects.order_by("id").iterator(chunk_size=5):
        if seen < 5:
            Item.objects.filter(pk=item.pk).update(n=7)
        seen += 1
    with transaction.atomic():
        seen += sum(1 for _ in Item.objects.order_by("id").iterator(chunk_size=5))
    return reply(seen=seen, n=Item.objects.filter(n=7).count())


@pattern("SQL functions, of the database's and of Django's")
def functions(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    told = Item.objects.annotate(
        md5=MD5("name"), sin=Sin("n"), day=TruncDate("at"), late=models.Q(at__lte=Now())
    )
    item = told.get(name__iregex="^X$")
    return reply(md5=item.md5, sin=item.sin)


@pattern("JSON, decimals, bytes, dates, UUIDs, durations")
def values(_: Any) -> HttpResponse:
    value = Value.objects.create(
        data={"a": [1, None, "ä"]},
        price=Decimal("12.3400"),
        raw=b"\x00\xff",
        day=date(2026, 1, 2),
        moment=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        key=uuid.UUID(int=7),
        length=timedelta(days=1, microseconds=2),
    )
    value.refresh_from_db()
    zone = zones.get_current_timezone_name()
    with zones.override("America/New_York"):
        there = Value.objects.annotate(there=TruncDate("moment")).get().there
    said = [value.price, bytes(value.raw), value.day, value.moment, value.key, value.length, there]
    return reply(data=value.data, said=[str(one) for one in said], zone=zone)


@pattern("`connection.queries` and `execute_wrapper()`")
def queries(_: Any) -> HttpResponse:
    seen = 0

    def note(execute: Any, *args: Any) -> Any:
        nonlocal seen
        seen += 1
        return execute(*args)

    connection.ensure_connection()
    reset_queries()
    with connection.execute_wrapper(note):
        Item.objects.create(name="x")
        with transaction.atomic():
            Item.objects.create(name="y")
    return reply(seen=seen, logged=[one["sql"].split()[0] for one in connection.queries])


@pattern("sessions in the database")
def sessions(request: Any) -> HttpResponse:
    request.session["k"] = request.session.get("k", 0) + 1
    Item.objects.create(name="x")
    request.session.cycle_key()
    return reply(k=request.session["k"])


@pattern("sessions in `cached_db`, with the cache in the database")
def cached_sessions(_: Any) -> HttpResponse:
    session = CachedSession()
    session["k"] = 1
    session.save()
    again = CachedSession(session.session_key)
    again["k"] += 1
    again.save()
    Item.objects.create(name="x")
    return reply(k=CachedSession(session.session_key)["k"])


@pattern("`create_user()`, `authenticate()`, `login()`")
def logs_in(request: Any) -> HttpResponse:
    User.objects.create_user("ada", password="secret")
    user = authenticate(request, username="ada", password="secret")
    login(request, user)
    return reply(name=request.user.get_username(), n=User.objects.count())


@pattern("the cache in the database")
def caches(_: Any) -> HttpResponse:
    cache.set("k", 1)
    cache.incr("k")
    cache.add("k", 9)
    return reply(k=cache.get("k"))


# SQL by hand -----------------------------------------------------------------------------------


@pattern("`cursor.execute()`, `executemany()`, `Model.objects.raw()`")
def raw(_: Any) -> HttpResponse:
    sql = "INSERT INTO patterns_item (name, n, at) VALUES (%s, %s, '2026-01-01 00:00:00')"
    with connection.cursor() as cursor:
        cursor.execute(sql, ["x", 0])
        cursor.executemany(sql, [("y", 1), ("z", 2)])
        changed = cursor.rowcount
        cursor.execute("SELECT count(*) FROM patterns_item WHERE name = %s", ["y"])
        (found,) = cursor.fetchone()
    names = [item.name for item in Item.objects.raw("SELECT * FROM patterns_item ORDER BY name")]
    return reply(changed=changed, found=found, names=names)


def write_raw(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO patterns_item (name, n, at) VALUES ('{name}', 0, '2026-01-01 00:00:00')"
        )


def run_raw(*texts: str) -> None:
    with connection.cursor() as cursor:
        for text in texts:
            cursor.execute(text)


@pattern("`COMMIT` by hand, in autocommit mode")
def raw_commit(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    run_raw("COMMIT")
    return reply()


@pattern("`COMMIT` by hand, inside `atomic()`")
def raw_commit_inside(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        run_raw("COMMIT")
        Item.objects.create(name="y")
    return reply()


@pattern("`BEGIN`, `ROLLBACK`, `COMMIT` by hand")
def raw_transaction(_: Any) -> HttpResponse:
    run_raw("BEGIN")
    write_raw("x")
    run_raw("ROLLBACK")
    write_raw("y")
    run_raw("BEGIN")
    write_raw("z")
    run_raw("COMMIT")
    return reply(n=items())


@pattern("`SAVEPOINT`, `ROLLBACK TO` by hand, inside `atomic()`")
def raw_savepoint(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        run_raw("SAVEPOINT mine")
        write_raw("y")
        run_raw("ROLLBACK TO SAVEPOINT mine", "RELEASE SAVEPOINT mine")
    return reply(n=items())


@pattern("`SET` of a setting, for the session and for a transaction")
def settings(_: Any) -> HttpResponse:
    read = {
        "postgresql": "SELECT current_setting('lock_timeout'), current_setting('work_mem')",
        "mysql": "SELECT @@group_concat_max_len, @@sql_select_limit",
        "sqlite": "PRAGMA cache_size",
    }[connection.vendor]
    setting = {
        "postgresql": ("SET lock_timeout = '7s'", "SET LOCAL work_mem = '5MB'"),
        "mysql": ("SET SESSION group_concat_max_len = 7000", "SET sql_select_limit = 70"),
        "sqlite": ("PRAGMA cache_size = -3000", "SELECT 1"),
    }[connection.vendor]
    back = {
        "postgresql": "RESET lock_timeout",
        "mysql": "SET group_concat_max_len = DEFAULT, sql_select_limit = DEFAULT",
        "sqlite": "PRAGMA cache_size = -2000",
    }[connection.vendor]
    said = []
    with connection.cursor() as cursor:
        with transaction.atomic():
            for text in setting:
                cursor.execute(text)
            cursor.execute(read)
            said.append(cursor.fetchone())
            Item.objects.create(name="x")
        cursor.execute(read)
        said.append(cursor.fetchone())
        # A pool gives the connection to others.
        cursor.execute(back)
    return reply(said=said)


@pattern("`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`")
def stricter(_: Any) -> HttpResponse:
    with transaction.atomic():
        if connection.vendor == "postgresql":
            run_raw("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        Item.objects.create(name="x")
    if connection.vendor == "mysql":
        run_raw("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    return reply(n=items())


@pattern("`SET autocommit` by hand")
def raw_autocommit(_: Any) -> HttpResponse:
    if connection.vendor == "mysql":
        run_raw("SET autocommit = 0", "SET autocommit = 1")
    Item.objects.create(name="x")
    return reply(n=items())


@pattern("`COPY` by the driver's cursor")
def copies(_: Any) -> HttpResponse:
    if connection.vendor != "postgresql":
        return reply(n=items())
    rows, into = "x\t0\t2026-01-01\n", "COPY patterns_item (name, n, at) FROM STDIN"
    with transaction.atomic(), connection.cursor() as cursor:
        if hasattr(cursor.cursor, "copy_expert"):
            cursor.copy_expert(into, io.StringIO(rows))
        else:
            with cursor.copy(into) as copy:
                copy.write(rows)
    return reply(n=items())


@pattern("a temporary table")
def temporary_table(_: Any) -> HttpResponse:
    run_raw("CREATE TEMPORARY TABLE scratch (n INTEGER)", "INSERT INTO scratch VALUES (1)")
    Item.objects.create(name="x")
    run_raw(
        "DROP TEMPORARY TABLE scratch" if connection.vendor == "mysql" else "DROP TABLE scratch"
    )
    return reply(n=items())


@pattern("a table that is made and dropped by `schema_editor()`")
def makes_table(_: Any) -> HttpResponse:
    with connection.schema_editor() as editor:
        editor.create_model(Made)
    Made.objects.create(name="m")
    Item.objects.create(name="x")
    with connection.schema_editor() as editor:
        editor.delete_model(Made)
    return reply(n=items())


@pattern("the driver's own cursor, of Django's connection")
def drivers_cursor(_: Any) -> HttpResponse:
    connection.ensure_connection()
    with transaction.atomic():
        cursor = connection.connection.cursor()
        cursor.execute("SELECT count(*) FROM patterns_item")
        (before,) = cursor.fetchone()
        cursor.execute("UPDATE patterns_item SET n = 9 WHERE name = 'seed'")
        cursor.close()
    return reply(before=before, n=Item.objects.get(name="seed").n)


@pattern("the driver's own `commit()` and `rollback()`, of Django's connection")
def drivers_commit(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    connection.connection.commit()
    Item.objects.create(name="y")
    connection.connection.rollback()
    return reply(n=items())


@pattern("a second connection of the handler's own to the same database")
def second_connection(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    twin = connection.copy()
    try:
        with twin.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM patterns_item")
            (found,) = cursor.fetchone()
            cursor.execute("UPDATE patterns_item SET n = 9 WHERE name = 'x'")
    finally:
        twin.close()
    return reply(found=found, n=Item.objects.get(name="x").n)


# Connections -----------------------------------------------------------------------------------


@pattern("`close_old_connections()` between writes")
def closes_old(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    close_old_connections()
    Item.objects.create(name="y")
    close_old_connections()
    return reply(n=items())


@pattern("`connection.close()` between writes")
def closes(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    connection.close()
    Item.objects.create(name="y")
    return reply(n=items())


@pattern("`connection.close()` as the last thing")
def closes_last(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    connection.close()
    return reply()


@pattern("`connections.close_all()` as the last thing")
def closes_all(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    found = Item.objects.using("other").count()
    connections.close_all()
    return reply(found=found)


@pattern("`connection.close()` inside `atomic()`, after a write")
def closes_inside(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        connection.close()
    return reply()


@pattern("`connection.close()` inside `atomic()`, after a read")
def closes_inside_after_read(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    with transaction.atomic():
        found = items()
        connection.close()
    return reply(found=found, n=items())


@pattern("what the connection says of itself")
def state(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    is_mariadb = getattr(connection, "mysql_is_mariadb", True)
    asked = {
        "postgresql": "SELECT current_setting('TimeZone'), current_setting('client_encoding'), "
        "current_setting('transaction_isolation'), current_user",
        "sqlite": "SELECT f.foreign_keys, r.recursive_triggers FROM pragma_foreign_keys f, "
        "pragma_recursive_triggers r",
        "mysql": f"SELECT @@{'tx' if is_mariadb else 'transaction'}_isolation, @@sql_mode, "
        "@@time_zone, @@sql_auto_is_null",
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(asked[connection.vendor])
        said = cursor.fetchone()
    return reply(said=said, auto=connection.get_autocommit(), usable=connection.is_usable())


# After COMMIT ----------------------------------------------------------------------------------


@pattern("`on_commit()` inside `atomic()`")
def after(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(lambda: ran.append(count_stored()))
    return reply()


@pattern("`on_commit()` in autocommit mode")
def after_in_autocommit(_: Any) -> HttpResponse:
    Item.objects.create(name="x")
    transaction.on_commit(lambda: ran.append(count_stored()))
    return reply()


@pattern("`on_commit()` in blocks that are rolled back, and in one that is not")
def after_undone(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(lambda: ran.append("undone"))
        transaction.set_rollback(True)
    with transaction.atomic():
        try:
            with transaction.atomic():
                transaction.on_commit(lambda: ran.append("undone"))
                raise KeyError
        except KeyError:
            pass
        transaction.on_commit(lambda: ran.append("kept"))
    return reply()


@pattern("`connection.run_on_commit`, read inside of `atomic()` and after it")
def after_is_read(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(lambda: ran.append("x"))
        inside = len(connection.run_on_commit)
    return reply(inside=inside, after=len(connection.run_on_commit))


@pattern("`on_commit()` after `set_autocommit(False)`")
def after_manual(_: Any) -> HttpResponse:
    transaction.set_autocommit(False)
    Item.objects.create(name="x")
    error = ""
    try:
        transaction.on_commit(lambda: ran.append("manual"))
    except transaction.TransactionManagementError as raised:
        error = type(raised).__name__
    transaction.commit()
    transaction.set_autocommit(True)
    return reply(error=error)


@pattern("`on_commit()` whose function writes")
def after_writes(_: Any) -> HttpResponse:
    def write() -> None:
        with transaction.atomic():
            Item.objects.create(name="later")
        ran.append(items())

    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(write)
    return reply()


@pattern("`on_commit()` whose function calls `on_commit()`")
def after_after(_: Any) -> HttpResponse:
    def first() -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: ran.append("inner"))
        ran.append("first")

    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(first)
        transaction.on_commit(lambda: ran.append("second"))
    return reply()


@pattern("`on_commit(robust=True)` whose function raises, before another")
def after_robust(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(lambda: ran.append(1 // 0), robust=True)
        transaction.on_commit(lambda: ran.append("second"))
    return reply()


@pattern("`on_commit()` whose function raises, before another")
def after_raises(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(lambda: ran.append(1 // 0))
        transaction.on_commit(lambda: ran.append("second"))
    return reply()


@pattern("`on_commit()` of two databases, in the order of their blocks")
def after_two_databases(_: Any) -> HttpResponse:
    with transaction.atomic("other"):
        Item.objects.using("other").count()
        transaction.on_commit(lambda: ran.append("other"), using="other")
        with transaction.atomic():
            Item.objects.create(name="x")
            transaction.on_commit(lambda: ran.append("default"))
    transaction.on_commit(lambda: ran.append("last"))
    return reply()


@pattern("`on_commit()`, and a connection that is closed afterwards")
def after_and_closed(_: Any) -> HttpResponse:
    with transaction.atomic():
        Item.objects.create(name="x")
        transaction.on_commit(lambda: ran.append(items()))
    connection.close()
    return reply()


# Streams, threads, async -----------------------------------------------------------------------


@pattern("a streaming response that reads and writes while it is sent")
def streams(_: Any) -> HttpResponse:
    Item.objects.create(name="x")

    def pieces() -> Iterator[str]:
        for item in Item.objects.order_by("id").iterator(chunk_size=1):
            yield f"{item.name},"
        Item.objects.create(name="late")

    return StreamingHttpResponse(pieces())


@pattern("a streaming response that raises after a write")
def streams_and_raises(_: Any) -> HttpResponse:
    def pieces() -> Iterator[str]:
        yield "a"
        Item.objects.create(name="late")
        raise ValueError

    return StreamingHttpResponse(pieces())


def _write_in_thread() -> None:
    try:
        Item.objects.create(name="thread")
    finally:
        connection.close()


@pattern("a `threading.Thread` that writes")
def thread(_: Any) -> HttpResponse:
    worker = threading.Thread(target=_write_in_thread)
    worker.start()
    worker.join()
    return reply(n=items())


@pattern("a `ThreadPoolExecutor` whose threads write")
def thread_pool(_: Any) -> HttpResponse:
    Item.objects.create(name="x")

    def write(number: int) -> int:
        try:
            return int(Item.objects.create(name=f"t{number}").n)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        done = list(pool.map(write, range(3)))
    return reply(done=done, n=items())


@pattern("`acreate()`, `acount()`")
async def async_create(_: Any) -> HttpResponse:
    await Item.objects.acreate(name="x")
    return reply(n=await Item.objects.acount())


@pattern("`asyncio.gather()` of writes")
async def async_gather(_: Any) -> HttpResponse:
    await asyncio.gather(*(Item.objects.acreate(name=f"g{i}") for i in range(3)))
    return reply(n=await Item.objects.acount())


@pattern("`async for`")
async def async_for(_: Any) -> HttpResponse:
    await Item.objects.acreate(name="x")
    return reply(names=[item.name async for item in Item.objects.order_by("id")])


@pattern("`asave()`, `aget_or_create()`, `abulk_create()`, `adelete()`, `aiterator()`")
async def async_others(_: Any) -> HttpResponse:
    item, made = await Item.objects.aget_or_create(name="x")
    item.n = 3
    await item.asave()
    await Item.objects.abulk_create([Item(name=f"b{i}") for i in range(5)])
    deleted, _ = await (await Item.objects.aget(name="b4")).adelete()
    names = [one.name async for one in Item.objects.order_by("name").aiterator(chunk_size=2)]
    return reply(made=made, deleted=deleted, names=names)


@pattern("`atomic()` in `sync_to_async()`")
async def async_atomic(_: Any) -> HttpResponse:
    def write() -> None:
        with transaction.atomic():
            Item.objects.create(name="x")
            transaction.on_commit(lambda: ran.append(count_stored()))

    await sync_to_async(write)()
    return reply(n=await Item.objects.acount())


@pattern("an async view that catches `IntegrityError`")
async def async_catches(_: Any) -> HttpResponse:
    await Item.objects.acreate(name="x")
    try:
        await Item.objects.acreate(name="x")
    except IntegrityError:
        pass
    await Item.objects.acreate(name="y")
    return reply(n=await Item.objects.acount())


@pattern("an async streaming response that reads and writes while it is sent")
async def async_streams(_: Any) -> HttpResponse:
    async def pieces() -> AsyncIterator[str]:
        async for item in Item.objects.order_by("id"):
            yield item.name
        await Item.objects.acreate(name="late")

    return StreamingHttpResponse(pieces())


@pattern("`sync_to_async(thread_sensitive=False)`")
async def async_insensitive(_: Any) -> HttpResponse:
    await sync_to_async(_write_in_thread, thread_sensitive=False)()
    return reply(n=await Item.objects.acount())


urlpatterns = [
    path("seed", seed),
    path("make/<str:name>", make),
    path("fail", fail),
    *(path(name, one.view) for name, one in PATTERNS.items()),
]
