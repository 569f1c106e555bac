"""
Doctor: which handlers of an unmodified app can run in an atomic batch, and why others cannot.

In reading order::

    examination.py   an app's name -> findings: load it, start it, try each call, stop it
    loading.py       module:attribute -> app; its lifespan; the transaction that it already has
    interfaces.py    whether that is an ASGI or a WSGI app, and what is inside of it
    patients.py      an app of each kind: started, asked which calls it takes, each tried
    projects.py      a Django project as such a patient
    operations.py    the calls to try: from the app's OpenAPI document or from an .http file
    routes.py        the calls to try: from the routes of a Flask app
    rehearsal.py     the transaction that an app is examined with
    trying.py        one call as a batch that is always rolled back
    raised.py        what handlers raise, where a framework answers it with an error page
    listening.py     what a call reads past the transaction; the guard refuses what it writes
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
