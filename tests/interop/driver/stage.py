"""What a scenario has at hand: backends, a balancer and a client of one language."""

import re
import time

import ports
import process
from backends import Backend
from balancer import SERVICE, Balancer, Service
from expect import Broken, all_ok, wait_until

# `hash48(ip:port)` in base64url, and on one entry of a stream's first list a nonce.
_TOKEN = re.compile(r"^[A-Za-z0-9_-]{8}(\.[A-Za-z0-9_-]{8})?$")


class Stage:
    """Starts what a scenario asks for, and ends all of it when left."""

    def __init__(self, language, languages, binaries, authority, folder):
        self.language = language
        # Those that are played, by name.
        self.languages = languages
        self.authority = authority
        self.folder = folder
        self._binaries = binaries
        self._started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for started in reversed(self._started):
            started.end()

    def backends(self, count, host="127.0.0.1", certificate=None):
        """So many backends, at ports of one host."""
        return self.backends_at([ports.address(host) for _ in range(count)], certificate)

    def backends_at(self, addresses, certificate=None):
        made = []
        for address in addresses:
            log = self.folder / "backends.log"
            made.append(Backend([self._binaries["interop-backend"]], address, log, certificate))
            self._started.append(made[-1])
        return made

    def native(self, *options, language=None):
        """Backends of a language's own gRPC, one for each dict of its flags."""
        made = []
        for flags in options:
            words = (language or self.language).backend(**flags)
            made.append(Backend(words, ports.address(), self.folder / "backends.log"))
            self._started.append(made[-1])
        return made

    def balancer(self, *services, name="balancer", **options):
        folder = self.folder / name
        made = Balancer(self._binaries["lookaside"], folder, services, **options)
        self._started.append(made)
        return made

    def start(self, name, command):
        """Any other program, which is ended with the scenario."""
        made = process.Process(name, command, self.folder / "other.log")
        self._started.append(made)
        return made

    def client(self, server, service=SERVICE, **options):
        command = self.language.client(service, server, **options)
        made = Client(process.Process(f"{self.language.name} client", command, self.folder / "client.log"))
        self._started.append(made)
        return made

    def weighted(self, *weights, **service):
        """Backends of these weights, a balancer that knows them, and a client
        that has called each of them."""
        backends = self.backends(len(weights))
        by_address = {b.address: w for b, w in zip(backends, weights)}
        balancer = self.balancer(Service(by_address, **service))
        client = self.client(balancer)
        client.reach(by_address)
        return backends, balancer, client


class Client:
    """One channel in a client process."""

    def __init__(self, child):
        self._child = child
        # RPCs made so far, not those of a load.
        self.made = 0

    def call(self, count, concurrency=4, wait_for_ready=False):
        """That many RPCs; how many got which answer from whom."""
        words = f"call {count} {concurrency}" + (" wait" if wait_for_ready else "")
        self.made += count
        return self._child.ask(words, 120)

    def reach(self, addresses, seconds=30):
        """Calls until every address has answered: from then on each is connected."""
        seen = set()

        def all_seen():
            seen.update(self.call(10, 2, wait_for_ready=True)["backends"])
            return seen.issuperset(addresses)

        wait_until(all_seen, seconds, f"an answer from each of {', '.join(addresses)}")

    def start_load(self, per_second=100):
        """RPCs, evenly spread, until `stop_load`."""
        self._child.ask(f"load start {per_second}", 30)

    def take_load(self):
        """What the load saw since it was last taken."""
        return self._child.ask("load take", 30)

    def stop_load(self):
        return self._child.ask("load stop", 30)

    def end(self):
        self._child.end()


def a_second_after(edited):
    """Returns one second after the file was replaced: by then it must be followed."""
    time.sleep(max(0.0, edited + 1 - time.monotonic()))


def edit_under_load(client, edit):
    """Makes an edit while RPCs go on, gives it a second, and takes the measure.
    No RPC may fail meanwhile."""
    client.start_load()
    a_second_after(edit())
    tally = measure_under_load(client)
    all_ok(client.stop_load(), "RPCs after that")
    return tally


def measure_under_load(client):
    """400 RPCs from now on, and those of the load beside them: the client deals
    the list's entries to both. None may have failed since the load was taken."""
    all_ok(client.take_load(), "RPCs until now")
    tally, beside = client.call(400), client.take_load()
    all_ok(tally, "400 RPCs")
    all_ok(beside, "RPCs beside them")
    for address, count in beside["backends"].items():
        tally["backends"][address] = tally["backends"].get(address, 0) + count
    return tally


def tokens_name_one_backend(backends):
    """Every call brought a token, and of one backend all tokens begin alike."""
    for backend in backends:
        counts = backend.counts()
        if counts["without_token"]:
            raise Broken(f"{backend.address}: {counts['without_token']} of {counts['calls']} calls without lb-token")
        strange = [token for token in counts["tokens"] if not _TOKEN.match(token)]
        if strange:
            raise Broken(f"{backend.address} saw the lb-tokens {strange}")
        if len({token[:8] for token in counts["tokens"]}) > 1:
            raise Broken(f"{backend.address} saw tokens of several backends: {counts['tokens']}")
