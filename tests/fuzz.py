"""Random problems on every backend, held to an independent oracle: ``python tests/fuzz.py --minutes 60 --seed 0``.

Cases run in child processes, so that a crash or a hang is a finding like any other. ``--case SEED`` runs one case here.
Exit code 1 when something was found.
"""

from __future__ import annotations

import argparse
import collections
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

BACKENDS = ("cpp", "numba", "reference", "torch")
BATCH = 50
PATIENCE = 900.0  # seconds without a word from a child


def single(seed, names, small):
    """One case in this process, as (case, Report), on one engine of each backend; reference where it is fast enough."""
    import engines
    import fuzz_cases
    import fuzz_kinds

    case = fuzz_cases.Case.draw(seed, fuzz_kinds.SHARES, small=small)
    chosen = [
        some[seed % len(some)]
        for name in names
        if (some := [engine for engine in engines.ENGINES if engine.backend == name])
        and (name != "reference" or case.n <= 30_000)
    ]
    return case, fuzz_kinds.run(case, chosen)


def child(seeds, names, small):
    """A line of JSON before and after each case."""
    for seed in seeds:
        print(json.dumps({"start": seed}), flush=True)
        case, report = single(seed, names, small)
        print(json.dumps({"seed": seed, "kind": case.kind, "case": str(case), "found": report.found,
                          "refused": report.refused}), flush=True)  # fmt: skip


def sort(sentence):
    """A finding without its numbers, nor the engine and the call where an error says where it comes from."""
    sentence = sentence.partition(": ")[2].partition(", allowed")[0]
    if sentence.endswith(")") and "(line " in sentence:
        sentence = sentence.partition(": ")[2]
    return re.sub(r"[-+]?\d[\d.e+-]*|\bnan\b|\binf\b", "#", sentence)


def _ends(text, most=1500):
    """What an error starts with, as a sanitizer says it, and what it ends with, as Python does."""
    return text if len(text) <= 2 * most else f"{text[:most]}\n...\n{text[-most:]}"


def _forward(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put(None)


def batch(seeds, options):
    """Yield what a child says of each seed; a crash or a hang ends the child and is said of the seed it was at."""
    command = [sys.executable, __file__, "--child", f"{seeds[0]}:{seeds[-1] + 1}", "--backends", *options.backends]
    command += ["--small"] * options.small
    with tempfile.TemporaryFile("w+") as errors:
        at, reason = seeds[0], None
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            lines: queue.Queue = queue.Queue()
            threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
            try:
                while (line := lines.get(timeout=PATIENCE)) is not None:
                    said = json.loads(line)
                    at = said.get("start", at)
                    if "seed" in said:
                        yield said
                        at = said["seed"] + 1
            except queue.Empty:
                process.kill()
                reason = f"no answer in {PATIENCE:g} s"
        if reason or process.returncode:
            errors.seek(0)
            yield {"seed": min(at, seeds[-1]), "kind": "crash", "case": _ends(errors.read()), "refused": {},
                   "found": ["all: " + (reason or f"the process ended with code {process.returncode}")]}  # fmt: skip


def fuzz(options):
    """Batches until the time is over; prints findings as they come and a summary, and returns their number."""
    end = time.monotonic() + 60 * options.minutes
    cases, refused, found = (collections.Counter() for _ in range(3))
    example = {}
    seed = options.seed
    while time.monotonic() < end:
        last = seed + BATCH
        for said in batch(range(seed, last), options):
            cases[said["kind"]] += 1
            refused.update(said["refused"])
            for sentence in said["found"]:
                name = sort(sentence)
                found[name] += 1
                example.setdefault(name, []).append(said["seed"])
                if found[name] <= options.show:
                    print(f"\ncase {said['seed']} ({said['kind']}): {sentence}\n  {said['case']}", flush=True)
            seed = said["seed"] + 1  # after a crash: with the next case
    print(f"\n{sum(cases.values())} cases to seed {seed}:", ", ".join(f"{n} {kind}" for kind, n in cases.most_common()))
    print("\nRefusals seen (numbers as #):")
    for message, n in sorted(refused.items()):
        print(f"  {n:6d}  {message}")
    print(f"\n{found.total()} findings of {len(found)} sorts:")
    for name, n in found.most_common():
        print(f"  {n:6d}  {name}  (seeds {', '.join(map(str, example[name][:5]))})")
    return found.total()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="the first case; the others follow")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--case", type=int, help="run this case alone, in this process")
    parser.add_argument("--small", action="store_true", help="small cases only (they are other cases)")
    parser.add_argument("--show", type=int, default=3, help="examples printed of each sort of finding")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(range(*map(int, options.child.split(":"))), options.backends, options.small)
        return 0
    if options.case is None:
        return int(fuzz(options) > 0)
    case, report = single(options.case, options.backends, options.small)
    print(f"case {options.case} ({case.kind}): {case}", *report.found, sep="\n  ")
    for message in report.refused:
        print(f"  refused: {message}")
    return int(bool(report.found))


if __name__ == "__main__":
    sys.exit(main())
