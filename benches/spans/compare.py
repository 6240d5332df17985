"""The cost of spans: CPU time of the server per request, at three log filters.

`make bench-spans`. Each filter has a server of its own. The servers take turns of a few requests, so that other work on the
machine falls on all of them, and the time is that of the server's threads, not of the clock. `of off` is the median of the
ratios of the rounds; `lower` and `upper` are their quartiles. The samples are embeddings, so no model runs and the share of
the spans in a request is at its largest.
"""

import argparse
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
from pathlib import Path

#: No spans, the span of the request (the default), all spans and a log line at the end of each.
FILTERS = ["off", "info", "info,semblance=debug"]
DIMENSION = 512
PEOPLE = 500
TURN_REQUESTS = 200


def sample(draws):
    values = [draws.gauss(0, 1) for _ in range(DIMENSION)]
    return {"modality": "face", "embedding": {"model": "mine", "values": values}}


class Server:
    def __init__(self, program, log_filter):
        self.home = tempfile.TemporaryDirectory()
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        environment |= {
            "SEMBLANCE_DATA_DIR": self.home.name,
            "SEMBLANCE_ALLOW_LOOPBACK": "true",
            "SEMBLANCE_HTTP_ADDR": "127.0.0.1:0",
            "SEMBLANCE_GRPC_ADDR": "127.0.0.1:0",
            "SEMBLANCE_LOG": log_filter,
        }
        self.process = subprocess.Popen(
            [program, "serve", "--no-pull"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for line in self.process.stdout:
            if line.split()[:1] == ["REST"]:
                address = line.split()[1].removeprefix("http://")
                break
        else:
            raise SystemExit(f"{program} stopped before it named its address")
        self.connection = http.client.HTTPConnection(address)
        space = {"model": "mine", "modality": "face", "dimension": DIMENSION, "external": True}
        self.post("/v1/collections?collectionId=bench", {"spaces": [space]})
        draws = random.Random(7)
        for person in range(PEOPLE):
            self.enroll(f"person-{person}", draws)

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)

    def enroll(self, name, draws):
        self.post(f"/v1/collections/bench/identities/{name}:enroll", {"samples": [sample(draws)]})

    def cpu_ms(self):
        """Of all threads. `stat` counts in hundredths of a second, which is too coarse for a turn."""
        total = 0
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e6

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.home.cleanup()


def turn(server, kind, number):
    """CPU milliseconds per request."""
    draws = random.Random(number)
    search = {"samples": [sample(draws)], "topK": 5}
    began = server.cpu_ms()
    for request in range(TURN_REQUESTS):
        if kind == "search":
            server.post("/v1/collections/bench/identities:search", search)
        else:
            server.enroll(f"{kind}-{number}-{request}", draws)
    return (server.cpu_ms() - began) / TURN_REQUESTS


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", default="target/release/semblance")
    arguments.add_argument("--rounds", type=int, default=25)
    arguments = arguments.parse_args()
    servers = [Server(arguments.program, log_filter) for log_filter in FILTERS]
    print(f"{'request':8} {'SEMBLANCE_LOG':22} {'CPU ms':>8} {'of off':>8} {'lower':>8} {'upper':>8}", flush=True)
    for kind in ["search", "enroll"]:
        spent = [[] for _ in servers]
        for number in range(arguments.rounds):
            for server, turns in zip(servers, spent):
                turns.append(turn(server, kind, number))
        for log_filter, turns in zip(FILTERS, spent):
            ratios = [ms / off for ms, off in zip(turns, spent[0])]
            low, _, high = statistics.quantiles(ratios, n=4)
            median, ratio = statistics.median(turns), statistics.median(ratios)
            print(f"{kind:8} {log_filter:22} {median:8.3f} {ratio:8.2f} {low:8.2f} {high:8.2f}", flush=True)
    for server in servers:
        server.stop()


if __name__ == "__main__":
    main()
