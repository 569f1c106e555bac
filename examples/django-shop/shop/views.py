"""What the shop does: products, and orders for them."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.db.models import F
from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from shop.models import Line, Order, Product


class ProductSerializer(serializers.ModelSerializer):
    class Meta:
        model = Product
        fields = ("sku", "name", "price_cents", "stock")
        read_only_fields = ("sku",)


class LineSerializer(serializers.Serializer):
    sku = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1)


class OrderSerializer(serializers.Serializer):
    email = serializers.EmailField()
    lines = LineSerializer(many=True)


class OutOfStock(APIException):
    status_code = 409


class ProductView(APIView):
    def get(self, request: Request, sku: str) -> Response:
        return Response(ProductSerializer(get_object_or_404(Product, sku=sku)).data)

    def put(self, request: Request, sku: str) -> Response:
        given = ProductSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        product, _ = Product.objects.update_or_create(given.validated_data, sku=sku)
        return Response(ProductSerializer(product).data)


class OrdersView(APIView):
    def post(self, request: Request) -> Response:
        given = OrderSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        with transaction.atomic():
            order = Order.objects.create(email=given.validated_data["email"])
            for line in given.validated_data["lines"]:
                take_from_stock(**line)
                Line.objects.create(order=order, product_id=line["sku"], quantity=line["quantity"])
            text = f"We have your order {order.id}."
            transaction.on_commit(partial(send_mail, order.email, text))
        return Response({"id": order.id}, status=201)


def take_from_stock(sku: str, quantity: int) -> None:
    # In one statement, so that two orders at a time cannot take the same tin.
    enough = Product.objects.filter(sku=sku, stock__gte=quantity)
    if not enough.update(stock=F("stock") - quantity):
        raise OutOfStock(f"there are no {quantity} of {sku}")


def send_mail(address: str, text: str) -> None:
    print(f"mail to {address}: {text}", flush=True)
