"""What happens in the cluster now, for those who watch: the operator's page, the streams of events."""
