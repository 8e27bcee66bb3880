#!/usr/bin/env python3
"""What a training step costs as one thing changes: the tables of ARCHITECTURE.md.

Times `smallvit bench` at each point beside its floor: the time of its products alone, at the speed
that products in cache reach in the same process. Standard library only.

    cargo build --release && benches/costs.py [--threads N]
"""

import argparse
import json
import subprocess
import sys

# The encoder of the Keras example's SL-ViT (72 pixels in patches of 6: 144 tokens of 64, 8 blocks, 4
# heads of 64), and a small classifier, which would else grow with the tokens.
BASE = {"batch": 64, "image_size": 72, "dim": 64, "mlp_width": 128, "depth": 8, "heads": 4, "key_dim": 64}
FIXED = ["model.pool=mean", "model.head=[]"]

# What changes, its name, and its values; the base's is among them.
LINES = [
    ("images a step", "batch", [{"batch": n} for n in (1, 4, 16, 64, 256, 1024)]),
    ("tokens", "image_size", [{"image_size": 6 * n} for n in (4, 8, 12, 16, 20)]),
    ("width", "dim", [{"dim": n, "mlp_width": 2 * n} for n in (32, 64, 128, 192, 256)]),
    ("blocks", "depth", [{"depth": n} for n in (2, 4, 8, 16)]),
    ("heads, of 256 in all", "heads", [{"heads": n, "key_dim": 256 // n} for n in (1, 2, 4, 8, 16)]),
]


def measure(options, threads, change):
    """A point's times and floor."""
    point = {**BASE, **change}
    batch = point.pop("batch")
    steps = {1: 100, 4: 40, 16: 12, 1024: 2}.get(batch, 4)
    command = [options.smallvit, "bench", "--json", "--whole", "--recipe", "keras-2022", "--model", "sl-vit",
               "--batch", batch, "--steps", steps, "--threads", threads, "--precision", options.precision]
    for setting in FIXED + [f"model.{field}={value}" for field, value in point.items()]:
        command += ["--set", setting]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stderr)
    return json.loads(result.stdout)


def seconds(time):
    return f"{time:.3g} s" if time >= 1 else f"{1e3 * time:.3g} ms"


def table(name, rows):
    print(f"\n| {name} | a step | its floor | share | an image | peak memory |\n|---|---|---|---|---|---|")
    for value, found in rows:
        time, share = found["seconds_per_step"], found["share_of_ceiling"]
        print(f"| {value:,} | {seconds(time)} | {seconds(time * share)} | {100 * share:.0f} % "
              f"| {seconds(time / found['batch'])} | {found['peak_rss_bytes'] / 1e6:.0f} MB |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallvit", default="target/release/smallvit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="f32")
    options = parser.parse_args()
    for name, field, changes in LINES:
        rows = []
        for change in changes:
            value = (change[field] // 6) ** 2 if field == "image_size" else change[field]
            rows.append((value, measure(options, options.threads, change)))
        table(name, rows)
    counts = sorted({1, 2, options.threads} | {n for n in (4, 8, 16, 32) if n < options.threads})
    table("threads", [(n, measure(options, n, {})) for n in counts if n <= options.threads])


main()
