"""What an operator must mend on this host, in one text for its host record. Pure."""


def problem(clock_wrong_by_s: float, *others: str) -> str:
    """Empty: nothing. ``clock_wrong_by_s``: how far the clock is ahead of the cluster's time (``ClusterClock``)."""
    found = [text for text in others if text]
    if clock_wrong_by_s:
        way = "ahead of" if clock_wrong_by_s > 0 else "behind"
        found.append(
            f"the clock is {abs(clock_wrong_by_s):.0f} s {way} Consul's, whose time is used until it is set right"
        )
    return "; ".join(found)
