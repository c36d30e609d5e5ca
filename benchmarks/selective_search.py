"""Time of selective search, interleaved with OpenCV's where a contrib build is installed (see opencv_agreement.py).

    PYTHONPATH=. peer/bin/python benchmarks/selective_search.py --rounds 5 [PHOTOGRAPH ...]
    PYTHONPATH=. python benchmarks/selective_search.py --scaling       # time and memory by size; no peer needed
    PYTHONPATH=. python benchmarks/selective_search.py --start         # import and first call; no peer needed

The photographs are those that come with scikit-image and the ones named. Every round runs every contestant once, in
turn; the figures are medians of the rounds. "2 processes" is what two processes, each with one thread and its own
search, gain over one: what the machine has to give. The last table says where the second thread's time goes.
"""

import argparse
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def photographs(named):
    from skimage import data

    coffee = Image.fromarray(data.coffee()).resize((500, 375), Image.Resampling.BOX)
    own = {
        "coffee": np.asarray(coffee),
        "astronaut": data.astronaut(),
        "chelsea": data.chelsea(),
        "rocket": data.rocket(),
    }
    return own | {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in map(Path, named)}


def timed(function, *args, clock=time.perf_counter, **keywords):
    started = clock()
    function(*args, **keywords)
    return clock() - started


def compare(images, presets, rounds, clock):
    import cv2

    from proposals.selective_search import selective_search

    cv2.setNumThreads(1)
    companion, ours = companion_process(images)
    try:
        from opencv_peer import composed
    except ImportError:
        composed = None
    if not hasattr(cv2, "ximgproc"):
        composed = None
    for preset in presets:
        scale = {"fast": 1, "googlenet": 2}[preset]
        columns = "1 thread | 2 threads | OpenCV | OpenCV / 1 | OpenCV / 2 | 2 threads gain | 2 processes gain"
        print(f"\n{preset}: milliseconds\n| photograph | size | {columns} |\n|---|---|---|---|---|---|---|---|---|")
        ratios = []
        for name, image in images.items():
            selective_search(image, preset)
            times = {1: [], 2: [], "peer": [], "processes": []}
            ours.send((name, preset))
            ours.recv()
            for _ in range(rounds):
                for threads in (1, 2):
                    times[threads].append(timed(selective_search, image, preset, threads=threads, clock=clock))
                times["processes"].append(timed(in_both, ours, image, name, preset))
                if composed is not None:
                    times["peer"].append(timed(composed, image, scale, clock=clock))
            one, two = (1000 * statistics.median(times[threads]) for threads in (1, 2))
            peer = 1000 * statistics.median(times["peer"]) if times["peer"] else float("nan")
            both = 1000 * statistics.median(times["processes"])
            ratios.append((peer / one, peer / two, one / two, 2 * one / both))
            size = f"{image.shape[1]}x{image.shape[0]}"
            print(
                f"| {name} | {size} | {one:.0f} | {two:.0f} | {peer:.0f} "
                + "".join(f"| {ratio:.2f} " for ratio in ratios[-1])
                + "|",
                flush=True,
            )
        print("medians: " + " | ".join(f"{statistics.median(column):.2f}" for column in zip(*ratios, strict=True)))
    ours.send(None)
    companion.join()


def companion_process(images):
    """A process that runs a search whenever it is told a photograph and a preset, and the connection to it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=accompany, args=(theirs, images), daemon=True)
    process.start()
    return process, ours


def accompany(connection, images):
    from proposals.selective_search import selective_search

    while (told := connection.recv()) is not None:
        name, preset = told
        selective_search(images[name], preset, threads=1)
        connection.send(True)


def in_both(connection, image, name, preset):
    from proposals.selective_search import selective_search

    connection.send((name, preset))
    selective_search(image, preset, threads=1)
    connection.recv()


def losses(images, rounds):
    """Where two threads lose time on `fast`, in milliseconds."""
    from proposals import search_steps
    from proposals.selective_search import selective_search

    plain = search_steps.run_tasks
    work = []

    def watched(task):
        def run():
            wall, processor = time.perf_counter(), time.thread_time()
            more = task()
            work.append((time.perf_counter() - wall, time.thread_time() - processor))
            return [watched(each) for each in more]

        return run

    spans = []
    search_steps.run_tasks = lambda tasks, threads: spans.append(timed(plain, [watched(t) for t in tasks], threads))
    print(
        "\nfast: milliseconds\n| photograph | 1 thread: in all | its tasks' processor time | 2 threads: in all | tasks'"
        " processor time | waiting for a core | a thread without a task | before and after the tasks |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, image in images.items():
        figures = {1: [], 2: []}
        for _ in range(rounds):
            for threads in (1, 2):
                work.clear()
                spans.clear()
                total = timed(selective_search, image, "fast", threads=threads)
                walls, processors = (sum(column) for column in zip(*work, strict=True))
                idle = threads * spans[0] - walls
                figures[threads].append((total, processors, walls - processors, idle, total - spans[0]))
        one, two = ([1000 * statistics.median(c) for c in zip(*figures[n], strict=True)] for n in (1, 2))
        print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in (*one[:2], *two)) + " |", flush=True)
    search_steps.run_tasks = plain


def scaling(largest):
    """Time and greatest memory beside the image, each size in a process of its own."""
    print(
        "| megapixels | processor seconds | microseconds a pixel | MB beside the image | bytes a pixel |\n"
        "|---|---|---|---|---|"
    )
    for megapixels in (0.1, 0.1875, 0.5, 1, 3, 6, 12, 24):
        if megapixels <= largest:
            subprocess.run([sys.executable, __file__, "--one-size", str(megapixels)], check=True)


def one_size(megapixels):
    from skimage import data

    from proposals.selective_search import selective_search

    photograph = Image.fromarray(data.coffee())
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    enlarged = photograph.resize((width, round(width * 0.75)), Image.Resampling.BICUBIC)
    rng = np.random.default_rng(0)
    # Enlarging alone gives a smooth image with few regions; grain of a camera's size makes it as rich as a photograph.
    grain = rng.normal(0, 6, (enlarged.height, enlarged.width, 1)).astype(np.float32)
    image = np.clip(np.asarray(enlarged) + grain, 0, 255).astype(np.uint8)
    del grain
    selective_search(image[:64, :64], threads=2)
    before = resident()
    reset_peak()
    times = [timed(selective_search, image, "fast", threads=2, clock=time.process_time)]
    used = peak() - before
    # Short times vary more.
    for _ in range(4 if megapixels <= 1 else 0):
        times.append(timed(selective_search, image, "fast", threads=2, clock=time.process_time))
    seconds = statistics.median(times)
    pixels = image.shape[0] * image.shape[1]
    print(
        f"| {pixels / 1e6:.2f} | {seconds:.2f} | {1e6 * seconds / pixels:.2f} "
        f"| {used / 1e6:.0f} | {used / pixels:.0f} |",
        flush=True,
    )


FIRST_CALL = """
import time
import numpy as np
image = np.zeros((64, 64, 3), np.uint8)
started = time.perf_counter()
from proposals import selective_search
selective_search(image)
first = time.perf_counter()
selective_search(image)
print(first - started - (time.perf_counter() - first))
"""


def start(rounds):
    """What importing the package and the first call take beyond a later call, each round in a fresh process."""
    runs = [subprocess.run([sys.executable, "-c", FIRST_CALL], check=True, capture_output=True) for _ in range(rounds)]
    seconds = [float(run.stdout) for run in runs]
    print(f"import and first call: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident():
    return status("VmRSS")


def peak():
    return status("VmHWM")


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", nargs="*")
    parser.add_argument("--presets", default="fast,googlenet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="processor time, for a machine that others use too")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--largest", type=float, default=24)
    parser.add_argument("--one-size", type=float)
    arguments = parser.parse_args()
    if arguments.one_size:
        one_size(arguments.one_size)
    elif arguments.scaling:
        scaling(arguments.largest)
    elif arguments.start:
        start(arguments.rounds)
    else:
        clock = time.process_time if arguments.cpu else time.perf_counter
        images = photographs(arguments.photographs)
        compare(images, arguments.presets.split(","), arguments.rounds, clock)
        losses(images, arguments.rounds)


if __name__ == "__main__":
    main()
