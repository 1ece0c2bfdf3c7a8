"""One agent per Docker host: keeps its pools warm, gives servers to requests, adopts, culls, reports."""
