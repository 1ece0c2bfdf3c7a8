"""What an operator can do, once: the command line, the admin application and the culler call these functions."""
