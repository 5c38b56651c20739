"""How many units of the zoo's networks can go, and how long it takes to find out, beside an earlier version's figures.

    python benchmarks/prunable.py [--only GLOB] [--slowest 10] [--write benchmarks/prunable.json]

A unit can go where it is made by a layer and nothing freezes it. What could go must still; the exit status is 1 where a
network has fewer such units than `prunable.json` says. Seconds are those of one thread and tell no more than a ratio.
"""

import argparse
import fnmatch
import json
import sys
import time
import warnings
from pathlib import Path

import torch

from ranp.graph.build import trace
from ranp.graph.graph import Graph

HERE = Path(__file__).parent
BEFORE = HERE / "prunable.json"


def prunable(graph: Graph) -> int:
    """Return how many units made by a layer may go."""
    made = {unit for layer in graph.layers for unit in layer.units[layer.units >= 0].tolist()}
    return sum(graph.reasons[unit] is None for unit in made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="glob of network names")
    parser.add_argument("--slowest", type=int, default=0, help="print only so many, the slowest first")
    parser.add_argument("--write", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parent / "tests" / "graph"))
    from graph_zoo import every  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before = json.loads(BEFORE.read_text()) if BEFORE.exists() else {}
    rows: dict[str, tuple[int, int, float]] = {}
    for name in sorted(fnmatch.filter(every(), options.only)):
        case = every()[name]
        torch.manual_seed(0)
        net, inputs = case.build().eval(), case.inputs()
        start = time.perf_counter()
        graph = trace(net, inputs)
        rows[name] = prunable(graph), graph.count, time.perf_counter() - start
    by_time = sorted(rows, key=lambda name: -rows[name][2])
    print(f"{'network':44} {'can go':>7} {'before':>7} {'of':>6} {'s':>7} {'before':>7}")
    for name in by_time[: options.slowest] if options.slowest else rows:
        can, count, seconds = rows[name]
        old = before.get(name, {})
        print(f"{name:44} {can:7} {old.get('prunable', '-'):>7} {count:6} {seconds:7.2f} {old.get('seconds', '-'):>7}")
    total = sum(seconds for _, _, seconds in rows.values())
    fewer = [name for name in rows if rows[name][0] < before.get(name, {}).get("prunable", 0)]
    more = [name for name in rows if rows[name][0] > before.get(name, {}).get("prunable", rows[name][0])]
    print(f"{len(rows)} networks, {total:.1f} s; more can go in: {', '.join(more) or 'none'}; fewer: {fewer or 'none'}")
    if options.write:
        kept = {n: {"prunable": can, "units": count, "seconds": round(s, 2)} for n, (can, count, s) in rows.items()}
        options.write.write_text(json.dumps(kept, indent=1) + "\n")
    return bool(fewer)


if __name__ == "__main__":
    sys.exit(main())
