"""What both applications share: who asks, how answers look, the request log, metrics, and gunicorn around them."""
