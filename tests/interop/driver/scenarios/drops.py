"""Calls that the operator wants dropped."""

import expect
from expect import Broken, wait_until

_CALLS = 1000


def drop_a_quarter_at_3_1(stage):
    """25 % dropped, the rest shared 3:1."""
    return _drops(stage, (3, 1), {"maintenance": 0.25})


def drop_a_twentieth_at_5_3_1(stage):
    """5 % dropped, the rest shared 5:3:1."""
    return _drops(stage, (5, 3, 1), {"maintenance": 0.05})


def drop_in_two_categories(stage):
    """10 % dropped for one reason and 15 % for another, and reported as such."""
    return _drops(stage, (3, 1), {"maintenance": 0.10, "overload": 0.15})


def _drops(stage, weights, drop):
    backends, balancer, client = stage.weighted(*weights, drop=drop)
    wait_until(lambda: balancer.calls_finished() >= client.made, 15, "the first calls in /metrics")
    before = {category: balancer.calls_dropped(category) for category in drop}

    tally = client.call(_CALLS)
    not_drops = [m for m in tally["messages"] if not m.startswith("UNAVAILABLE:") or "drop" not in m.lower()]
    if not_drops:
        raise Broken(f"RPCs failed for other reasons than drops: {not_drops}")
    expect.shares(tally, {b.address: w for b, w in zip(backends, weights)})
    dropped = tally["statuses"].get("UNAVAILABLE", 0)
    seen = expect.share(dropped, _CALLS, sum(drop.values()), "dropped")

    wait_until(lambda: balancer.calls_finished() >= client.made, 15, f"{client.made} calls in /metrics")
    reported = {category: balancer.calls_dropped(category) - before[category] for category in drop}
    for category, wanted in drop.items():
        expect.share(reported[category], _CALLS, wanted, f"dropped for {category}, as reported")
    if sum(reported.values()) != dropped:
        raise Broken(f"{dropped} dropped, but {reported} reported")
    return f"{seen} dropped"
