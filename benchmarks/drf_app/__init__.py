"""An ordinary Django REST framework project, to be measured by ``benchmarks/drf.py``."""
