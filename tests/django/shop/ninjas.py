"""The shop by Django Ninja."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError

from tests.django.shop.models import Item

api = NinjaAPI(urls_namespace="ninja", docs_url=None)


class ItemIn(Schema):
    name: str
    stock: int = 0


class ItemOut(Schema):
    id: int
    name: str


@api.post("items", response=ItemOut)
def create(request: HttpRequest, item: ItemIn) -> Item:
    made: Item = Item.objects.create(**item.model_dump())
    if made.stock < 0:
        raise HttpError(409, "out of stock")
    return made


@api.post("async-items", response=ItemOut)
async def create_async(request: HttpRequest, item: ItemIn) -> Item:
    made: Item = await Item.objects.acreate(**item.model_dump())
    if made.stock < 0:
        raise HttpError(409, "out of stock")
    return made


@api.get("items", response=list[ItemOut])
def names(request: HttpRequest) -> list[Item]:
    return list(Item.objects.all())
