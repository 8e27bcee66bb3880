"""Times `smallvit bench` beside its peers at their best, and prints medians and ratios.

For every case each peer runs once in every configuration that it has here: memory allocators
preloaded, compiled or not, by XLA or not. The fastest is *the* peer, and is timed again in
alternation with smallvit. Standard library only. `run` installs the peers and calls this.
"""

import argparse
import glob
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).parent

# What Debian calls them: libtcmalloc-minimal4, libjemalloc2.
ALLOCATORS = {"": "", "tcmalloc": "libtcmalloc_minimal.so.4", "jemalloc": "libjemalloc.so.2"}

# By what processors call it: smallvit's precisions, the fastest first.
BFLOAT16 = {"amx_bf16": "bf16-amx", "avx512_bf16": "bf16"}

# The paper's ViT for 32 pixels (arXiv 2112.13492): 64 patches and a class token.
PAPER = [
    "model.image_size=32", "model.patch_size=4", "model.dim=192", "model.depth=9",
    "model.heads=12", "model.key_dim=16", "model.mlp_width=384", "model.mlp_second_gelu=false",
    "model.qkv_bias=false", "model.temperature=head", "model.pool=class", "model.head=[]",
    "model.dropout=0", "model.head_dropout=0",
]
# 16 tokens of 64.
SMALL = [
    "model.image_size=32", "model.patch_size=8", "model.dim=64", "model.depth=4",
    "model.mlp_width=128",
]


@dataclass
class Case:
    """What is timed."""

    name: str
    batch: int
    model: str = "sl-vit"
    recipe: str = "keras-2022"
    settings: list = field(default_factory=list)
    inference: bool = False
    bf16: bool = False
    steps: int = 5
    keras: bool = False  # whether keras_step.py has this model

    @property
    def title(self):
        return f"{self.name}, {self.model}, batch {self.batch}"

    def smallvit(self, options):
        command = [options.smallvit, "bench", "--json", "--whole", "--recipe", self.recipe,
                   "--model", self.model, "--batch", self.batch, "--steps", self.steps,
                   "--threads", options.threads]
        for setting in self.settings:
            command += ["--set", setting]
        command += ["--inference"] * self.inference + ["--precision", bfloat16()] * self.bf16
        return command


CASES = [
    Case("training", 256, keras=True),
    Case("training", 256, model="vit", keras=True),
    Case("training, bf16", 256, bf16=True, keras=True),
    Case("training, the paper's", 128, settings=PAPER),
    Case("training, the paper's, bf16", 128, settings=PAPER, bf16=True),
    *[Case("training, the zoo's", 32, model=idea + family, steps=3)
      for family in ["t2t", "cait", "pit", "swin"] for idea in ["", "sl-"]],
    *[Case("inference, the zoo's", 64, model="sl-" + family, inference=True)
      for family in ["t2t", "cait", "pit", "swin"]],
    Case("training, quickstart", 64, recipe="quickstart", steps=30),
    Case("training, 16 tokens", 16, settings=SMALL, steps=100),
    Case("training, 16 tokens", 1, settings=SMALL, steps=200),
    Case("inference", 256, inference=True, keras=True),
    Case("inference", 1, inference=True, steps=50, keras=True),
]


def allocators():
    """Those that are installed, by name, with their files."""
    found = {}
    for name, file in ALLOCATORS.items():
        files = sorted(glob.glob(f"/usr/lib/*/{file}") + glob.glob(f"/usr/lib/{file}"))
        if not file or files:
            found[name] = files[0] if file else ""
        else:
            print(f"{file} is not here: the peers run without it.", flush=True)
    return found


def configurations(case, options, config, preloads):
    """Every way in which a peer can run: its name, and how, but for the number of steps."""
    common = ["--model", case.model, "--batch", case.batch,
              "--threads", options.threads] + ["--inference"] * case.inference
    for compiled, (name, file) in itertools.product([False, True], preloads.items()):
        for bf16 in sorted({False, case.bf16}):
            words = ["PyTorch", "bf16" * bf16, "compiled" * compiled, name]
            yield ", ".join(filter(None, words)), file, {}, [
                options.python, HERE / "torch_step.py", *common, "--config", json.dumps(config),
                *["--compile"] * compiled, *["--bf16"] * bf16,
            ]
    if not case.keras:
        return
    backends = [("tensorflow", False), ("tensorflow", True), ("jax", True)]
    for (backend, xla), (name, file) in itertools.product(backends, preloads.items()):
        words = ["Keras on " + backend, "bf16" * case.bf16, "XLA" * (xla and backend != "jax"), name]
        yield ", ".join(filter(None, words)), file, {"KERAS_BACKEND": backend}, [
            options.python, HERE / "keras_step.py", *common,
            *["--xla"] * xla, *["--bf16"] * case.bf16,
        ]


def measure(command, preload="", environment={}):
    """What a program prints at its end, or None where it fails."""
    environment = {**os.environ, **environment}
    if preload:
        environment["LD_PRELOAD"] = preload
    command = [str(part) for part in command]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["without a word"])[-1]
        print(f"failed: {' '.join(command[:3])} …: {last[:200]}", file=sys.stderr, flush=True)
        return None
    return json.loads(result.stdout.strip().splitlines()[-1])


def bfloat16():
    """smallvit's fastest precision for bfloat16 here, or None."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return next((name for flag, name in BFLOAT16.items() if flag in flags), None)


def spread(values, form=".4g"):
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}}–{max(values):{form}})"


def compare(case, options, preloads):
    own = measure(case.smallvit(options))
    if own is None:
        return None
    title = case.title
    print(f"\n### {title}\n\n| program | s/step, once | peak memory |\n|---|---|---|", flush=True)
    peers = []
    for name, preload, environment, command in configurations(case, options, own["config"], preloads):
        if options.peers not in name:
            continue
        # To be told from the others a few steps do.
        few = ["--steps", max(2, case.steps // 4)]
        found = measure(command + few, preload, environment)
        if found is None:
            continue
        if found["parameters"] != own["parameters"]:
            sys.exit(f"{name} has {found['parameters']} parameters, smallvit {own['parameters']}: not the same model")
        peers.append((found["seconds_per_step"], name, preload, environment, command))
        print(f"| {name} | {found['seconds_per_step']:.4g} | {found['peak_rss_bytes'] / 1e9:.1f} GB |",
              flush=True)
    if not peers:
        print(f"No peer ran: {title}.", file=sys.stderr)
        return None
    # By time alone: names differ.
    _, name, preload, environment, command = min(peers, key=lambda peer: peer[0])
    ours, theirs, shares = [], [], []
    peer = None
    for _ in range(options.rounds):
        own = measure(case.smallvit(options))
        again = measure(command + ["--steps", case.steps], preload, environment)
        if own is None or again is None:
            continue
        peer = again
        ours.append(own["seconds_per_step"])
        theirs.append(peer["seconds_per_step"])
        shares.append(own["share_of_ceiling"])
    if peer is None:
        print(f"No round ran: {title}.", file=sys.stderr)
        return None
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(f"\nThe best peer is {name} ({peer['program']}); in alternation, {options.rounds} rounds:\n")
    print(f"smallvit {spread(ours)} s, {100 * statistics.median(shares):.0f} % of the ceiling, "
          f"{own['peak_rss_bytes'] / 1e9:.1f} GB; the peer {spread(theirs)} s, "
          f"{peer['peak_rss_bytes'] / 1e9:.1f} GB.", flush=True)
    return [title, name, *map(spread, (ours, theirs)), spread(ratios, ".2f"),
            f"{100 * statistics.median(shares):.0f} %"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smallvit", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--only", default="", help="cases whose titles have this in them")
    parser.add_argument("--peers", default="", help="configurations whose names have this in them")
    options = parser.parse_args()
    # The programs that are begun from here inherit it; not all of them can be told otherwise.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:int(options.threads)]
        os.sched_setaffinity(0, cores)
    preloads = allocators()
    rows = []
    for case in CASES:
        if options.only not in case.title:
            continue
        if case.bf16 and not bfloat16():
            print(f"This processor has no instruction for bfloat16: {case.name} is left out.")
            continue
        rows.append(compare(case, options, preloads))
    rows = [row for row in rows if row is not None]
    if not rows:
        sys.exit("nothing could be compared")
    print("\n| case | the best peer | smallvit, s | the peer, s | ratio | of the ceiling |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


main()
