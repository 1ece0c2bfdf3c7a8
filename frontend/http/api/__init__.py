"""The JSON API under ``/api/v1/``: typed, described by an OpenAPI document that is made from what the views declare.

``operation.py`` turns a declared view into one that reads and checks the request, ``document.py`` the declarations into
the document, ``idempotency.py`` repeated requests into one. The views are in ``public/api.py`` and ``admin/api.py``.
"""
