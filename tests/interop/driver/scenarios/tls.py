"""Everything encrypted."""

import expect
from balancer import SERVICE, SRV_TARGET, Service


def tls_with_the_name_of_the_srv_target(stage):
    """The balancer's certificate is for the SRV target and nothing else, the
    backends' for the service and nothing else."""
    backends = stage.backends(2, certificate=stage.authority.sign(SERVICE))
    weights = dict(zip((b.address for b in backends), (3, 1)))
    balancer = stage.balancer(Service(weights), certificate=stage.authority.sign(SRV_TARGET))
    client = stage.client(balancer, ca=stage.authority.ca.cert)
    client.reach(weights)
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs")
    return expect.shares(tally, weights)
