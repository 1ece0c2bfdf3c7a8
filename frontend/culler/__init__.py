"""The culler: decides who is culled and asks the agents to do it. One leader among any number of processes."""
