"""Services and policies that are not there."""

import time

import expect
import ports
from balancer import SERVICE, Service
from expect import Broken, wait_until

_WATCH_SECONDS = 6
# Backoff begins at 1 s ± 20 %, so a client that heeds it opens fewer.
_MOST_STREAMS_PER_SECOND = 1.0
_BACK_SECONDS = 40


def removed_service_keeps_its_clients(stage):
    """The service leaves the file: clients keep its list and ask ever less
    often; it returns, and they follow it again."""
    balancer, client, other, (a, b) = _removed(stage)
    before = balancer.streams_refused()
    time.sleep(_WATCH_SECONDS)
    rate = (balancer.streams_refused() - before) / _WATCH_SECONDS
    if rate > _MOST_STREAMS_PER_SECOND:
        raise Broken(f"{rate:.1f} streams a second for a service that is gone")
    if rate == 0:
        raise Broken(f"no stream was refused in {_WATCH_SECONDS} s: was the service ever gone?")
    expect.all_ok(client.take_load(), "RPCs to a service that is gone")
    return f"{rate:.2f} streams/s while gone; then {_returned(balancer, client, other, a, b)}"


def removed_service_may_be_looked_up_again(stage):
    """Clients that ask DNS at once for the service that is gone keep its list
    too, whatever DNS says."""
    balancer, client, other, (a, b) = _removed(stage, resolve_interval=0.5)
    asked = balancer.dns_queries()
    wait_until(lambda: balancer.dns_queries() > asked, 30, "a look-up of the service that is gone")
    time.sleep(_WATCH_SECONDS / 2)
    expect.all_ok(client.take_load(), "RPCs to a service that DNS does not know")
    return _returned(balancer, client, other, a, b)


# Java's resolver does not ask DNS.
removed_service_may_be_looked_up_again.languages = ("python", "go")


def _removed(stage, **options):
    """A service that two backends and a client under load have, and that has
    just left the file."""
    backends = stage.backends(2)
    (a, b) = (backend.address for backend in backends)
    # A file without any service is refused.
    other = Service({a: 1}, name="other.example.com")
    balancer = stage.balancer(Service({a: 3, b: 1}), other)
    client = stage.client(balancer, **options)
    client.reach([a, b])
    client.start_load()
    balancer.edit([other])
    wait_until(lambda: balancer.streams() == 0, 30, "the stream of the removed service ended")
    return balancer, client, other, (a, b)


def _returned(balancer, client, other, a, b):
    """Brings it back, with other weights; the shares then seen."""
    weights = {a: 1, b: 3}
    balancer.edit([Service(weights), other])
    wait_until(lambda: balancer.streams() == 1, _BACK_SECONDS, "a stream to the service that returned")
    expect.all_ok(client.stop_load(), "RPCs while the service returned")
    # The list follows the first message of a stream at once.
    wait_until(lambda: client.call(20)["backends"].get(b, 0) > 10, 2, "the new weights")
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs to the service that returned")
    return expect.shares(tally, weights)


def without_the_grpclb_import(stage):
    """A Go program that cannot do grpclb reads the same TXT record, and works
    over the A records, each backend alike."""
    hosts = ("127.0.0.2", "127.0.0.3")
    port = ports.reserve(hosts)
    (a, b) = (ports.join(host, port) for host in hosts)
    backends = stage.backends_at([a, b])
    balancer = stage.balancer(Service({a: 3, b: 1}))
    client = stage.client(balancer, f"{SERVICE}:{port}", grpclb=False)
    return _alike(balancer, client, backends)


without_the_grpclb_import.languages = ("go",)


def grpc_js_without_grpclb(stage):
    """grpc-js, which has no grpclb, finds the service config at the service's own
    name, and calls each backend alike."""
    hosts = ("127.0.0.2", "127.0.0.3")
    port = ports.reserve(hosts)
    backends = stage.backends_at([ports.join(host, port) for host in hosts])
    balancer = stage.balancer(Service({backend.address: 1 for backend in backends}))
    return _alike(balancer, stage.client(balancer, f"{SERVICE}:{port}", native=True), backends)


grpc_js_without_grpclb.languages = ("node",)


def _alike(balancer, client, backends):
    """The share of each of two backends, over the A records and without grpclb."""
    (a, b) = (backend.address for backend in backends)
    client.reach([a, b])
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs")
    with_token = sum(sum(backend.counts()["tokens"].values()) for backend in backends)
    if balancer.streams_opened() or with_token:
        raise Broken("the client did speak grpclb")
    return expect.shares(tally, {a: 1, b: 1})
