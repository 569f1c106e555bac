"""
Doctor: which handlers of an unmodified app can run in an atomic batch, and why others cannot.

In reading order::

    examination.py   an app's name -> findings: load it, start it, try each call, stop it
    loading.py       module:attribute -> app; its lifespan; the transaction that it already has
    operations.py    the calls to try: from the app's OpenAPI document or from an .http file
    trying.py        one call as a batch that is always rolled back
    watching.py      what a call does outside of the transaction
    files.py         which changes to files a rollback would not undo
    blind_spots.py   what audit hooks do not see, and how it is watched instead
    report.py        what was seen -> verdict and reasons -> lines for people
"""

from __future__ import annotations

from atomicbatch.doctor.examination import Examination, examine
from atomicbatch.doctor.loading import DoctorError
from atomicbatch.doctor.report import Finding, Verdict

__all__ = ["DoctorError", "Examination", "Finding", "Verdict", "examine"]
