"""Sharing a seat: links that let somebody in once, and who was let in."""
