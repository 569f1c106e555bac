"""A package with an ``__init__``, since Piccolo installs another one of this name."""
