"""Transaction: in a test of Django's own, a batch is one more atomic block."""

from __future__ import annotations

from django.test import TestCase

from atomicbatch.wire.batch import write_batch
from tests.django.shop.models import Item
from tests.endpoints.asking import call


class InTestCase(TestCase):
    """The batch works in the test's transaction, and is undone within it."""

    def send(self, *names: str) -> str:
        content_type, body = write_batch([call("POST", "/items", n.encode()) for n in names])
        response = self.client.post("/v1/api/batch", data=body, content_type=content_type.decode())
        outcome: str = response["Batch-Outcome"]
        return outcome

    def test_a_batch_sees_the_tests_rows_and_keeps_its_own(self) -> None:
        Item.objects.create(name="mine")
        assert self.send("pen", "ink") == "committed"
        assert [item.name for item in Item.objects.all()] == ["ink", "mine", "pen"]

    def test_what_fails_is_undone_alone(self) -> None:
        Item.objects.create(name="mine")
        assert self.send("pen", "mine") == "rolled-back; failed=2; status=409"
        assert [item.name for item in Item.objects.all()] == ["mine"]
