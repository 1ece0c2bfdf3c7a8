"""What tests of several kinds share: waiting, rigs of real parts, the whole cluster, odd servers."""
