"""What a scenario demands, and how it waits for it."""

import time


class Broken(Exception):
    """A promise that a client saw broken."""


class Absent(Exception):
    """The machine lacks what a scenario is about."""


def wait_until(met, seconds, what):
    """Polls until `met()` is true; its value. Broken after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = met()
        if value:
            return value
        if time.monotonic() > end:
            raise Broken(f"after {seconds:g} s still not: {what}")
        time.sleep(0.02)


def all_ok(tally, during):
    """No RPC failed."""
    failed = {code: n for code, n in tally["statuses"].items() if code != "OK"}
    if failed:
        raise Broken(f"{during}: {sum(failed.values())} RPCs failed: {tally['messages']}")


def shares(tally, weights, points=2.0):
    """Each backend's share of the answered RPCs is its weight's, within points.

    `weights` is by address; a backend that is not in it must get nothing.
    Returns the shares seen, for the table.
    """
    total = sum(tally["backends"].values())
    if not total:
        raise Broken(f"no RPC was answered: {tally['messages']}")
    sum_of_weights = sum(weights.values())
    for address in {*weights, *tally["backends"]}:
        wanted = 100 * weights.get(address, 0) / sum_of_weights
        seen = 100 * tally["backends"].get(address, 0) / total
        if abs(seen - wanted) > points or (wanted == 0 and seen > 0):
            raise Broken(f"{address} got {seen:.1f} % of {total}, not {wanted:.1f} %: {tally['backends']}")
    return "/".join(f"{100 * tally['backends'][a] / total:.1f}" for a in weights) + " %"


def share(seen, total, wanted, what, points=2.0):
    """`seen` of `total` is the wanted share (0 to 1), within points."""
    got = 100 * seen / total
    if abs(got - 100 * wanted) > points:
        raise Broken(f"{what}: {got:.1f} % of {total}, not {100 * wanted:.1f} %")
    return f"{got:.1f} %"
