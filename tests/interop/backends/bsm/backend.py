"""A Greeter that tells its load as backends of bsm/grpclb do: when it is asked, by
grpclb.backend.v1.LoadReport, as bsm's own package from PyPI has that service.

Nothing here knows of lookaside. One process is one backend; it obeys the lines on
standard input (see ../../README.md).
"""

import argparse
import asyncio
import json
import sys

import grpc
from grpclb_backend_v1 import backend_pb2, backend_pb2_grpc

from greeter import Tally, greeter


class LoadReport(backend_pb2_grpc.LoadReportServicer):
    """A score of 100 is a backend that can do no more."""

    def __init__(self):
        self.score = 0

    async def Load(self, request, context):
        return backend_pb2.LoadResponse(score=self.score)


async def record(report, tally, capacity):
    """Keeps the score at what the last second was."""
    before = tally.calls
    while True:
        await asyncio.sleep(1)
        qps, before = tally.calls - before, tally.calls
        report.score = round(100 * qps / capacity)


async def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--listen", required=True, help="ip:port")
    flags.add_argument("--capacity", type=float, default=100, help="calls a second that are a score of 100")
    flags = flags.parse_args()

    tally, report = Tally(), LoadReport()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([greeter(flags.listen, tally)])
    backend_pb2_grpc.add_LoadReportServicer_to_server(report, server)
    server.add_insecure_port(flags.listen)
    await server.start()
    recording = asyncio.create_task(record(report, tally, flags.capacity))
    print(json.dumps({"listening": flags.listen}), flush=True)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        known = line.strip() == "counts"
        print(json.dumps(tally.counts() if known else {"error": f"unknown command: {line.strip()}"}), flush=True)
    recording.cancel()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
