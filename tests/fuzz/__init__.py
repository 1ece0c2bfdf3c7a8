"""``make fuzz``: inputs by chance at everything that reads what others write (docs/fuzzing.md)."""
