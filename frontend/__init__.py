"""The stateless tier: public application, admin application, culler and the ``tmpnb`` command line.

Never touches Docker. Entry points: ``frontend.wsgi`` (gunicorn), ``frontend.culler``, ``frontend.cli``.
"""
