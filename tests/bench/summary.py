#!/usr/bin/env python3
"""Gathers the reports of tests/bench/run: `keep` makes one line of one report, `table` the medians of all lines."""

import json
import statistics
import sys

CELLS = ["bare", "off", "stored", "end-to-end"]


def keep(round_number, cell, operation, depth):
    """Reduces a report on standard input to the figures that are compared."""
    report = json.load(sys.stdin)
    bare = cell == "bare"
    latency = report["latency_us"] if bare else report["total"]["latency_us"]
    line = {
        "round": int(round_number),
        "cell": cell,
        "operation": operation,
        "depth": int(depth),
        "iops": report["iops"] if bare else report["total"]["iops"],
        "mean_us": latency["mean"],
        "p50_us": latency["p50"],
        "p99_us": latency["p99"],
        "server_cpu_us": report["server_cpu_us_per_io" if bare else "target_cpu_us_per_io"],
        "load_cpu_us": report["client_cpu_us_per_io" if bare else "own_cpu_us_per_io"],
    }
    print(json.dumps(line))


def medians(lines):
    """One row for each operation, depth and cell."""
    rows = []
    for operation in ["read", "write"]:
        for depth in sorted({line["depth"] for line in lines}):
            same = [line for line in lines if (line["operation"], line["depth"]) == (operation, depth)]
            bare = {line["round"]: line["iops"] for line in same if line["cell"] == "bare"}
            for cell in CELLS:
                runs = [line for line in same if line["cell"] == cell]
                if not runs:
                    continue
                row = {"operation": operation, "depth": depth, "cell": cell, "rounds": len(runs)}
                for figure in ["iops", "mean_us", "p50_us", "p99_us", "server_cpu_us", "load_cpu_us"]:
                    row[figure] = statistics.median(run[figure] for run in runs)
                row["ratio_to_bare"] = statistics.median(run["iops"] / bare[run["round"]] for run in runs)
                rows.append(row)
    return rows


def table(path):
    """Prints the medians and writes them, with every run, as JSON."""
    lines = [json.loads(line) for line in sys.stdin]
    rows = medians(lines)
    with open(path, "w", encoding="utf-8") as out:
        json.dump({"medians": rows, "runs": lines}, out, indent=2)
        out.write("\n")
    heads = ["IOPS", "of bare", "mean µs", "p50", "p99", "server CPU µs/IO", "load CPU µs/IO"]
    print(f"4 KiB, medians of {max(row['rounds'] for row in rows)} rounds")
    print(f"{'':<7}{'depth':>6}  {'':<11}" + "".join(f"{head:>{max(10, len(head) + 2)}}" for head in heads))
    for row in rows:
        figures = [
            f"{row['iops']:.0f}",
            f"{row['ratio_to_bare']:.2f}",
            f"{row['mean_us']:.1f}",
            f"{row['p50_us']:.1f}",
            f"{row['p99_us']:.1f}",
            f"{row['server_cpu_us']:.2f}",
            f"{row['load_cpu_us']:.2f}",
        ]
        cells = "".join(f"{figure:>{max(10, len(head) + 2)}}" for head, figure in zip(heads, figures))
        print(f"{row['operation']:<7}{row['depth']:>6}  {row['cell']:<11}{cells}")
    print(f"\nevery run: {path}")


if __name__ == "__main__":
    {"keep": keep, "table": table}[sys.argv[1]](*sys.argv[2:])
