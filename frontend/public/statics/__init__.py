"""Static files of images: fetched from a host, kept by content, in step with the sets that Consul names."""
