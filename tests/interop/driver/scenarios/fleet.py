"""One service of backends in every language."""

import time

import expect
from balancer import Service
from expect import Absent, Broken, wait_until

_KEYS = (
    'policy = "feedback"',
    'load = { kind = "orca", interval = "1s" }',
    'health = { kind = "grpc" }',
)
# Calls a second that make each of them busy, and those there are for all.
_CAPACITY = {"go": 160, "java": 100, "rust": 80, "node": 30, "python": 30}
_CALLS_PER_SECOND = 240
# A service asks in one way, and bsm's backends know another: they are called, too.
_SILENT = "bsm"
# grpc-go tells every 30 s only.
_LEVEL_SECONDS = 90
# Ten seconds of calls are measured.
_MEASURED_SECONDS = 10
_MOST_OVER_MEAN = 1.2


def fleet_of_all_languages_runs_level(stage):
    """Backends of unlike size in Go, Java, Node, Python and Rust: all report, all
    are called, and by `feedback` they are soon as busy as one another. One that
    does not report is called beside them."""
    missing = {*_CAPACITY, _SILENT} - stage.languages.keys()
    if missing:
        raise Absent(f"{', '.join(sorted(missing))} is not played")
    fleet = {
        name: stage.native({"capacity": capacity}, language=stage.languages[name])[0]
        for name, capacity in _CAPACITY.items()
    }
    silent = stage.native({}, language=stage.languages[_SILENT])[0]
    weights = {backend.address: 1 for backend in (*fleet.values(), silent)}
    balancer = stage.balancer(Service(weights))
    client = stage.client(balancer)
    client.reach(weights)
    client.start_load(_CALLS_PER_SECOND)
    before = _busy(fleet, 3)
    balancer.edit([Service(weights, keys=_KEYS)])
    wait_until(lambda: balancer.report_streams() == len(fleet), 20, "all report")
    wait_until(lambda: _uneven(_busy(fleet, _MEASURED_SECONDS)) < _MOST_OVER_MEAN, _LEVEL_SECONDS, "a level fleet")
    quiet = silent.counts()["calls"]
    after = _busy(fleet, _MEASURED_SECONDS)
    if silent.counts()["calls"] == quiet:
        raise Broken("the backend that does not report was not called")
    expect.all_ok(client.stop_load(), "RPCs while weights moved")
    broken = balancer.report_streams_ended() - balancer.report_streams_ended(reason="unimplemented")
    if broken:
        raise Broken(f"{broken:g} streams of reports ended")
    return f"max/avg {_uneven(before):.2f} -> {_uneven(after):.2f}: {_words(after)}"


fleet_of_all_languages_runs_level.languages = ("rust",)


def _busy(fleet, seconds):
    """Each backend's utilization over the next seconds."""
    began, before = time.monotonic(), {name: backend.counts()["calls"] for name, backend in fleet.items()}
    time.sleep(seconds)
    took = time.monotonic() - began
    calls = {name: backend.counts()["calls"] - before[name] for name, backend in fleet.items()}
    if not all(calls.values()):
        raise Broken(f"a backend was not called: {calls}")
    return {name: calls[name] / took / _CAPACITY[name] for name in fleet}


def _uneven(busy):
    return max(busy.values()) * len(busy) / sum(busy.values())


def _words(busy):
    return ", ".join(f"{name} {busy[name]:.2f}" for name in busy)
