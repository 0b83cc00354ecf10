"""What the Python backends have in common: a Greeter, and its count of calls."""

import collections

import grpc
from google.protobuf.wrappers_pb2 import StringValue


class Tally:
    """Counts calls by the token they brought."""

    def __init__(self):
        self.calls = 0
        self._without_token = 0
        self._tokens = collections.Counter()

    def add(self, token):
        self.calls += 1
        if token is None:
            self._without_token += 1
        else:
            self._tokens[token] += 1

    def counts(self):
        return {"calls": self.calls, "without_token": self._without_token, "tokens": self._tokens}


def greeter(address, tally):
    """Answers with its address. StringValue has the wire form of HelloRequest and
    of HelloReply, one string in field 1, so no generated stubs are needed."""

    async def say_hello(_, context):
        tally.add(dict(context.invocation_metadata()).get("lb-token"))
        return StringValue(value=address)

    handler = grpc.unary_unary_rpc_method_handler(
        say_hello,
        request_deserializer=StringValue.FromString,
        response_serializer=StringValue.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("helloworld.Greeter", {"SayHello": handler})
