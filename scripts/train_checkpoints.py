"""Train the road-sign classifier of the demo once, and keep it at several times: what `onnx-inspect evolve` looks at.

    python scripts/train_checkpoints.py --out checkpoints
    onnx-inspect evolve checkpoints/*.onnx --photos models/signs/photos

The times are apart by a constant factor, since most happens early: untrained, then 4 steps, and so on to the last. The
environment is described in scripts/README.md.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
import train_demo as demo
from torch import nn

FIRST = 4  # steps before the second checkpoint
CALIBRATED = 16  # batches that normalisation is measured on


def times(steps: int, count: int) -> list[int]:
    """The steps after which the network is kept, `count` in all."""
    return [0, *np.geomspace(FIRST, steps, count - 1).round().astype(int).tolist()]


def calibrated(net: nn.Module, batches: list[torch.Tensor]) -> nn.Module:
    """A copy, with its batch normalisation measured afresh: running means lag behind while weights move fast."""
    copied = copy.deepcopy(net).train()
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for x in batches:
            copied(x)
    return copied.eval()


def train(recipe: demo.Recipe, count: int, folder: Path) -> None:
    torch.manual_seed(0)
    net = demo.SignNet().to(memory_format=torch.channels_last)
    scenes = demo.make_scenes(recipe.samples, 1, demo.TRAINING_BACKGROUNDS)
    steps = recipe.epochs * (recipe.samples // demo.BATCH)
    measured = [x for x, _ in itertools.islice(demo.batches(scenes, recipe), CALIBRATED)]
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, demo.PEAK_RATE, total_steps=steps)
    wanted = set(times(steps, count))
    net.train()
    for step, (x, y) in enumerate(itertools.chain([(None, None)], demo.batches(scenes, recipe))):
        if step:
            loss = nn.functional.cross_entropy(net(x), y, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        if step in wanted:
            demo.export(calibrated(net, measured), folder / f"step_{step:04d}.onnx")
            print(f"  step {step}/{steps}" + (f"  loss {loss.item():.3f}" if step else ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's classifier, and keep it at several times.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=8, help="checkpoints (default: 8)")
    parser.add_argument("--epochs", type=int, default=demo.CLEAN.epochs)
    parser.add_argument("--samples", type=int, default=demo.CLEAN.samples)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    train(replace(demo.CLEAN, epochs=args.epochs, samples=args.samples), args.count, args.out)


if __name__ == "__main__":
    main()
