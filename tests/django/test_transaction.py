"""Transaction: batches in tests of Django's own, by each of its test cases and clients."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import (
    AsyncClient,
    LiveServerTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)

from atomicbatch import Batch
from atomicbatch.django.transaction import DjangoTransaction, in_test_transactions
from atomicbatch.wire.batch import write_batch
from tests.django.asking import Project, call_of
from tests.django.shop import odd
from tests.django.shop.models import Item
from tests.endpoints.asking import Answer

pytestmark = pytest.mark.usefixtures("database")


def request_of(*targets: str) -> dict[str, Any]:
    """The arguments of a test client's ``post()``."""
    content_type, body = write_batch([call_of(target) for target in targets])
    return {"path": "/v1/api/batch", "data": body, "content_type": content_type.decode()}


def outcome_of(response: HttpResponse) -> str:
    outcome: str = response["Batch-Outcome"]
    return outcome


def names() -> list[str]:
    return [item.name for item in Item.objects.all()]


class Batches:
    """What holds in each kind of test case."""

    client: Any
    async_client: AsyncClient

    def send(self, *targets: str) -> str:
        return outcome_of(self.client.post(**request_of(*targets)))

    def test_a_batch_sees_the_tests_rows_and_keeps_its_own(self) -> None:
        Item.objects.create(name="mine")
        assert self.send("POST /items pen", "POST /async-items ink") == "committed"
        assert names() == ["ink", "mine", "pen"]

    def test_what_fails_is_undone_alone(self) -> None:
        Item.objects.create(name="mine")
        assert self.send("POST /items pen", "POST /items mine").startswith("rolled-back; failed=2")
        assert names() == ["mine"]
        assert self.send("POST /items pen") == "committed"

    def test_a_view_that_raises(self) -> None:
        """As without a batch, the client raises it again, unless it is told not to."""
        with pytest.raises(RuntimeError, match="on purpose"):
            self.send("POST /items pen", "POST /fail")
        assert names() == []
        self.client.raise_request_exception = False
        assert self.send("POST /items pen", "POST /fail") == "rolled-back; failed=2; status=500"
        assert names() == []

    async def test_by_the_async_client(self) -> None:
        await Item.objects.acreate(name="mine")
        response = await self.async_client.post(
            **request_of("POST /async-items pen", "POST /items ink", "POST /odd/gather")
        )
        assert outcome_of(response) == "committed"
        assert await Item.objects.acount() == 6
        response = await self.async_client.post(
            **request_of("POST /async-items cap", "POST /items pen")
        )
        assert outcome_of(response) == "rolled-back; failed=2; status=409"
        assert await Item.objects.acount() == 6

    def test_nothing_is_left_of_other_tests(self) -> None:
        assert names() == []


class InTestCase(Batches, TestCase):
    """The batch works in the test's transaction, and is undone within it."""

    def test_a_durable_block_is_let_pass(self) -> None:
        """As it is in the test itself."""
        with transaction.atomic(durable=True):
            Item.objects.create(name="mine")
        assert self.send("POST /odd/durable") == "committed"
        assert names() == ["durable", "mine"]

    def test_functions_for_after_commit(self) -> None:
        """They are captured as without a batch, and those of a batch that failed are not there."""
        odd.LOG.clear()
        with self.captureOnCommitCallbacks(execute=True) as captured:
            assert self.send("POST /odd/hooks?name=a") == "committed"
        assert len(captured) == 2
        assert [name for name, _ in odd.LOG] == ["a in", "a out"]
        with self.captureOnCommitCallbacks() as captured:
            self.send("POST /odd/hooks?name=b", "GET /nowhere")
        assert captured == []

    def test_a_transaction_that_a_view_has_broken(self) -> None:
        """A view that goes on after an error has broken the block around it; that is told."""
        outcome = self.send("POST /items pen", "POST /odd/breaks")
        assert outcome == "rolled-back; failed=commit; status=500"
        assert names() == []

    def test_the_tests_connections_take_part_and_no_others(self) -> None:
        """What is written by another one would not be undone."""
        with (
            in_test_transactions(),
            DjangoTransaction().begin(Batch(()), deadline=math.inf) as joined,
        ):
            assert joined.takes_part(connection.connection)
            assert not joined.takes_part(object())

    def test_csrf_is_enforced(self) -> None:
        """For the calls, although the client has switched it off for its own request."""
        self.client.force_login(User.objects.create_user("ada"))
        assert self.send("GET /protected") == "committed"
        assert self.send("POST /protected") == "rolled-back; failed=1; status=403"

    def test_the_end_of_a_call_closes_no_connection(self) -> None:
        """Although it is in a transaction, which Django takes for one that was left behind."""
        before = connection.connection
        self.send("GET /items", "GET /items")
        assert connection.connection is before
        assert "close_if_unusable_or_obsolete" not in vars(connections["default"])


class InTransactionTestCase(Batches, TransactionTestCase):
    """The batch works as it does on a server."""

    def test_functions_for_after_commit(self) -> None:
        """They have run when the client has its response."""
        odd.LOG.clear()
        assert self.send("POST /odd/hooks?name=a") == "committed"
        assert {name for name, _ in odd.LOG} == {"a in", "a out"}
        odd.LOG.clear()
        self.send("POST /odd/hooks?name=b", "GET /nowhere")
        assert odd.LOG == []


class ClosingInTransactionTestCase(TransactionTestCase):
    """A view closes its connection, and is the last of its batch."""

    def test_it_cannot_be_that_the_answer_is_200_and_the_rows_are_gone(self) -> None:
        request = request_of("POST /items pen", "POST /odd/closes-last")
        assert outcome_of(self.client.post(**request)) == "committed"
        assert names() == ["closed", "pen"]


class ClosingInTestCase(TestCase):
    """The test's transaction ends with it, without a batch as well; the batch says so."""

    def test_it_is_told(self) -> None:
        request = request_of("POST /items pen", "POST /odd/closes-last")
        outcome = outcome_of(self.client.post(**request))
        assert outcome == "rolled-back; failed=commit; status=500"


@override_settings(ALLOWED_HOSTS=["*"])
class InLiveServerTestCase(LiveServerTestCase):
    """The server is a thread of the test's process."""

    def test_a_batch(self) -> None:
        request = request_of("POST /items pen", "POST /async-items ink")
        response = httpx.post(
            self.live_server_url + request["path"],
            content=request["data"],
            headers={"content-type": request["content_type"]},
        )
        answer = Answer(response.status_code, dict(response.headers), response.content)
        assert answer.outcome == "committed"
        assert names() == ["ink", "pen"]
        assert threading.active_count() > 1


def test_in_a_transaction_that_is_no_tests(project: Project) -> None:
    """Who answers "committed" before somebody else commits may be wrong; so that is refused."""
    middleware = ["tests.django.shop.middleware.begins", *settings.MIDDLEWARE]
    with Project.behind(project.gateway, project.database, MIDDLEWARE=middleware) as other:
        answer = other.batch("POST /items pen")
    assert (answer.status, answer.outcome) == (501, "not-started")
    assert "put BatchMiddleware first" in answer.problem["detail"]
    assert project.rows() == []


@pytest.mark.slow
def test_by_djangos_own_runner(database: str) -> None:
    """There the test database is in memory, and was opened before anybody could be asked."""
    cases = ("InTestCase", "InTransactionTestCase", "InLiveServerTestCase")
    names = [f"{Path(__file__).stem}.{case}" for case in cases]
    run = subprocess.run(
        [sys.executable, "-m", "django", "test", *(f"tests.django.{name}" for name in names)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.django.settings"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Ran 18 tests" in run.stderr
