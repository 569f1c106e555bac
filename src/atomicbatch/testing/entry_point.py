"""
The entry point by which pytest finds the plugin.

It only names it. So it is one plugin, whether a project names it as well (``-p
atomicbatch.testing.plugin``, or ``pytest_plugins`` in a conftest.py) or not.
"""

from __future__ import annotations

pytest_plugins = ("atomicbatch.testing.plugin",)
