"""Thin views of the public application: read the request, call a part, choose the answer."""
