"""HAProxy's other maps: static files, paths that open pages ask for by themselves, and guests of private seats."""
