"""Times `smallvit bench` and its peers in alternation, and prints medians and ratios.

Standard library only. `run` installs the peers and calls this.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def measure(command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if result.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def has_bfloat16():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smallvit", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--only", default="", help="cases that begin so: training, inference")
    options = parser.parse_args()

    # What, model, batch, steps, options of all programs, options of smallvit.
    cases = [
        ("training", model, 256, 5, [], []) for model in ("sl-vit", "vit")
    ] + [
        ("inference", "sl-vit", batch, steps, ["--inference"], [])
        for batch, steps in ((256, 5), (1, 50))
    ]
    if has_bfloat16():
        cases.insert(2, ("training, smallvit in bf16", "sl-vit", 256, 5, [], ["--precision", "bf16"]))
    else:
        print("This processor has no instruction for bfloat16: --precision bf16 is left out.\n")
    print("| | model | batch | program | s/step | of the peer's | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for what, model, batch, steps, extra, own in cases:
        if not what.startswith(options.only):
            continue
        common = ["--model", model, "--batch", str(batch), "--steps", str(steps),
                  "--threads", options.threads, *extra]
        programs = {
            "smallvit": [options.smallvit, "bench", "--json", "--whole", *common, *own],
            "PyTorch": [options.python, HERE / "torch_step.py", *common],
            "Keras": [options.python, HERE / "keras_step.py", *common],
        }
        rounds = [{name: measure(command) for name, command in programs.items()}
                  for _ in range(options.rounds)]
        for name in programs:
            seconds = [r[name]["seconds_per_step"] for r in rounds]
            ratios = [r["smallvit"]["seconds_per_step"] / r[name]["seconds_per_step"]
                      for r in rounds]
            memory = max(r[name]["peak_rss_bytes"] for r in rounds) / 1e9
            program = rounds[0][name].get("program", name)
            print(f"| {what} | {model} | {batch} | {program} | {statistics.median(seconds):.4g} "
                  f"({min(seconds):.4g}–{max(seconds):.4g}) | {statistics.median(ratios):.2f} "
                  f"({min(ratios):.2f}–{max(ratios):.2f}) | {memory:.1f} GB |", flush=True)


main()
