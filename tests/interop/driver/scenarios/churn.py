"""Fleets that change all the time."""

import time

import expect
from balancer import Service
from expect import Broken, wait_until
from stage import a_second_after

_EDITS = 20
_EDITS_SECONDS = 2


def backends_replaced_one_by_one(stage):
    """A rolling update: the new one is added, the old one drained, removed and
    killed. No RPC fails."""
    backends, balancer, client = stage.weighted(1, 1)
    client.start_load(200)
    for _ in range(len(backends)):
        old = backends.pop(0)
        backends += stage.backends(1)
        weights = {b.address: 1 for b in backends}
        both = {old.address: 1, **weights}
        a_second_after(balancer.edit([Service(both)]))
        a_second_after(balancer.edit([Service(both, drained=(old.address,))]))
        a_second_after(balancer.edit([Service(weights)]))
        old.kill()
    expect.all_ok(client.stop_load(), "RPCs during the rolling update")
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs to the new fleet")
    return expect.shares(tally, weights)


def backends_replaced_all_at_once(stage):
    """A list without a single old backend: RPCs wait for the new ones, and
    none fails."""
    _, balancer, client = stage.weighted(1, 1)
    weights = dict(zip((b.address for b in stage.backends(2)), (3, 1)))
    client.start_load(200)
    a_second_after(balancer.edit([Service(weights)]))
    client.reach(weights, 5)
    expect.all_ok(client.stop_load(), "RPCs during the replacement")
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs to the new fleet")
    return expect.shares(tally, weights)


def edits_in_quick_succession(stage):
    """Twenty edits in two seconds: no RPC fails, and the last one holds."""
    (a, b), balancer, client = stage.weighted(1, 1)
    client.start_load(200)
    for edit in range(_EDITS):
        balancer.edit([Service({a.address: edit + 1, b.address: _EDITS - edit})])
        time.sleep(_EDITS_SECONDS / _EDITS)
    last = {a.address: 1, b.address: 4}
    a_second_after(balancer.edit([Service(last)]))
    expect.all_ok(client.stop_load(), "RPCs during the edits")
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs after the last edit")
    return expect.shares(tally, last)


def broken_file_changes_nothing(stage):
    """Files that are no configuration, cut short or empty: refused, and clients
    do not notice; the next good one is followed."""
    (a, b), balancer, client = stage.weighted(3, 1)
    weights = {a.address: 3, b.address: 1}
    good = balancer.text([Service(weights)])
    # Valid TOML, and every service gone.
    cut = good[: good.index("[[service]]")]
    client.start_load()
    for broken in (good.replace("weight = 3", "weight = -3"), good[:-10], cut, ""):
        balancer.edit_text(broken)
        wait_until(lambda: not balancer.reload_successful(), 10, f"refused: {broken[-200:]!r}")
        balancer.edit_text(good)
        wait_until(balancer.reload_successful, 10, "the good file is accepted")
    expect.all_ok(client.stop_load(), "RPCs while the file was broken")
    tally = client.call(400)
    expect.all_ok(tally, "400 RPCs after it")
    seen = expect.shares(tally, weights)
    if balancer.streams_opened() != 1:
        raise Broken(f"the client opened {balancer.streams_opened():g} streams")
    return seen
