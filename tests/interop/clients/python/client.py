"""A gRPC channel from PyPI's grpcio, driven line by line (see ../README.md).

Nothing here knows of lookaside: SRV gives the balancer, TXT gives the policy,
and grpcio's own grpclb does the rest.
"""

import argparse
import collections
import json
import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf.wrappers_pb2 import StringValue

METHOD = "/helloworld.Greeter/SayHello"
LOAD_WORKERS = 4


class Tally:
    """Counts what became of RPCs; `take` empties it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._reset()

    def _reset(self):
        self._backends = collections.Counter()
        self._statuses = collections.Counter()
        self._messages = collections.Counter()

    def answered(self, backend):
        with self._lock:
            self._backends[backend] += 1
            self._statuses["OK"] += 1

    def failed(self, code, message):
        with self._lock:
            self._statuses[code] += 1
            self._messages[f"{code}: {message}"] += 1

    def take(self):
        with self._lock:
            counts = {
                "backends": dict(self._backends),
                "statuses": dict(self._statuses),
                "messages": dict(self._messages),
            }
            self._reset()
            return counts


class Client:
    """One channel and the RPCs over it."""

    def __init__(self, channel, deadline):
        # StringValue has the wire form of HelloRequest and of HelloReply: one
        # string in field 1. So no generated stubs are needed.
        self._hello = channel.unary_unary(
            METHOD,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        self._deadline = deadline
        self._load = None

    def _rpc(self, tally, wait_for_ready):
        try:
            reply = self._hello(
                StringValue(value="interop"),
                timeout=self._deadline,
                wait_for_ready=wait_for_ready,
            )
        except grpc.RpcError as error:
            tally.failed(error.code().name, error.details())
        else:
            tally.answered(reply.value)

    def call(self, count, concurrency, wait_for_ready):
        tally = Tally()
        with futures.ThreadPoolExecutor(concurrency) as pool:
            for _ in range(count):
                pool.submit(self._rpc, tally, wait_for_ready)
        return tally.take()

    def load_start(self, per_second):
        self._load = Load(per_second, self._rpc)
        return {}

    def load_take(self):
        return self._load.tally.take()

    def load_stop(self):
        load, self._load = self._load, None
        load.stop()
        return load.tally.take()


class Load:
    """RPCs one after another on a few threads, until stopped."""

    def __init__(self, per_second, rpc):
        self.tally = Tally()
        self._rpc = rpc
        self._pause = LOAD_WORKERS / per_second
        self._over = threading.Event()
        self._workers = [threading.Thread(target=self._work) for _ in range(LOAD_WORKERS)]
        for worker in self._workers:
            worker.start()

    def _work(self):
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - 1)
            self._rpc(self.tally, False)

    def stop(self):
        self._over.set()
        for worker in self._workers:
            worker.join()


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--service", required=True, help="name or name:port to call")
    flags.add_argument("--dns", required=True, help="ip:port of the DNS server")
    flags.add_argument("--ca", help="PEM of the CA to trust; plaintext if absent")
    flags.add_argument("--deadline", type=float, default=5.0, help="seconds for each RPC")
    flags.add_argument("--resolve-interval", type=float, help="least seconds between resolutions")
    flags = flags.parse_args()

    options = [
        ("grpc.dns_enable_srv_queries", 1),
        ("grpc.service_config_disable_resolution", 0),
    ]
    if flags.resolve_interval:
        options.append(("grpc.dns_min_time_between_resolutions_ms", int(flags.resolve_interval * 1000)))
    target = f"dns://{flags.dns}/{flags.service}"
    if flags.ca:
        with open(flags.ca, "rb") as ca:
            credentials = grpc.ssl_channel_credentials(ca.read())
        channel = grpc.secure_channel(target, credentials, options)
    else:
        channel = grpc.insecure_channel(target, options)

    client = Client(channel, flags.deadline)
    for line in sys.stdin:
        match line.split():
            case ["call", count, concurrency, *wait]:
                answer = client.call(int(count), int(concurrency), wait == ["wait"])
            case ["load", "start", per_second]:
                answer = client.load_start(float(per_second))
            case ["load", "take"]:
                answer = client.load_take()
            case ["load", "stop"]:
                answer = client.load_stop()
            case ["quit"]:
                break
            case _:
                answer = {"error": f"unknown command: {line.strip()}"}
        print(json.dumps(answer), flush=True)
    channel.close()


if __name__ == "__main__":
    main()
