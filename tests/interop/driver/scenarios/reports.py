"""Backends of gRPC's own languages that tell how busy they are."""

import time

import expect
from balancer import Service
from expect import Broken, wait_until
from stage import measure_under_load

from .health import leaves

# A weight rests on ten seconds of reports, moves every five, and then reaches
# the client.
_SETTLE_SECONDS = 40
# grpc-go reports every 30 s, whatever it is asked, and first when it is asked.
_STRETCHED_SECONDS = 45
# A backend that does not know ORCA would be asked again after 1 s, 1.6 s, …
_UNASKED_SECONDS = 4

_BY_LOAD = ('policy = "weighted_round_robin"', 'load = { kind = "orca", interval = "1s" }')
# Its backend here keeps the score of the last second; without being told so, `feedback`
# reckons with 30 seconds, and settles slowly.
_BY_SCORE = ('policy = "feedback"', 'load_window = "1s"', 'load = { kind = "load_report", capacity = 100, interval = "1s" }')
_REPORTING = ("python", "go", "java", "rust", "node")


def reported_load_moves_weights(stage):
    """Two backends that get the same calls, of which one can do four times as
    many, and say how busy they are: four fifths of the calls go there."""
    large, small, balancer, client = _asked(stage)
    weights = {large.address: 4, small.address: 1}
    _settled(client, weights)
    seen = expect.shares(measure_under_load(client), weights, points=3.0)
    expect.all_ok(client.stop_load(), "RPCs while weights moved")
    return f"{seen}, {balancer.reports(result='taken'):g} reports"


def restarted_backend_reports_again(stage):
    """A backend dies: that its reports break off takes it from the list. It comes
    back, and its reports do, too."""
    large, _, balancer, client = _asked(stage)
    wait_until(lambda: balancer.report_streams() == 2, 20, "both backends report")
    gone = leaves(balancer, large.kill)
    before = balancer.reports()
    large.start()
    wait_until(lambda: balancer.report_streams() == 2, 40, "the backend reports again")
    wait_until(lambda: balancer.reports() > before, _STRETCHED_SECONDS, "a report since it died")
    wait_until(lambda: client.call(10)["backends"].get(large.address), 30, "calls to the backend")
    return f"{gone}, {balancer.reports():g} reports"


def backend_that_does_not_report_keeps_its_weight(stage):
    """Backends that do not know ORCA are asked once, and stay as they are."""
    backends = stage.native({"report": "nothing"}, {"report": "nothing"})
    weights = dict(zip((b.address for b in backends), (3, 1)))
    balancer = stage.balancer(Service(weights, keys=_BY_LOAD))
    client = stage.client(balancer)
    client.reach(weights)

    def refused():
        return balancer.report_streams_ended(reason="unimplemented")

    wait_until(lambda: refused() == 2, 20, "both were asked")
    time.sleep(_UNASKED_SECONDS)
    if balancer.report_streams_ended() != 2:
        raise Broken(f"asked {balancer.report_streams_ended():g} times, not once each")
    if balancer.backend_connects() != 2:
        raise Broken(f"{balancer.backend_connects():g} connections, not one to each")
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs")
    return expect.shares(tally, weights)


def reported_score_moves_weights(stage):
    """bsm's backends have a score and no rate, and are asked for it: by `feedback`
    the larger one gets more of the calls; killed, it leaves the list."""
    large, small = stage.native({"capacity": 160}, {"capacity": 40})
    weights = {large.address: 1, small.address: 1}
    balancer = stage.balancer(Service(weights, keys=_BY_SCORE))
    client = stage.client(balancer)
    client.reach(weights)
    client.start_load()
    _settled(client, {large.address: 4, small.address: 1})
    seen = expect.shares(measure_under_load(client), {large.address: 4, small.address: 1}, points=12.0)
    expect.all_ok(client.stop_load(), "RPCs while weights moved")
    gone = leaves(balancer, large.kill)
    large.start()
    wait_until(lambda: balancer.serving() == 2, 10, "the backend is listed again")
    before = balancer.reports(result="taken")
    wait_until(lambda: balancer.reports(result="taken") >= before + 4, 20, "both are asked again")
    return f"{seen}, {gone}"


def stretched_interval_is_waited_for(stage):
    """grpc-go reports every 30 s though it is asked for 1 s: no stream is given up."""
    _, _, balancer, client = _asked(stage)
    wait_until(lambda: balancer.reports() == 2, 20, "a first report of each")
    began = time.monotonic()
    wait_until(lambda: balancer.reports() == 4, _STRETCHED_SECONDS, "a second report of each")
    waited = time.monotonic() - began
    if balancer.report_streams_ended():
        raise Broken(f"{balancer.report_streams_ended():g} streams ended meanwhile")
    expect.all_ok(client.stop_load(), "RPCs meanwhile")
    return f"the second after {waited:.0f} s"


for _scenario in (
    reported_load_moves_weights,
    restarted_backend_reports_again,
    backend_that_does_not_report_keeps_its_weight,
):
    _scenario.languages = _REPORTING
stretched_interval_is_waited_for.languages = ("go",)
reported_score_moves_weights.languages = ("bsm",)


def _asked(stage):
    """A large and a small backend under load, and a balancer that has begun to
    ask them: what reports first and then not for 30 s has calls to report."""
    large, small = stage.native({"capacity": 160}, {"capacity": 40})
    weights = {large.address: 1, small.address: 1}
    balancer = stage.balancer(Service(weights))
    client = stage.client(balancer)
    client.reach(weights)
    client.start_load()
    wait_until(lambda: min(b.counts()["calls"] for b in (large, small)) > 100, 20, "calls to report")
    balancer.edit([Service(weights, keys=_BY_LOAD)])
    return large, small, balancer, client


def _settled(client, weights):
    """Waits until the load's last second was shared about as it should be."""
    total = sum(weights.values())

    def shared():
        expect.all_ok(client.take_load(), "RPCs while weights moved")
        time.sleep(1)
        tally = client.take_load()
        expect.all_ok(tally, "RPCs while weights moved")
        calls = tally["backends"]
        made = max(1, sum(calls.values()))
        return all(abs(calls.get(a, 0) / made - w / total) < 0.08 for a, w in weights.items())

    wait_until(shared, _SETTLE_SECONDS, f"shares of about {':'.join(map(str, weights.values()))}")
