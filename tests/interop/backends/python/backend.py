"""A Greeter of grpcio that reports its load by ORCA. gRPC for Python has no such
service of its own, so the one of the protos is served by hand.

Nothing here knows of lookaside. One process is one backend; it obeys the lines on
standard input (see ../../README.md).
"""

import argparse
import asyncio
import json
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

# Generated when this is built, from proto/protos.
from xds.data.orca.v3 import orca_load_report_pb2
from xds.service.orca.v3 import orca_pb2_grpc

from greeter import Tally, greeter


class OpenRca(orca_pb2_grpc.OpenRcaServiceServicer):
    """Sends the newest report as often as it is asked to."""

    def __init__(self):
        self.report = orca_load_report_pb2.OrcaLoadReport()

    async def StreamCoreMetrics(self, request, context):
        # No interval is 0 s, and too often is nobody's wish.
        interval = max(request.report_interval.ToTimedelta().total_seconds(), 1.0)
        while True:
            yield self.report
            await asyncio.sleep(interval)


async def record(orca, tally, capacity):
    """Keeps the report at what the last second was: ORCA wants rates, and only
    the program knows them."""
    before = tally.calls
    while True:
        await asyncio.sleep(1)
        qps, before = tally.calls - before, tally.calls
        orca.report = orca_load_report_pb2.OrcaLoadReport(
            rps_fractional=qps, application_utilization=qps / capacity
        )


async def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--listen", required=True, help="ip:port")
    flags.add_argument("--capacity", type=float, default=100, help="calls a second that are a utilization of 1")
    flags.add_argument("--report", default="orca", choices=["orca", "nothing"], help="how it tells its load")
    flags = flags.parse_args()

    tally, healthy = Tally(), health.HealthServicer()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([greeter(flags.listen, tally)])
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    tasks = []
    if flags.report == "orca":
        orca = OpenRca()
        orca_pb2_grpc.add_OpenRcaServiceServicer_to_server(orca, server)
        tasks.append(asyncio.create_task(record(orca, tally, flags.capacity)))
    server.add_insecure_port(flags.listen)
    await server.start()
    print(json.dumps({"listening": flags.listen}), flush=True)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = {}
        match line.split():
            case ["counts"]:
                answer = tally.counts()
            case ["health", "serving"]:
                await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
            case ["health", "not_serving"]:
                await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            case _:
                answer = {"error": f"unknown command: {line.strip()}"}
        print(json.dumps(answer), flush=True)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
