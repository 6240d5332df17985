"""The server's networks beside ONNX Runtime: the same weights, the same inputs, one thread each, in turns.

`make bench-onnx` prepares everything and runs this. It first proves that both compute the same, then lets them take
turns at the same batches on the same core. Time is the processor's, not the wall's, so that neighbours do not count.
"""

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import networks
import numpy as np
import onnxruntime
from graph import Weights

COSINE_MIN = 0.9999
#: How far samples' answers must lie apart, as a part of the largest number: ReLU leaves made-up networks alike ones.
SPREAD_MIN = 1e-4
ROUNDS = 9
#: One turn runs so often that it takes about this long.
TURN_SECONDS = 0.4
PEAK_SIDE = 1024

#: What is compared: a package by its name, or weights that are made up where the house has none to ship.
SUBJECTS = [
    ("mobilefacenet-112x96", "face-mobilefacenet"),
    ("osnet-x0.25", "person-osnet-x0-25"),
    ("osnet-x1.0", None),
    ("gaitgraph-resgcn-n39-r8", "gait-graph"),
]


class Ours:
    """The half in Rust, as a process that follows orders."""

    def __init__(self, program):
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self._process.stdout.readline().split()
        if not answer or answer[0] != "ready":
            sys.exit("our half did not start")
        # Linux gives the processor time of any process as a clock: https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html
        self._clock = (~int(answer[1]) << 3) | 2

    def order(self, *words):
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "done":
            sys.exit(f"our half failed at: {' '.join(map(str, words))}")

    def seconds(self, *words):
        began = time.clock_gettime(self._clock)
        self.order(*words)
        return time.clock_gettime(self._clock) - began

    def close(self):
        self._process.stdin.close()
        self._process.wait()


class Theirs:
    """ONNX Runtime at its best: every optimisation, one thread, the batch known beforehand."""

    def __init__(self, model, batch):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_free_dimension_override_by_name("batch", batch)
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)

    def run(self, values):
        return self._session.run(None, {"input": values})[0]

    def seconds(self, values, times):
        began = time.process_time()
        for _ in range(times):
            self.run(values)
        return time.process_time() - began


def inputs(shape, batch):
    """Samples that differ as pictures and walks do: smooth shapes with some noise upon them."""
    random = np.random.default_rng(batch)
    if shape[-1] == 3:  # frames, joints, (x, y, score)
        frames = np.arange(shape[0])[None, :, None]
        place, swing, pace, phase = (random.standard_normal((batch, 1, shape[1], 2)) for _ in range(4))
        walk = place + 0.3 * swing * np.sin(frames[..., None] * (0.2 + 0.05 * pace[:, :, :1]) + phase)
        score = random.uniform(0.3, 1.0, (batch, *shape[:2], 1))
        return np.concatenate([walk, score], axis=-1).astype(np.float32)
    channels, height, width = shape
    coarse = random.standard_normal((batch, channels, 8, 8))
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    noise = random.standard_normal((batch, *shape))
    return (coarse[:, :, rows][..., columns] + 0.3 * noise).astype(np.float32)


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def prove_equal(ours, theirs, values, files):
    """The lowest cosine between the two halves' answers to the same sample, after one run of each."""
    values.tofile(files / "input")
    ours.order("input", len(values), files / "input")
    ours.order("run", 1)
    ours.order("output", files / "output")
    expected = theirs.run(values)
    found = np.fromfile(files / "output", dtype=np.float32).reshape(expected.shape)
    lowest = cosine(found, expected).min()
    if not lowest >= COSINE_MIN:
        sys.exit(f"the two halves do not compute the same: cosine {lowest}")
    if len(values) > 1 and np.ptp(expected, axis=0).max() < SPREAD_MIN * np.abs(expected).max():
        sys.exit("the samples are all the same to this network, so that equal answers prove nothing")
    return lowest


def take_turns(ours, theirs, values, rounds):
    """Seconds a run: ours and theirs, round by round."""
    once = max(ours.seconds("run", 2) / 2, 1e-4)
    theirs.seconds(values, 2)
    times = max(1, round(TURN_SECONDS / once))
    return [(ours.seconds("run", times) / times, theirs.seconds(values, times) / times) for _ in range(rounds)]


def matrix_peak(ours):
    """Operations a second of a large matrix product, the best of some turns."""
    times = 8
    took = min(ours.seconds("multiply", PEAK_SIDE, times) for _ in range(5))
    return 2 * PEAK_SIDE**3 * times / took


def weights_of(package, architecture, arguments, files):
    """Where the weights are, and the weights. What is made up is kept where our half can read it."""
    if package is None:
        weights = Weights.invented()
        networks.build(architecture, weights)
        path = files / f"{architecture}.safetensors"
        weights.save(path)
        return path, Weights.read(path)
    path = arguments.models / package / "weights.safetensors"
    if not path.exists():
        sys.exit(f"{path} is missing; `make bench-onnx` installs it")
    return path, Weights.read(path)


def compare(ours, architecture, package, arguments, files):
    path, weights = weights_of(package, architecture, arguments, files)
    model, operations = networks.build(architecture, weights)
    ours.order("load", architecture, path)
    for batch in arguments.batches:
        theirs = Theirs(model, batch)
        values = inputs(networks.NETWORKS[architecture][0], batch)
        lowest = prove_equal(ours, theirs, values, files)
        rounds = take_turns(ours, theirs, values, arguments.rounds)
        peak = matrix_peak(ours)
        rates = [batch / statistics.median(took) for took in zip(*rounds)]
        ratio = statistics.median(theirs / ours for ours, theirs in rounds)
        spread = sorted(theirs / ours for ours, theirs in rounds)
        shares = [rate * operations / peak for rate in rates]
        yield [
            architecture + ("" if package else " (made up)"), str(batch), f"{rates[0]:.1f}", f"{rates[1]:.1f}", f"{ratio:.2f}",
            f"{spread[0]:.2f}-{spread[-1]:.2f}", *(f"{share:.2f}" for share in shares), f"{1 - lowest:.0e}",
        ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, help="the program of our half, with its arguments", type=str)
    parser.add_argument("--models", required=True, type=Path, help="the folder with the installed packages")
    parser.add_argument("--only", default="", help="a part of an architecture's name")
    parser.add_argument("--batches", default="1,8,16", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--rounds", default=ROUNDS, type=int)
    arguments = parser.parse_args()

    # One core for both, the last one that this process may use.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ours = Ours(arguments.ours.split())
    heading = ["network", "batch", "ours/s", "ORT/s", "ours/ORT", "range", "ours of peak", "ORT of peak", "1-cosine"]
    rows = [heading]
    with tempfile.TemporaryDirectory() as files:
        for architecture, package in SUBJECTS:
            if arguments.only in architecture:
                for row in compare(ours, architecture, package, arguments, Path(files)):
                    print(" ".join(row), file=sys.stderr)
                    rows.append(row)
    ours.close()
    widths = [max(map(len, column)) for column in zip(*rows)]
    print(f"samples per second of one core, beside ONNX Runtime {importlib.metadata.version('onnxruntime')}; medians of {arguments.rounds} rounds")
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]))


if __name__ == "__main__":
    main()
