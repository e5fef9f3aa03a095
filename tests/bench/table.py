"""Figures of single runs, their medians, and the table of tests/bench/run."""

import statistics

FIGURES = ["iops", "mean_us", "p50_us", "p99_us", "server_cpu_us", "load_cpu_us", "server_busy"]
# A cell in which the server runs for this share of the time says what the server can do, not the generator.
SATURATED_PERCENT = 95


def shape(line):
    """What a run asked for: operation, size, depth, connections."""
    return line["operation"], line["size"], line["depth"], line["connections"]


def line(number, asked, way, report):
    """Reduces a generator's report to the figures that are compared."""
    bare = way == "bare"
    total = report if bare else report["total"]
    operation, size, depth, connections = asked
    return {
        "round": number,
        "way": way,
        "operation": operation,
        "size": size,
        "depth": depth,
        "connections": connections,
        "iops": total["iops"],
        "mean_us": total["latency_us"]["mean"],
        "p50_us": total["latency_us"]["p50"],
        "p99_us": total["latency_us"]["p99"],
        "server_cpu_us": report["server_cpu_us_per_io" if bare else "target_cpu_us_per_io"],
        "load_cpu_us": report["client_cpu_us_per_io" if bare else "own_cpu_us_per_io"],
        "server_busy": report["server_cpu_percent" if bare else "target_cpu_percent"],
    }


def medians(runs):
    """One row for each shape and way, in the order in which they were measured first."""
    rows = []
    for asked in dict.fromkeys(shape(run) for run in runs):
        same = [run for run in runs if shape(run) == asked]
        bare = {run["round"]: run for run in same if run["way"] == "bare"}
        off = {run["round"]: run for run in same if run["way"] == "off"}
        for way in sorted({run["way"] for run in same}, key=["bare", "off", "stored", "end-to-end", "digests"].index):
            mine = [run for run in same if run["way"] == way]
            row = dict(zip(["operation", "size", "depth", "connections"], asked), way=way, rounds=len(mine))
            for figure in FIGURES:
                row[figure] = statistics.median(run[figure] for run in mine)
            row["of_bare"] = ratio(mine, bare, "iops")
            row["cpu_of_off"] = None if way == "bare" else ratio(mine, off, "server_cpu_us")
            rows.append(row)
    return rows


def ratio(runs, others, figure):
    """The median of each round's ratio to the other way in the same round; None without it."""
    pairs = [run[figure] / others[run["round"]][figure] for run in runs if run["round"] in others]
    return statistics.median(pairs) if pairs else None


def text(rows):
    """The table. `*`: the server was not busy for 95 % of the time, so the figure is the generator's or the depth's."""
    heads = ["IOPS", "of bare", "mean µs", "p50", "p99", "CPU µs/IO", "of off", "busy %"]
    lines = [f"medians of {max(row['rounds'] for row in rows)} rounds; CPU: the server's; of off: its CPU per I/O against `off`"]
    lines.append(f"{'':<6}{'size':>7}{'depth':>6}{'conns':>6}  {'':<11}" + "".join(f"{head:>10}" for head in heads))
    number = lambda value, digits: "-" if value is None else f"{value:.{digits}f}"
    for row in rows:
        cells = [
            number(row["iops"], 0),
            number(row["of_bare"], 2),
            number(row["mean_us"], 1),
            number(row["p50_us"], 1),
            number(row["p99_us"], 1),
            number(row["server_cpu_us"], 2),
            number(row["cpu_of_off"], 2),
            number(row["server_busy"], 0) + ("" if row["server_busy"] >= SATURATED_PERCENT else "*"),
        ]
        asked = f"{row['operation']:<6}{row['size']:>7}{row['depth']:>6}{row['connections']:>6}  {row['way']:<11}"
        lines.append(asked + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)
