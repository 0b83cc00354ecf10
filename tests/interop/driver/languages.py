"""The languages: what each needs, how its client and its backend are built and started."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from balancer import SRV_TARGET

HERE = pathlib.Path(__file__).resolve().parent.parent
BUILD = HERE / ".build"
REPOSITORY = HERE.parent.parent
EXAMPLES = REPOSITORY / "examples"
PROTOS = REPOSITORY / "proto" / "protos"
_CLIENTS = HERE / "clients"
_BACKENDS = HERE / "backends"
_BUILD_SECONDS = 900
# The languages that have a grpclb client.
CLIENTS = ("python", "go", "java", "rust")


def run(command, folder, log):
    """Builds something; its whole output is in the log."""
    with open(log, "ab") as out:
        subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=_BUILD_SECONDS,
            check=True,
        )


class Python:
    """grpcio from PyPI, in a venv."""

    name = "python"
    _venv = BUILD / "venv"
    _generated = BUILD / "python"
    _python = _venv / "bin" / "python"

    def missing(self):
        # It runs this driver; `run` has looked at its version.
        return None

    def build(self, log):
        requirements = [folder / "python" / "requirements.txt" for folder in (EXAMPLES, _BACKENDS)]
        install(self._venv, requirements, log)
        # What a backend's author does with the two protos, too.
        protos = ["xds/data/orca/v3/orca_load_report.proto", "xds/service/orca/v3/orca.proto"]
        self._generated.mkdir(exist_ok=True)
        out = [f"--python_out={self._generated}", f"--grpc_python_out={self._generated}"]
        run([self._python, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *out, *protos], PROTOS, log)

    def backend(self, **options):
        script = _BACKENDS / "python" / "backend.py"
        return ["env", f"PYTHONPATH={self._generated}", self._python, script, *flags(options)]

    def client(self, service, balancer, **options):
        script = _CLIENTS / "python" / "client.py"
        return [self._python, script, "--service", service, "--dns", balancer.dns, *flags(options)]

    def example(self, service, balancer, seconds):
        """The example as its README runs it, and where."""
        words = [self._python, "client.py", "--dns", balancer.dns, "--seconds", seconds, service]
        return words, EXAMPLES / "python"


class Go:
    """grpc-go from the module proxy."""

    name = "go"
    _built = BUILD / "go"

    def missing(self):
        return None if shutil.which("go") else "the go command"

    def build(self, log):
        self._built.mkdir(exist_ok=True)
        run(["go", "build", "-o", f"{self._built}/", "./..."], _CLIENTS / "go", log)
        run(["go", "build", "-o", self._built / "backend", "."], _BACKENDS / "go", log)

    def backend(self, **options):
        return [self._built / "backend", *flags(options)]

    def client(self, service, balancer, grpclb=True, **options):
        program = self._built / ("with_grpclb" if grpclb else "without_grpclb")
        return [program, "--service", service, "--dns", balancer.dns, *flags(options)]

    def example(self, service, balancer, seconds):
        words = ["go", "run", ".", "-dns", balancer.dns, "-seconds", seconds, service]
        return words, EXAMPLES / "go"


class Java:
    """grpc-java and grpc-grpclb from Maven Central."""

    name = "java"

    def missing(self):
        absent = [tool for tool in ("java", "mvn") if not shutil.which(tool)]
        return f"the {' and '.join(absent)} command" if absent else None

    def build(self, log):
        # Maven takes seconds to find that there is nothing to do.
        for folder, jar in ((_CLIENTS / "java", "client.jar"), (_BACKENDS / "java", "backend.jar")):
            if not _is_newest(folder / "target" / jar, folder, EXAMPLES / "java"):
                run(["mvn", "-q", "-B", "package"], folder, log)

    def backend(self, **options):
        program = self._program(_BACKENDS / "java" / "target", "backend.jar")
        return [*program, "lookaside.interop.Backend", *flags(options)]

    def _program(self, target, jar):
        jars = f"{target / jar}{os.pathsep}{target / 'lib'}/*"
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars]

    def client(self, service, balancer, resolve_interval=None, **options):
        # Its resolver answers from its own flags, at any time.
        del resolve_interval
        return (
            [*self._program(_CLIENTS / "java" / "target", "client.jar"), "lookaside.interop.Main"]
            + ["--service", service, "--balancer-name", SRV_TARGET]
            + [word for address in balancer.advertise for word in ("--balancer", address)]
            + flags(options)
        )

    def example(self, service, balancer, seconds):
        arguments = f"--balancer {balancer.address} --seconds {seconds} {service}"
        return ["mvn", "-q", "-B", "compile", "exec:java", f"-Dexec.args={arguments}"], EXAMPLES / "java"


class Rust:
    """Our own client crate, under the same promises."""

    name = "rust"
    # grpc-go's test balancer, if it can be built.
    foreign = None
    _program = None
    _backend = None

    def missing(self):
        # The balancer is built by it, too.
        return None

    def build_client(self):
        wanted = ["-p", "lookaside-tests", "--bin", "interop-client", "--bin", "interop-backend"]
        built = cargo_build(*wanted)
        self._program, self._backend = built["interop-client"], built["interop-backend"]

    def build(self, log):
        self.build_client()
        if shutil.which("go"):
            foreign = BUILD / "fake_grpclb"
            package = "google.golang.org/grpc/interop/fake_grpclb"
            run(["go", "build", "-o", foreign, package], _CLIENTS / "go", log)
            self.foreign = foreign

    def backend(self, **options):
        return [self._backend, *flags({"report": "orca"} | options)]

    def client(self, service, server, **options):
        words = ["--dns", server.dns] if server else []
        return [self._program, "--service", service, *words, *flags(options)]


class Node:
    """grpc-js from npm. It has no grpclb: our Rust client calls its backends."""

    name = "node"
    _folder = _BACKENDS / "node"
    _caller = Rust()

    def missing(self):
        absent = [tool for tool in ("node", "npm") if not shutil.which(tool)]
        return f"the {' and '.join(absent)} command" if absent else None

    def build(self, log):
        self._caller.build_client()
        lock = self._folder / "package-lock.json"
        built = self._folder / "node_modules" / "built-from.json"
        if not built.exists() or built.read_text() != lock.read_text():
            run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self._folder, log)
            shutil.copy(lock, built)

    def backend(self, **options):
        return ["node", self._folder / "backend.js", *flags(options)]

    def client(self, service, server, native=False, **options):
        if native:
            # Its own lookups would go to the system's resolver.
            words = ["env", f"NODE_PATH={self._folder / 'node_modules'}", "GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true"]
            words += ["node", _CLIENTS / "node" / "client.js"]
            return [*words, "--service", service, "--dns", server.dns, *flags(options)]
        return self._caller.client(service, server, **options)


class Resolvers:
    """Resolvers of Debian's packages. No gRPC: what docs/dns.md says of them."""

    name = "dns"

    def missing(self):
        absent = [tool for tool in ("unbound", "dnsmasq", "named", "dig") if not shutil.which(tool)]
        return f"the {' and '.join(absent)} command" if absent else None

    def build(self, log):
        del log


class Bsm:
    """Backends as bsm/grpclb has them, with its package from PyPI. That wants a
    protobuf of its own; our Rust client calls them."""

    name = "bsm"
    _venv = BUILD / "venv-bsm"
    _caller = Rust()

    def missing(self):
        return None

    def build(self, log):
        self._caller.build_client()
        install(self._venv, [_BACKENDS / "bsm" / "requirements.txt"], log)

    def backend(self, **options):
        script = _BACKENDS / "bsm" / "backend.py"
        shared = f"PYTHONPATH={_BACKENDS / 'python'}"
        return ["env", shared, self._venv / "bin" / "python", script, *flags(options)]

    def client(self, service, server, **options):
        return self._caller.client(service, server, **options)


def install(venv, requirements, log):
    """A venv with what the files require, made anew if they changed."""
    wanted = "".join(file.read_text() for file in requirements)
    built = venv / "requirements.txt"
    if built.exists() and built.read_text() == wanted:
        return
    run([sys.executable, "-m", "venv", "--clear", venv], HERE, log)
    words = [word for file in requirements for word in ("-r", file)]
    run([venv / "bin" / "python", "-m", "pip", "install", "-q", *words], HERE, log)
    built.write_text(wanted)


def _is_newest(built, *folders):
    """Whether it was made after the last change to any source in these folders."""
    sources = [file for folder in folders for name in ("pom.xml", "*.java") for file in folder.rglob(name)]
    return built.exists() and built.stat().st_mtime > max(file.stat().st_mtime for file in sources)


def cargo_build(*wanted):
    """Builds some of our own; the binaries, by name."""
    built = subprocess.run(
        ["cargo", "build", "--message-format=json-render-diagnostics", *wanted],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    binaries = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            binaries[message["target"]["name"]] = pathlib.Path(message["executable"])
    return binaries


def flags(options):
    """Flags that all clients have."""
    words = []
    for name, value in options.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return words


ALL = (Python(), Go(), Java(), Rust(), Node(), Bsm(), Resolvers())
