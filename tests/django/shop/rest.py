"""The shop by Django REST framework."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework import serializers, viewsets
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.decorators import api_view
from rest_framework.exceptions import APIException
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from tests.django.shop.models import Item


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ("id", "name", "stock")


class ItemViewSet(viewsets.ModelViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer


class OutOfStock(APIException):
    status_code = 409
    default_detail = "out of stock"


@api_view(["POST"])
def take(request: Request) -> Response:
    """Write, then find that it cannot be."""
    Item.objects.create(name=request.data["name"], stock=-1)
    raise OutOfStock


class Mine(APIView):
    """For whoever has signed in, by a session or by a token."""

    authentication_classes = (SessionAuthentication, TokenAuthentication)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        item = Item.objects.create(name=f"{request.user}'s {request.data['name']}")
        return Response(ItemSerializer(item).data, 201)


class TwoOfThem(SimpleRateThrottle):
    rate = "2/day"
    scope = "two"

    def get_cache_key(self, request: Request, view: Any) -> str:
        key: str = request.headers["X-Who"]
        return key


class Throttled(APIView):
    throttle_classes = (TwoOfThem,)

    def post(self, request: Request) -> Response:
        return Response(ItemSerializer(Item.objects.create(name=request.data["name"])).data, 201)


class Upload(APIView):
    parser_classes = (MultiPartParser,)

    def post(self, request: Request) -> Response:
        file = request.data["file"]
        Item.objects.create(name=file.name, stock=file.size)
        return Response({"size": file.size}, 201)


router = SimpleRouter(trailing_slash=False)
router.register("items", ItemViewSet)
urlpatterns = [
    path("", include(router.urls)),
    path("take", take),
    path("mine", Mine.as_view()),
    path("throttled", Throttled.as_view()),
    path("upload", Upload.as_view()),
]
