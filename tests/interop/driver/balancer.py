"""`lookaside serve`, its TOML file and its metrics."""

import dataclasses
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import ports
import process
from expect import wait_until

# What clients ask, and the one name under which certificates know balancers.
SERVICE = "greeter.example.com"
SRV_TARGET = "lb.example.com"

# More than `shutdown` of the file: with what closing its listeners takes.
_SHUTDOWN_SECONDS = 5

_METRIC = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclasses.dataclass
class Service:
    """One `[[service]]`: weights by address, and what else the file may say."""

    weights: dict
    name: str = SERVICE
    drained: tuple = ()
    drop: dict = dataclasses.field(default_factory=dict)
    fallback_port: int | None = None
    # Lines of the service's table as they stand: `load`, `policy`, `health`.
    keys: tuple = ()

    def toml(self):
        lines = ["[[service]]", f"name = {json.dumps(self.name)}"]
        if self.drop:
            shares = ", ".join(f"{category} = {share}" for category, share in self.drop.items())
            lines.append(f"drop = {{ {shares} }}")
        if self.fallback_port:
            lines.append(f"fallback_port = {self.fallback_port}")
        lines += self.keys
        lines.append("backends = [")
        for address, weight in self.weights.items():
            drain = ", drain = true" if address in self.drained else ""
            lines.append(f'  {{ address = "{address}", weight = {weight}{drain} }},')
        lines.append("]")
        return "\n".join(lines)


class Balancer:
    """One balancer, that may die and come back at the same ports."""

    def __init__(self, binary, folder, services, host="127.0.0.1", advertise=(), certificate=None, dns=None):
        # `advertise` begins with its own address, if replicas share a name.
        self.address = advertise[0] if advertise else ports.address(host)
        self.advertise = list(advertise) or [self.address]
        self.admin, self.dns = ports.address(), dns or ports.address()
        self._binary = binary
        folder.mkdir(exist_ok=True)
        self._file = folder / "lookaside.toml"
        self._log = folder / "balancer.log"
        self._certificate = certificate
        self._process = None
        self.edit(services)
        self.start()

    def start(self):
        self.start_without_waiting()
        self.wait_ready()

    def start_without_waiting(self):
        command = [self._binary, "serve", "--config", self._file]
        self._process = process.Process("balancer", command, self._log)

    def wait_ready(self):
        wait_until(self._ready, 20, "the balancer answers /readyz")

    def edit(self, services):
        """Replaces the file by rename, as editors do; when that was."""
        return self.edit_text(self.text(services))

    def edit_text(self, text):
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self._file)
        return time.monotonic()

    def text(self, services):
        """The whole file with these services."""
        return "\n\n".join([self._head(), *(service.toml() for service in services)]) + "\n"

    def _head(self):
        tls = ""
        if self._certificate:
            tls = f"""
[balancer.tls]
cert = "{self._certificate.cert}"
key = "{self._certificate.key}"
"""
        return f"""\
[balancer]
listen = "{self.address}"
advertise = {json.dumps(self.advertise)}
report_interval = "1s"
shutdown = "1s"
{tls}
[admin]
listen = "{self.admin}"
metrics_interval = "0s"

[dns]
listen = "{self.dns}"
target = "{SRV_TARGET}"
"""

    def kill(self):
        self._process.kill()

    def stop(self):
        """Stops it as it stands: its sockets stay, and nobody answers on them."""
        self._process.signal(signal.SIGSTOP)

    def go_on(self):
        self._process.signal(signal.SIGCONT)

    def end(self):
        """Shuts down as an operator would."""
        if self._process.running():
            self._process.signal(signal.SIGTERM)
        self._process.end(_SHUTDOWN_SECONDS)

    def accepts(self):
        """Whether the kernel accepts connections to it."""
        host, port = self.address.rsplit(":", 1)
        try:
            socket.create_connection((host.strip("[]"), int(port)), 1).close()
            return True
        except OSError:
            return False

    def _ready(self):
        if not self._process.running():
            raise process.Died(f"the balancer ended; see {self._log}")
        try:
            return self._get("/readyz") is not None
        except (urllib.error.URLError, OSError):
            return False

    def _get(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=2) as answer:
            return answer.read().decode()

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self._get("/metrics").splitlines():
            sample = _METRIC.match(line)
            if sample and sample[1] == name:
                has = dict(_LABEL.findall(sample[2] or ""))
                if labels.items() <= has.items():
                    total += float(sample[3])
        return total

    def streams(self):
        """BalanceLoad streams that get lists now."""
        return self.metric("lookaside_streams")

    def streams_opened(self):
        """BalanceLoad streams that began, since it started."""
        return self.metric("lookaside_streams_opened_total")

    def streams_refused(self):
        """BalanceLoad requests that became no stream, since it started."""
        return self.metric("lookaside_streams_refused_total")

    def calls_finished(self):
        """Calls that clients say they have finished, dropped ones too."""
        return self.metric("lookaside_client_calls_finished_total")

    def calls_dropped(self, category):
        """Calls that clients say they have dropped for a category."""
        return self.metric("lookaside_client_calls_dropped_total", category=category)

    def serving(self):
        """Backends of all services that are listed because they are well."""
        return self.metric("lookaside_backends", state="serving")

    def reports(self, **labels):
        """Load reports, taken or not, that came by its asking."""
        return self.metric("lookaside_load_reports_total", **labels)

    def report_streams(self):
        """ORCA streams on which backends report now."""
        return self.metric("lookaside_load_streams")

    def report_streams_ended(self, **labels):
        """ORCA streams that ended or did not begin, since it started."""
        return self.metric("lookaside_load_streams_ended_total", **labels)

    def backend_connects(self):
        """Connections to backends that it tried to open, since it started."""
        return self.metric("lookaside_backend_connects_total")

    def dns_queries(self):
        """DNS messages since it started."""
        return self.metric("lookaside_dns_queries_total")

    def reload_successful(self):
        """Whether what the file says now is what it serves."""
        return self.metric("lookaside_config_last_reload_successful") == 1
