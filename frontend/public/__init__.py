"""The public application: servers for people and programs, the waiting room, the pages around both."""
