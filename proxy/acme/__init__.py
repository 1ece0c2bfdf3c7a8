"""Certificates by ACME: a process beside HAProxy that has lego obtain them, and renews them in time.

Knows neither Consul nor RabbitMQ. What it obtains it puts into the folder of certificates, where the sync finds it
(docs/decisions/2026-11-27-acme.md).
"""
