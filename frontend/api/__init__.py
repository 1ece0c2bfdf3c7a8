"""The JSON API under ``/api/v1/``: typed, described by an OpenAPI document that is made from what the views declare.

``operation.py`` turns a declared view into one that reads and checks the request, ``document.py`` the declarations into
the document, ``replays.py`` repeated requests into one. ``public.py`` and ``admin.py`` hold the views of the two
applications.
"""
