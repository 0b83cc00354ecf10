"""Weights, drain and statistics, with nothing going wrong."""

import expect
import ports
from balancer import Service
from expect import Absent, Broken, wait_until
from stage import a_second_after, edit_under_load, tokens_name_one_backend


def shares_follow_weights(stage):
    """3:1 over 400 RPCs; each backend sees its own token with every call."""
    (three, one), _, client = stage.weighted(3, 1)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs")
    tokens_name_one_backend([three, one])
    return expect.shares(tally, {three.address: 3, one.address: 1})


def fractional_weights_are_followed(stage):
    """Weights without a small common measure: 2.5:1.3:0.7 over 1000 RPCs."""
    weights = (2.5, 1.3, 0.7)
    backends, _, client = stage.weighted(*weights)
    tally = client.call(1000)
    expect.all_ok(tally, "1000 RPCs")
    return expect.shares(tally, {b.address: w for b, w in zip(backends, weights)})


def service_is_found_with_a_port_and_in_capitals(stage):
    """Clients send their target as it stands; it is the same service."""
    backends = stage.backends(2)
    weights = dict(zip((b.address for b in backends), (3, 1)))
    balancer = stage.balancer(Service(weights))
    client = stage.client(balancer, "Greeter.EXAMPLE.com:50051")
    client.reach(weights)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs")
    return expect.shares(tally, weights)


def ipv6_all_the_way(stage):
    """The balancer and the backends have IPv6 addresses only."""
    if not ports.exists("::1"):
        raise Absent("this machine has no IPv6")
    backends = stage.backends(2, "::1")
    weights = dict(zip((b.address for b in backends), (3, 1)))
    balancer = stage.balancer(Service(weights), host="::1")
    client = stage.client(balancer)
    client.reach(weights)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs")
    return expect.shares(tally, weights)


def edited_weight_is_followed(stage):
    """3:1 becomes 1:3 in the file; a second later the shares are those."""
    (a, b), balancer, client = stage.weighted(3, 1)
    after = {a.address: 1, b.address: 3}
    tally = edit_under_load(client, lambda: balancer.edit([Service(after)]))
    return expect.shares(tally, after)


def drained_backend_gets_nothing_more(stage):
    """A drained backend gets no call from a second after; undrained, it does again."""
    (a, b, c), balancer, client = stage.weighted(2, 1, 1)
    weights = {a.address: 2, b.address: 1, c.address: 1}
    tally = edit_under_load(client, lambda: balancer.edit([Service(weights, drained=(a.address,))]))
    expect.shares(tally, {b.address: 1, c.address: 1})
    before = a.counts()["calls"]
    expect.all_ok(client.call(200), "200 RPCs without the drained backend")
    late = a.counts()["calls"] - before
    if late:
        raise Broken(f"the drained backend got {late} more calls")
    tally = edit_under_load(client, lambda: balancer.edit([Service(weights)]))
    return expect.shares(tally, weights)


def fully_drained_service_fails_fast_and_recovers(stage):
    """With every backend drained RPCs fail at once, also those of a client that
    has just come (an empty first list would hang Go's); undrained, they work."""
    (a, b), balancer, client = stage.weighted(3, 1)
    weights = {a.address: 3, b.address: 1}
    a_second_after(balancer.edit([Service(weights, drained=tuple(weights))]))
    for late in (client, stage.client(balancer)):
        tally = late.call(20)
        if tally["statuses"] != {"UNAVAILABLE": 20}:
            raise Broken(f"20 RPCs without a backend: {tally['statuses']} {tally['messages']}")
    a_second_after(balancer.edit([Service(weights)]))
    client.reach(weights, 10)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs after the drain")
    return expect.shares(tally, weights)


def client_stats_arrive(stage):
    """What clients say of their calls is in /metrics, each call once."""
    _, balancer, client = stage.weighted(3, 1)
    expect.all_ok(client.call(300), "300 RPCs")
    # One interval (1 s) and the report that follows it, with a margin.
    wait_until(lambda: balancer.calls_finished() >= client.made, 15, f"{client.made} calls in /metrics")
    counted = balancer.calls_finished()
    if counted != client.made:
        raise Broken(f"/metrics has {counted:g} calls of {client.made}")
    return f"{counted:g} calls reported"
