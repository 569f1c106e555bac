"""
A process for the projects of one driver: runs each pattern alone and in batches, and tells.

``python -m tests.django.patterns.child ORDER``; a line of JSON for each configuration, and one for
the crowd.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from atomicbatch.testing import Answer
from tests.django.patterns.settings import GATEWAYS, Order, Variant, apply, configure

if TYPE_CHECKING:
    from tests.django.patterns.gateways import Project
    from tests.django.patterns.stores import Rows, Store


# Others may make it at the same time.
_ROLE = """
DO $$ BEGIN CREATE ROLE patterns SUPERUSER;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
"""


class Runner:
    """
    Runs patterns in one configuration.

    Args:
        project: The project.
        stores: Its databases, ``default`` first.
    """

    def __init__(self, project: Project, stores: list[Store]) -> None:
        from tests.django.patterns import views

        self._project = project
        self._stores = stores
        self._ran = views.ran

    def verdict(self, name: str) -> list[str]:
        """
        Run a pattern alone, in a batch that commits, and in one that fails after it.

        Returns:
            ``same``, or what else it is, and why.
        """
        self._empty()
        nothing = self._rows()
        self._stores[0].seed()
        alone = *self._project.ask(name), self._rows(), list(self._ran)
        self._empty()
        answer = self._project.ask_batch("seed", name)
        rows, ran = self._rows(), list(self._ran)
        self._empty()
        failed = self._project.ask_batch("seed", name, "fail")
        if self._rows() != nothing or self._ran or failed.committed:
            return ["LEAK", f"{failed}\n{self._rows()} {self._ran}"]
        if left := [one for store in self._stores for one in store.open_transactions()]:
            return ["OPEN", f"connections are left in transactions: {left}"]
        return _compared(alone, answer, rows, ran, nothing)

    def _rows(self) -> list[Rows]:
        return [store.rows() for store in self._stores]

    def _empty(self) -> None:
        for store in self._stores:
            store.empty()
        self._ran.clear()


def _compared(
    alone: tuple[int, str, list[Rows], list[Any]],
    answer: Answer,
    rows: list[Rows],
    ran: list[Any],
    nothing: list[Rows],
) -> list[str]:
    status, body, rows_alone, ran_alone = alone
    reply = answer.replies[-1] if answer.replies else None
    told = f"alone {status} {body[:200]} {rows_alone} {ran_alone}\n{answer}\n{rows} {ran}"
    if not answer.committed:
        if rows != nothing or ran:
            return ["LEAK", told]
        if not 200 <= status < 400:
            # What fails alone has to fail the batch; of the seed, nothing is left then.
            same = reply is not None and (reply.status == status or status == 0)
            return ["same", ""] if same else ["refused", _why(answer)]
        return ["refused", _why(answer)]
    if reply is None or (reply.status, reply.text) != (status, body):
        return ["DIFFERENT", told]
    return ["same", ""] if (rows, ran) == (rows_alone, ran_alone) else ["LOST", told]


def _why(answer: Answer) -> str:
    """The reason that the batch gives, in the reply of the call that has failed if there is one."""
    texts = [reply.text for reply in answer.replies if reply.status != 424]
    texts += [reply.text for reply in answer.replies] + [answer.problem.decode()]
    problems = [json.loads(text) for text in texts if text.startswith("{")]
    return str(next((one["detail"] for one in problems if "detail" in one), answer))


def prepare(order: Order) -> list[Store]:
    """Set the project up and make its tables."""
    configure(order)
    from django.apps import apps
    from django.core.management import call_command
    from django.db import connections

    from tests.django.patterns.models import Made
    from tests.django.patterns.stores import Store

    for alias in order.databases:
        with connections[alias].schema_editor() as editor:
            for model in apps.get_models():
                if model is not Made:
                    editor.create_model(model)
        call_command("createcachetable", database=alias, verbosity=0)
        if connections[alias].vendor == "postgresql":
            with connections[alias].cursor() as cursor:
                cursor.execute(_ROLE)
    connections.close_all()
    driver = order.variants[0].driver
    return [Store(driver, order.databases[alias]) for alias in ("default", "other")]


def run(order: Order, variant: Variant, stores: list[Store]) -> dict[str, list[str]]:
    """Run the patterns in one configuration."""
    from tests.django.patterns import views
    from tests.django.patterns.gateways import Project

    apply(variant)
    project = Project(variant)
    runner = Runner(project, stores)
    # What is there already is not to be looked at each time.
    gc.collect()
    gc.freeze()
    verdicts = {}
    for name in order.only or tuple(views.PATTERNS):
        verdicts[name] = runner.verdict(name)
        if variant.gateway != "wsgi" and len(verdicts) % 20 == 0:
            # Threads that have ended leave their connections to the collector.
            gc.collect()
    project.close()
    return verdicts


def main() -> None:
    """Do what the command line says."""
    warnings.simplefilter("ignore")
    order = Order.read(sys.argv[1])
    stores = prepare(order)
    from tests.django.patterns import crowd, views

    views.count_stored = lambda: sum(row[0] == "patterns_item" for row in stores[0].rows())
    for variant in order.variants:
        print(json.dumps([str(variant), run(order, variant, stores)]), flush=True)
    if order.crowd:
        variant = Variant(order.variants[0].driver, GATEWAYS[0], pool=order.variants[0].pool)
        print(json.dumps(["a crowd", crowd.run(variant, stores[0])]), flush=True)
    os._exit(0)  # not waiting for threads that a pattern may have left


if __name__ == "__main__":
    main()
