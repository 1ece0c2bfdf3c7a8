"""From a request for a server to its outcome: published, answered in time or late, or waiting for its turn."""
