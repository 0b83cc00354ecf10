"""grpc-go's own test balancer, with our Rust client: a list without tokens, and
the same list again every ten seconds."""

import ports
from balancer import SERVICE
from expect import Absent, all_ok, shares

# The only port that this balancer takes in a service's name.
_PORT = 443


def balancer_of_grpc_go(stage):
    """Its list is followed, each backend alike."""
    client, backends = _follow(stage)
    tally = client.call(300)
    all_ok(tally, "300 RPCs")
    return shares(tally, {backend.address: 1 for backend in backends})


def balancer_of_grpc_go_that_ends_every_stream(stage):
    """A stream that ends behind its first list is opened again, without a storm,
    and RPCs go on."""
    client, backends = _follow(stage, "--short_stream")
    client.start_load()
    tally = client.call(2000, 2)
    all_ok(tally, "2000 RPCs")
    all_ok(client.stop_load(), "RPCs beside them")
    return shares(tally, {backend.address: 1 for backend in backends})


def balancer_of_grpc_go_killed(stage):
    """Its list stays in use when it dies."""
    client, backends = _follow(stage)
    client.start_load()
    stage.foreign.kill()
    tally = client.call(300)
    all_ok(tally, "300 RPCs without a balancer")
    all_ok(client.stop_load(), "RPCs beside them")
    return shares(tally, {backend.address: 1 for backend in backends})


def _follow(stage, *flags):
    if not stage.language.foreign:
        raise Absent("grpc-go's balancer takes the go command")
    backends = stage.backends(3)
    port = ports.reserve()
    words = [
        stage.language.foreign,
        f"--port={port}",
        f"--service_name={SERVICE}",
        f"--backend_addrs={','.join(backend.address for backend in backends)}",
        *flags,
    ]
    stage.foreign = stage.start("grpc-go's balancer", words)
    client = stage.client(None, f"{SERVICE}:{_PORT}", balancer=f"localhost:{port}")
    client.reach([backend.address for backend in backends])
    return client, backends


for _scenario in (balancer_of_grpc_go, balancer_of_grpc_go_that_ends_every_stream, balancer_of_grpc_go_killed):
    _scenario.languages = ("rust",)
