"""The health servers of gRPC's own languages."""

import time

import expect
from balancer import Service
from expect import wait_until
from stage import measure_under_load

_CHECKED = ('health = { kind = "grpc" }',)


def health_is_followed(stage):
    """A backend that says it is not serving gets no calls, until it says that it
    is; killed, it leaves the list."""
    backends = stage.native({}, {}, {})
    everyone = {backend.address: 1 for backend in backends}
    sick = backends[-1]
    others = {address: 1 for address in everyone if address != sick.address}
    balancer = stage.balancer(Service(everyone, keys=_CHECKED))
    client = stage.client(balancer)
    client.reach(everyone)
    client.start_load()

    leaves(balancer, lambda: sick.health("not_serving"))
    _listed(client, others)
    expect.shares(measure_under_load(client), others)
    sick.health("serving")
    wait_until(lambda: balancer.serving() == 3, 5, "it is listed again")
    client.reach(everyone)
    expect.shares(measure_under_load(client), everyone)
    expect.all_ok(client.stop_load(), "RPCs while a backend was not serving")

    gone = leaves(balancer, sick.kill)
    _listed(client, others)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs without the dead backend")
    expect.shares(tally, others)
    return gone


health_is_followed.languages = ("python", "go", "java", "rust", "node")


def leaves(balancer, how):
    """Makes a backend leave the list; how long it took."""
    listed = balancer.serving()
    began = time.monotonic()
    how()
    wait_until(lambda: balancer.serving() == listed - 1, 5, "the backend has left the list")
    return f"gone after {1000 * (time.monotonic() - began):.0f} ms"


def _listed(client, weights):
    """Waits until the client calls no other than these."""
    wait_until(lambda: client.call(20)["backends"].keys() <= weights.keys(), 5, "the list reaches the client")
