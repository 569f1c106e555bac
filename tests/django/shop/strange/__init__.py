"""A backend whose driver nobody knows."""
