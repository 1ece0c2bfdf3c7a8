"""What every process runs on, whatever it does."""
