"""The admin application: the operator's page and JSON API, at an address that the proxy tier never routes to."""
