"""The records kept in Consul, one module per family (docs/design.md, "Records")."""
