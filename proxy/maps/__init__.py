"""HAProxy's other maps, none of which is urgent: static files, and paths that open pages ask for by themselves."""
