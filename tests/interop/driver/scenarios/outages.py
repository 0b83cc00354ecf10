"""Balancers and backends that die, and what their clients must not notice."""

import time

import expect
import ports
from balancer import Service
from expect import Broken, wait_until
from stage import edit_under_load

# A client that lost its balancer tries again after 1 s, then 1.6 s, 2.6 s, … with
# a fifth more or less; this is past the fifth attempt.
_RECONNECT_SECONDS = 40
# How long the slow balancer accepts connections and says nothing.
_SLOW_SECONDS = 4


def balancer_killed_and_restarted(stage):
    """RPCs go on; the new balancer is followed, and told of the calls."""
    (a, b), balancer, client = stage.weighted(3, 1)
    client.start_load()
    balancer.kill()
    balancer.start()
    wait_until(lambda: balancer.streams() == 1, _RECONNECT_SECONDS, "a stream to the new balancer")
    # C-core reports zeros forever on a new stream whose first list is the one it has.
    wait_until(lambda: balancer.calls_finished() > 100, 15, "calls reported on the new stream")
    expect.all_ok(client.stop_load(), "RPCs while the balancer was away")
    after = {a.address: 1, b.address: 3}
    tally = edit_under_load(client, lambda: balancer.edit([Service(after)]))
    return expect.shares(tally, after)


def balancer_shut_down_and_restarted(stage):
    """SIGTERM, as in a rolling update: RPCs go on, the next balancer is followed."""
    (a, b), balancer, client = stage.weighted(3, 1)
    client.start_load()
    balancer.end()
    balancer.start()
    wait_until(lambda: balancer.streams() == 1, _RECONNECT_SECONDS, "a stream to the new balancer")
    expect.all_ok(client.stop_load(), "RPCs during the restart")
    after = {a.address: 1, b.address: 3}
    tally = edit_under_load(client, lambda: balancer.edit([Service(after)]))
    return expect.shares(tally, after)


def balancer_and_backends_lost_and_returned(stage):
    """All die, all return, and the list is the same: clients leave fallback."""
    (a, b) = stage.backends(2)
    weights = {a.address: 3, b.address: 1}
    balancer = stage.balancer(Service(weights))
    # C-core without any address lets RPCs wait for their deadline.
    client = stage.client(balancer, deadline=1)
    client.reach(weights)
    balancer.kill()
    for backend in (a, b):
        backend.kill()
    # From here on there is no list, and DNS had no address to fall back to.
    wait_until(lambda: "OK" not in client.call(4)["statuses"], 30, "RPCs fail without backends")
    for backend in (a, b):
        backend.start()
    balancer.start()
    started = time.monotonic()
    wait_until(lambda: client.call(5)["statuses"].get("OK") == 5, _RECONNECT_SECONDS, "RPCs answered again")
    took = time.monotonic() - started
    client.reach(weights)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs after the return")
    seen = expect.shares(tally, weights)
    lost = sum(backend.counts()["without_token"] for backend in (a, b))
    if lost:
        raise Broken(f"{lost} calls without lb-token: the client is still in fallback")
    return f"{seen}, back after {took:.1f} s"


def second_balancer_takes_over(stage):
    """Two balancers under one name: the one with the stream dies, the client
    goes to the other and is followed by it."""
    backends = stage.backends(2)
    (a, b) = (backend.address for backend in backends)
    before, after = Service({a: 3, b: 1}), Service({a: 1, b: 3})
    addresses = [ports.address(), ports.address()]
    first = stage.balancer(before, advertise=addresses)
    second = stage.balancer(before, advertise=addresses[::-1], name="second")
    client = stage.client(first)
    client.reach(before.weights)
    used, other = (first, second) if first.streams() else (second, first)
    client.start_load()
    used.kill()
    wait_until(lambda: other.streams() == 1, _RECONNECT_SECONDS, "a stream to the other balancer")
    expect.all_ok(client.stop_load(), "RPCs while the balancer was lost")
    tally = edit_under_load(client, lambda: other.edit([after]))
    return expect.shares(tally, after.weights)


def balancer_that_starts_slowly(stage):
    """The new balancer accepts connections and is silent; RPCs go on."""
    (a, b), balancer, client = stage.weighted(3, 1)
    client.start_load()
    balancer.kill()
    balancer.start_without_waiting()
    wait_until(balancer.accepts, 20, "the new balancer's port is bound")
    balancer.stop()
    time.sleep(_SLOW_SECONDS)
    expect.all_ok(client.take_load(), "RPCs while the new balancer was silent")
    balancer.go_on()
    balancer.wait_ready()
    wait_until(lambda: balancer.streams() == 1, _RECONNECT_SECONDS, "a stream to the new balancer")
    expect.all_ok(client.stop_load(), "RPCs while the new balancer came up")
    after = {a.address: 1, b.address: 3}
    tally = edit_under_load(client, lambda: balancer.edit([Service(after)]))
    return expect.shares(tally, after)
