"""Resolvers between clients and the embedded DNS, set up as docs/dns.md says."""

import re
import subprocess

import ports
from balancer import SERVICE, SRV_TARGET, Service
from expect import Absent, Broken, wait_until
from languages import REPOSITORY

_DOCS = REPOSITORY / "docs" / "dns.md"
# The addresses in it.
_DOCUMENTED = re.compile(r"10\.0\.0\.[56]")
_BACKENDS = ("127.0.0.2:50051", "127.0.0.3:50051")


def unbound_forwards(stage):
    """Every record of a service comes through unbound's forward zones."""
    return _forwarded(stage, "unbound", _unbound)


def dnsmasq_forwards(stage):
    """Every record of a service comes through dnsmasq."""
    return _forwarded(stage, "dnsmasq", _dnsmasq)


def bind_forwards(stage):
    """Every record of a service comes through BIND's forward zones."""
    seen = _forwarded(stage, "bind", _bind)
    if not stage.balancer_under_test.metric("lookaside_dns_cookies_total", cookie="valid"):
        raise Broken("BIND did not show its cookie")
    return f"{seen}, with cookies"


def unbound_primes_a_stub(stage):
    """A stub zone of unbound with stub-prime follows the NS records."""
    host = "127.0.0.53"
    if not ports.is_free(host, 53):
        raise Absent(f"{host}:53 cannot be listened on")
    advertise = [ports.address(host)]
    balancer = stage.balancer(_service(), advertise=advertise, dns=f"{host}:53")
    def asked():
        return balancer.metric("lookaside_dns_queries_total", type="NS", rcode="noerror")

    before = asked()
    seen = _all_records(_start(stage, _unbound, _snippet("unbound-stub", host, 53)), balancer)
    # The page of metrics is made once a second at most.
    wait_until(lambda: asked() > before, 10, "unbound's question for name servers")
    return seen


_SCENARIOS = (unbound_forwards, dnsmasq_forwards, bind_forwards, unbound_primes_a_stub)
for _scenario in _SCENARIOS:
    _scenario.languages = ("dns",)


def _forwarded(stage, kind, configure):
    balancer = stage.balancer_under_test = stage.balancer(_service())
    snippet = _snippet(kind, *balancer.dns.rsplit(":", 1))
    return _all_records(_start(stage, configure, snippet), balancer)


def _service():
    return Service({address: 1 for address in _BACKENDS})


def _snippet(kind, host, port):
    """A block of the documentation, with another address in it."""
    block = re.search(rf"^```{kind}\n(.*?)^```$", _DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return _DOCUMENTED.sub(host, block[1]).replace("9053", str(port))


def _start(stage, configure, snippet):
    """Starts a resolver with the snippet in its file; its port."""
    port = ports.reserve()
    command = configure(stage.folder, port, snippet)
    stage.start(command[0], command)
    return port


def _unbound(folder, port, snippet):
    file = folder / "unbound.conf"
    file.write_text(f"""\
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    do-not-query-localhost: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
{snippet}
remote-control:
    control-enable: no
""")
    return ["unbound", "-d", "-c", file]


def _dnsmasq(folder, port, snippet):
    file = folder / "dnsmasq.conf"
    file.write_text(snippet)
    options = f"--keep-in-foreground --no-resolv --no-hosts --user= --pid-file= --port={port}"
    return ["dnsmasq", *options.split(), "--listen-address=127.0.0.1", "--bind-interfaces", f"--conf-file={file}"]


def _bind(folder, port, snippet):
    file = folder / "named.conf"
    file.write_text(f"""\
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion yes;
    dnssec-validation no;
}};
controls {{ }};
{snippet}
""")
    return ["named", "-g", "-c", file]


def _all_records(port, balancer):
    """What each kind of client asks, through a resolver."""
    wait_until(lambda: _dig(port, SERVICE, "SOA"), 10, "an answer of the resolver")
    lb_host, lb_port = balancer.address.rsplit(":", 1)
    hosts = [address.split(":")[0] for address in _BACKENDS]
    wanted = {
        (f"_grpclb._tcp.{SERVICE}", "SRV"): [f"0 1 {lb_port} {SRV_TARGET}."],
        (SRV_TARGET, "A"): [lb_host],
        (SERVICE, "A"): hosts,
        (SERVICE, "NS"): [f"{SRV_TARGET}."],
        (SERVICE, "AAAA"): [],
    }
    for (name, kind), lines in wanted.items():
        seen = sorted(_dig(port, name, kind))
        if seen != lines:
            raise Broken(f"{kind} of {name} is {seen}, not {lines}")
    for name in (f"_grpc_config.{SERVICE}", SERVICE):
        (txt,) = _dig(port, name, "TXT") or [""]
        if not txt.startswith('"grpc_config=['):
            raise Broken(f"TXT of {name} is {txt!r}")
    return f"{len(wanted) + 2} answers"


def _dig(port, name, kind):
    """The records' data."""
    words = ["dig", "@127.0.0.1", "-p", port, "+short", "+tries=3", "+time=2", name, kind]
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=10, check=False)
    return [line for line in ran.stdout.splitlines() if not line.startswith(";")]
