"""What explanations cost: ours through the public API, those of captum, pytorch-grad-cam and zennit, in one process.

    python -m venv build/bench/venv && . build/bench/venv/bin/activate
    pip install torch==2.13.0 onnx==1.23.2 onnx-ir==1.1.0 onnxscript==0.7.2 onnxruntime==1.31.1    # torch's CPU build
    pip install numpy scipy scikit-learn opencv-python-headless pillow matplotlib threadpoolctl tqdm
    pip install --no-deps captum==0.9.0 grad-cam==1.5.7 zennit==0.5.1 ttach
    python scripts/bench.py --write docs/benchmarks.md                # all, on one thread; an hour and a half
    python scripts/bench.py --threads 2 --write docs/benchmarks.md
    python scripts/bench.py --networks resnet18 --methods saliency --quick   # prints only
    python scripts/bench.py --alone --networks resnet18               # ours only; needs no torch if models are there
    python scripts/bench.py --profile resnet18 saliency               # where its time goes, node by node
    python scripts/bench.py --methods --write docs/benchmarks.md      # measures nothing, writes what is kept

The networks of bench_networks.py and one photo. After two warm-ups come rounds, in each of which everybody explains
that photo, in an order that is drawn; forward passes on plain onnxruntime stand before each. A turn is one call off the
clock, since caches hold what others left, and the median of three; of calls above a second it is one. Ratios are those
of a round; the table has their median and quartiles. With more than one thread, a turn waits until the threads of the
other library have stopped waiting in a loop. Memory is that of a process of its own. On a machine that does other work
at the same time nothing of this is to be trusted: the table says how much it did.

What was measured is kept in build/bench, and --write takes the latest of each network and method. The package is the
one of this checkout, or of PYTHONPATH.

On a card (--device cuda; onnxruntime-gpu and torch's CUDA build instead of those above): TF32 is off for everybody. The
photo of the others lies on the card already; ours comes from NumPy each time, as it does for a user. Every turn ends
with an answer on the host, and begins when the card has nothing left to do. Memory is that of the card, which should do
nothing else. The profiler shows when kernels are launched, not how long they run. None of this has been run yet.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # behind PYTHONPATH, where another checkout may stand

import bench_tables  # noqa: E402
import tables  # noqa: E402
from bench_tables import ALL, BATCH, LIBRARIES, STEPS, STRIDE, WINDOW  # noqa: E402

import onnx_inspect as oi  # noqa: E402
from onnx_inspect.providers import CUDA  # noqa: E402

FOLDER = ROOT / "build" / "bench"
METHODS: dict[str, dict[str, Any]] = {
    "gradcam": {},
    "saliency": {},
    "integrated_gradients": dict(steps=STEPS),
    "lrp": dict(composite="epsilon_plus_flat"),
    "occlusion": dict(window=WINDOW, stride=STRIDE, baseline="0"),
}
ROUNDS = {"gradcam": 11, "saliency": 11, "lrp": 7, "integrated_gradients": 5, "occlusion": 5}
PAUSE, LONG = 0.02, 1.0  # seconds
Calls = Mapping[str, Callable[[], Any]]


# What is timed.


def photo() -> NDArray[np.float32]:
    """Coarse shapes and a little noise, as large as photos are once they are normalised."""
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((1, 3, 7, 7)).repeat(32, 2).repeat(32, 3)
    return (shapes + rng.normal(0, 0.2, shapes.shape)).astype(np.float32)


def exported(network: str) -> Path:
    path = FOLDER / f"{network}.onnx"
    if not path.exists():
        import bench_networks

        bench_networks.export(network)
    return path


def session(network: str, device: str, threads: int) -> ort.InferenceSession:
    """The network on plain onnxruntime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    wanted: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        oi.Engine(device)  # finds the libraries of CUDA, or says that they are not there
        wanted.insert(0, (CUDA, {"use_tf32": 0}))
    found = ort.InferenceSession(exported(network), options, providers=wanted, enable_fallback=0)
    if device == "cuda" and found.get_providers()[0] != CUDA:
        raise SystemExit("Plain onnxruntime does not run on the card, though ours does.")
    return found


def ours(network: str, method: str, engine: oi.Engine) -> Callable[[], oi.Attribution]:
    model, x = oi.load(exported(network)), photo()
    return lambda: getattr(oi, method)(model, x, engine=engine, **METHODS[method])


def loop(forward: ort.InferenceSession, target: int) -> NDArray[np.float32]:
    """Occlusion as one would write it down: every covered photo, all of the network, some at a time."""
    x = photo()
    starts = range(0, x.shape[-1] - WINDOW + 1, STRIDE)
    corners, scores = [(top, left) for top in starts for left in starts], []
    for first in range(0, len(corners), BATCH):
        some = corners[first : first + BATCH]
        covered = x.repeat(len(some), 0)
        for one, (top, left) in zip(covered, some, strict=True):
            one[:, top : top + WINDOW, left : left + WINDOW] = 0
        scores.append(forward.run(None, {"input": covered})[0][:, target])
    return np.concatenate(scores)


def contestants(network: str, method: str, device: str, threads: int, alone: bool) -> dict[str, Callable[[], Any]]:
    plain, engine, x = session(network, device, threads), oi.Engine(device, threads), photo()
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: plain.run(None, {"input": x}),
        "ours": ours(network, method, engine),
    }
    target = int(calls["forward"]()[0].argmax())
    if method == "integrated_gradients":
        calls["saliency"] = ours(network, "saliency", engine)
    if method == "occlusion":
        calls["loop"] = partial(loop, plain, target)
    return calls if alone else calls | theirs(network, method, device, threads, target)


def theirs(network: str, method: str, device: str, threads: int, target: int) -> Calls:
    import bench_networks
    import bench_peers
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    net = bench_networks.build(network).to(device)
    return bench_peers.peers(method, network, net, torch.from_numpy(photo()).to(device), target)


# Measuring.


def race(calls: Calls, rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds by round; of the forward passes of a round the median."""
    rng = np.random.default_rng(0)
    others = [name for name in calls if name != "forward"]
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    warm = [{name: seconds_of(call) for name, call in calls.items()} for _ in range(2)]
    long = {name for name, took in warm[1].items() if took > LONG}
    for _ in range(rounds):
        forward = []
        for name in rng.permutation(others):
            for each, times in (("forward", forward), (name, seconds[name])):
                if threads > 1:
                    settle()
                times.append(turn(calls[each], long=each in long))
        seconds["forward"].append(float(np.median(forward)))
    return seconds


def turn(call: Callable[[], Any], long: bool) -> float:
    """The median of three calls, after one off the clock, since caches hold what others left; of a long one itself."""
    if long:
        return seconds_of(call)
    call()
    return float(np.median([seconds_of(call) for _ in range(3)]))


def seconds_of(call: Callable[[], Any]) -> float:
    """A call that ends with an answer on the host, from when a card has nothing left to do."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settle() -> None:
    """Until no thread of this process spins: those of onnxruntime do so for some 50 ms after a run."""
    spent = PAUSE
    while spent > 0.05 * PAUSE:
        before = time.process_time()
        time.sleep(PAUSE)
        spent = time.process_time() - before


def agreement(calls: Calls) -> dict[str, float]:
    """The correlation of everybody's answer with ours, resized where theirs is larger."""
    from onnx_inspect import image

    own, found = calls["ours"](), {}
    for name in calls.keys() - {"forward", "ours", "saliency", "loop"}:
        answer = calls[name]()
        same = own.values if own.values.shape == answer.shape else image.resize(own.heat[0], answer.shape[-2:])[None]
        found[name] = float(np.corrcoef(answer.ravel(), same.ravel())[0, 1])
    return found


def status(key: str) -> float:
    """Memory of this process, in MiB: VmRSS, now, or VmHWM, at the most."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1024


def taken() -> float:
    """Memory of the card that is taken, in MiB, by whomever."""
    cuda, context = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"), ctypes.c_void_p()
    free, total, card = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_int()
    steps = [
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(card), 0),
        lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), card),
        lambda: cuda.cuCtxPushCurrent_v2(context),
        lambda: cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
        lambda: cuda.cuCtxPopCurrent_v2(ctypes.byref(context)),
        lambda: cuda.cuDevicePrimaryCtxRelease_v2(card),
    ]
    if any(step() for step in steps):
        raise SystemExit("The card does not say how much of its memory is free.")
    return (total.value - free.value) / 2**20


def peak(network: str, method: str, library: str, device: str, threads: int) -> float:
    """What loading a network and explaining a photo, twice, takes of this process, above what its imports take.

    On a card: what it takes there, above what its libraries do. The arenas of onnxruntime and torch's cache give
    nothing back between two calls, so what is taken at the end is the most that was.
    """
    now = partial(status, "VmRSS") if device == "cpu" else taken
    if library == "ours":
        engine, small = oi.Engine(device, threads), oi.load(ROOT / "models" / "signs" / "clean.onnx")
        getattr(oi, method)(small, photo()[:, :, :96, :96], engine=engine, **METHODS[method])
        if device == "cpu":  # a card's libraries stay as long as there is a session
            del small, engine
        before = now()
        call: Callable[[], Any] = ours(network, method, oi.Engine(device, threads))
    else:
        import bench_peers
        import torch

        if device != "cpu":
            bench_peers.array(torch.nn.Conv2d(1, 1, 1).to(device)(torch.zeros(1, 1, 1, 1, device=device)))
        before = now()
        call = theirs(network, method, device, threads, 0)[library]
    call()
    call()
    return (status("VmHWM") if device == "cpu" else taken()) - before


def peaks(network: str, method: str, libraries: Sequence[str], device: str, threads: int) -> dict[str, float]:
    found = {}
    for library in libraries:
        command = [sys.executable, __file__, "--peak", network, method, library, "--threads", str(threads)]
        command += ["--device", device]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        found[library] = float(done.stdout.splitlines()[-1])
    return found


def commit() -> str:
    """The state of the checkout, with + where files of the package are changed."""
    found = []
    for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "."]):
        home = Path(oi.__file__).parent
        done = subprocess.run(["git", *words], cwd=home, capture_output=True, text=True, check=False)
        found.append(done.stdout.strip())
    return (found[0] or "a copy") + "+" * bool(found[1])


def measure(network: str, method: str, args: argparse.Namespace) -> dict[str, Any]:
    calls = contestants(network, method, args.device, args.threads, args.alone)
    rounds = args.rounds or (ROUNDS[method] // 2 + 1 if args.quick else ROUNDS[method])
    entry = {"seconds": race(calls, rounds, args.threads), "agreement": agreement(calls), "memory": {}}
    if not args.quick:
        libraries = [name for name in calls if name in ("ours", *LIBRARIES[method])]
        calls = {}  # which hold memory of the card
        entry["memory"] = peaks(network, method, libraries, args.device, args.threads)
    return entry | {"date": str(date.today()), "commit": commit(), "rounds": rounds, "load": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ALL, default=ALL, metavar="NAME")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0, help="instead of 5 to 11, by method")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="few rounds, no memory")
    parser.add_argument("--alone", action="store_true", help="without the others")
    parser.add_argument("--profile", nargs=2, metavar=("NETWORK", "METHOD"), help="where the time of ours goes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    threadpool_limits(args.threads)  # of NumPy's products
    if args.peak:
        return print(peak(*args.peak, args.device, args.threads))
    if args.profile:
        import bench_profile

        return print(bench_profile.profile(*args.profile, args.device, args.threads))

    store = FOLDER / f"found-{args.device}-{args.threads}.json"
    kept = json.loads(store.read_text()) if store.exists() else {}
    for network in args.networks:
        for method in args.methods:
            entry = measure(network, method, args)
            print(
                f"\n{method}\n{bench_tables.table(method, {network: entry}, args.device)}\n{entry['agreement']}",
                flush=True,
            )
            if not (args.quick or args.alone):
                kept.setdefault(network, {})[method] = entry
                store.write_text(json.dumps(kept))
    if args.write:
        title = f"## On {args.device}, {args.threads} thread{'s' * (args.threads > 1)}"
        text = [
            title,
            tables.conditions(),
            f"Others: {bench_tables.versions()}.",
            bench_tables.NOTES,
            bench_tables.report(kept, args.device),
        ]
        if not args.write.exists():
            args.write.write_text("# Benchmarks\n", encoding="utf-8")
        tables.write(args.write, f"bench-{args.device}-{args.threads}", "\n\n".join(text))
    return None


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
