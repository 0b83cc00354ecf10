"""Calls a service through lookaside with grpcio as it comes from PyPI.

    python client.py [--dns 127.0.0.1:9053] [--seconds 10] [greeter.example.com]

Each second it makes 100 calls and prints which backend answered how many.
"""

import argparse
import collections
import time

import grpc
from google.protobuf.wrappers_pb2 import StringValue

CALLS_PER_SECOND = 100

flags = argparse.ArgumentParser()
flags.add_argument("service", nargs="?", default="greeter.example.com")
flags.add_argument("--dns", help="ip:port of lookaside's DNS; the machine's own DNS if absent")
flags.add_argument("--seconds", type=int, default=10)
flags = flags.parse_args()

# With --dns the names are asked of lookaside itself. In production delegate the
# names to it, or copy its SRV and TXT records, and say "dns:///greeter.example.com".
target = f"dns://{flags.dns or ''}/{flags.service}"
options = [
    # Look for balancers: SRV _grpclb._tcp.<service>. Off by default.
    ("grpc.dns_enable_srv_queries", 1),
    # Take the service config, which says grpclb, from TXT _grpc_config.<service>.
    # (Or leave DNS out of it, and write it down:
    # ("grpc.service_config", '{"loadBalancingConfig":[{"grpclb":{}}]}').)
    ("grpc.service_config_disable_resolution", 0),
]

with grpc.insecure_channel(target, options) as channel:
    # With your own generated stubs: GreeterStub(channel).SayHello. StringValue has
    # the wire form of HelloRequest and HelloReply, so this file needs none.
    say_hello = channel.unary_unary(
        "/helloworld.Greeter/SayHello",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    for _ in range(flags.seconds):
        started = time.monotonic()
        answers = collections.Counter()
        for _ in range(CALLS_PER_SECOND):
            try:
                answers[say_hello(StringValue(value="python"), timeout=5).value] += 1
            except grpc.RpcError as error:
                answers[f"{error.code().name}: {error.details()}"] += 1
        print(", ".join(f"{n} × {answer}" for answer, n in sorted(answers.items())), flush=True)
        time.sleep(max(0.0, started + 1 - time.monotonic()))
