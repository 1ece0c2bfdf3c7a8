"""The stateless tier: public application, admin application, culler and the ``tmpnb`` command line.

Never touches Docker. Entry points: ``public/wsgi.py`` and ``admin/wsgi.py`` (for gunicorn), ``culler/__main__.py`` and
``cli/``. The processes import ``http``, ``operations`` and ``cluster``, in that order, and never each other.
"""
