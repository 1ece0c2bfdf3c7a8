"""The admin application: the operator's JSON API, at an address of its own that the proxy tier never routes to."""
