"""The gallery's graph beside hnswlib and faiss: the same vectors, the same M and efConstruction, one search at a time.

`make bench-graph` prepares everything and runs this. Ours is measured as it is served: through the gallery, with the
look at the originals, and with the widening and the scan behind it where a walk does not settle the answer.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import faiss
import hnswlib
import numpy as np

DIMENSION = 512
TEMPLATES_PER_IDENTITY = 4
PROBES = 1000
NEAREST = 10
#: Strangers' cosines scatter by a tenth, as faces' do: as if there were so many dimensions, with fading weight.
FADING = 55


class Faces:
    """Face-like vectors: identities far apart, the templates of one at a cosine of about .7."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        weights = np.exp(-np.arange(DIMENSION) / FADING / 2)
        turned, _ = np.linalg.qr(self._random.standard_normal((DIMENSION, DIMENSION)))
        self._weights = (weights[:, None] * turned).astype(np.float32)

    def directions(self, count):
        numbers = self._random.standard_normal((count, DIMENSION), dtype=np.float32) @ self._weights
        return numbers / np.linalg.norm(numbers, axis=1, keepdims=True)

    def near(self, centres):
        numbers = centres + 0.65 * self.directions(len(centres))
        return numbers / np.linalg.norm(numbers, axis=1, keepdims=True)

    def gallery(self, templates, files):
        """Writes rows in random order, probes of people who are enrolled, and the exact nearest rows of each."""
        centres = self.directions(templates // TEMPLATES_PER_IDENTITY)
        rows = np.empty((len(centres) * TEMPLATES_PER_IDENTITY, DIMENSION), np.float32)
        for number in range(TEMPLATES_PER_IDENTITY):
            rows[number::TEMPLATES_PER_IDENTITY] = self.near(centres)
        self._random.shuffle(rows)
        probes = self.near(centres[np.linspace(0, len(centres) - 1, PROBES).astype(int)])
        exact = faiss.IndexFlatIP(DIMENSION)
        exact.add(rows)
        nearest = exact.search(probes, NEAREST)[1]
        rows.tofile(files / "rows")
        probes.tofile(files / "probes")
        nearest.astype(np.uint32).tofile(files / "nearest")
        return rows, probes, nearest


class Ours:
    """The half in Rust, as a process that follows orders."""

    def __init__(self, program, kind, files, arguments):
        words = [files, kind, 2, arguments.links, arguments.build_width, arguments.threads]
        self.name = f"ours, {kind}"
        self._process = subprocess.Popen([*program.split(), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self._process.stdout.readline().split()
        if not answer:
            sys.exit("our half did not start")
        self.build_seconds = float(answer[0])
        self.bytes = int(answer[1]) + int(answer[2])

    def measure(self, width):
        self._process.stdin.write(f"{width}\n")
        self._process.stdin.flush()
        return [float(word) for word in self._process.stdout.readline().split()]


class Theirs:
    def __init__(self, probes, nearest):
        self._probes, self._nearest = probes, nearest

    def measure(self, width):
        self.weigh(width)
        first, found, took = 0, 0, []
        for number, probe in enumerate(self._probes):
            began = time.perf_counter()
            rows = self.search(probe[None])
            took.append((time.perf_counter() - began) * 1e6)
            first += rows[0] == self._nearest[number][0]
            found += len(np.intersect1d(rows, self._nearest[number]))
        count = len(self._probes)
        return [first / count, found / count / NEAREST, *np.percentile(took, [50, 99])]


class Hnswlib(Theirs):
    name = "hnswlib, f32"

    def __init__(self, rows, probes, nearest, arguments):
        super().__init__(probes, nearest)
        self._index = hnswlib.Index("ip", DIMENSION)
        self._index.init_index(len(rows), M=arguments.links, ef_construction=arguments.build_width)
        self._index.set_num_threads(arguments.threads)
        began = time.process_time()
        self._index.add_items(rows)
        self.build_seconds = time.process_time() - began
        self._index.set_num_threads(1)
        self.bytes = self._index.index_file_size()

    def weigh(self, width):
        self._index.set_ef(width)

    def search(self, probe):
        return self._index.knn_query(probe, k=NEAREST)[0][0]


class Faiss(Theirs):
    name = "faiss, f32"

    def __init__(self, rows, probes, nearest, arguments):
        super().__init__(probes, nearest)
        self._index = faiss.IndexHNSWFlat(DIMENSION, arguments.links, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = arguments.build_width
        faiss.omp_set_num_threads(arguments.threads)
        began = time.process_time()
        self._index.add(rows)
        self.build_seconds = time.process_time() - began
        faiss.omp_set_num_threads(1)
        self.bytes = len(faiss.serialize_index(self._index))

    def weigh(self, width):
        self._index.hnsw.efSearch = width

    def search(self, probe):
        return self._index.search(probe, NEAREST)[1][0]


def at_recall(measured, recall):
    """Microseconds of a search at a recall of the ten nearest, between the widths that were measured."""
    found = [row[1] for row in measured]
    took = [row[2] for row in measured]
    return float(np.interp(recall, found, took)) if found[0] <= recall <= found[-1] else float("nan")


def table(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]))


def main():
    numbers = lambda text: [int(word) for word in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, help="the program of our half")
    parser.add_argument("--templates", default=100_000, type=int)
    parser.add_argument("--links", default=16, type=int, help="M")
    parser.add_argument("--build-width", default=200, type=int, help="efConstruction")
    parser.add_argument("--threads", default=1, type=int, help="threads that build; searches have one")
    parser.add_argument("--widths", default="16,32,64,128,256,512", type=numbers, help="ef")
    parser.add_argument("--only", default="", help="some of compact,hnsw-rs,hnswlib,faiss")
    arguments = parser.parse_args()

    wanted = arguments.only.split(",") if arguments.only else ["compact", "hnsw-rs", "hnswlib", "faiss"]
    subjects = []
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        rows, probes, nearest = Faces(7).gallery(arguments.templates, files)
        for kind in wanted:
            match kind:
                case "hnswlib":
                    subjects.append(Hnswlib(rows, probes, nearest, arguments))
                case "faiss":
                    subjects.append(Faiss(rows, probes, nearest, arguments))
                case _:
                    subjects.append(Ours(arguments.ours, kind, files, arguments))
            print(f"{subjects[-1].name} built in {subjects[-1].build_seconds:.0f} CPU seconds", file=sys.stderr)
        # In turns, so that what else the machine does falls on all.
        measured = {subject.name: [] for subject in subjects}
        for width in arguments.widths:
            for subject in subjects:
                measured[subject.name].append(subject.measure(width))

    print(f"{len(rows)} templates, {DIMENSION} numbers, M {arguments.links}, efConstruction {arguments.build_width}, "
          f"{arguments.threads} of {os.cpu_count()} cores build, one searches; hnswlib {version('hnswlib')}, faiss {version('faiss-cpu')}")  # fmt: skip
    lines = [["graph", "build CPU s", "bytes a template", "ef", "r@1", "r@10", "p50 us", "p99 us"]]
    for subject in subjects:
        for width, (first, found, half, most) in zip(arguments.widths, measured[subject.name]):
            size = f"{subject.bytes / len(rows):.0f}"
            lines.append([subject.name, f"{subject.build_seconds:.0f}", size, str(width), f"{first:.3f}", f"{found:.3f}", f"{half:.0f}", f"{most:.0f}"])
    table(lines)
    print("\nmicroseconds of half of the searches at equal recall of the ten nearest, and how many times as long as ours")
    lines = [["graph", *(f"r@10 {recall}" for recall in (0.90, 0.95, 0.98, 0.99))]]
    base = measured[subjects[0].name]
    for subject in subjects:
        cells = []
        for recall in (0.90, 0.95, 0.98, 0.99):
            took = at_recall(measured[subject.name], recall)
            cells.append(f"{took:.0f} ({took / at_recall(base, recall):.2f})")
        lines.append([subject.name, *cells])
    table(lines)


if __name__ == "__main__":
    main()
