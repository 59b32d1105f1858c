"""What compare_peers.py found, as a table: medians, and ours / theirs round by round."""

import math
import os
from statistics import median

NAMES = {
    "ours": "xception",
    "cudnn": "xception over cuDNN",
    "ort": "ONNX Runtime",
    "openvino": "OpenVINO",
    "torch": "PyTorch",
    "inductor": "PyTorch, compiled",
}


def add_ratios(rows, keys):
    """ours / theirs: the median over the rounds."""
    ours = {row["batch"]: row for row in rows if row["engine"] == "ours"}
    for row in rows:
        for key in keys:
            mine = ours.get(row["batch"], {}).get(key)
            pairs = zip(mine, row[key]) if mine else []
            ratios = [a / b for a, b in pairs]
            row[f"ratio_{key}"] = median(ratios) if ratios else None


def print_table(headings, rows):
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" + "---:|" * (len(headings) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def ratio_text(row, key):
    ratio = row[f"ratio_{key}"]
    return "" if ratio is None or row["engine"] == "ours" else f"{ratio:.3f}"


def time_text(ms):
    """Milliseconds with two decimals, and with three digits at least."""
    return f"{ms:.{max(2, 2 - math.floor(math.log10(ms)))}f}"


def title(row, report):
    """The engine, and its precision where it is not the others'."""
    text = f"{NAMES[row['engine']]} {row['version']}"
    return text if row["precision"] == report["precision"] else f"{text}, {row['precision']}"


def print_markdown(report, load):
    machine = report["machine"]
    device = next(row["device"] for row in report["rows"] if row["engine"] == "ours")
    where = f"on {device}" if report["device"] == "cuda" else f"{report['threads']} threads"
    where += ", the network alone" if report["network_only"] else ""
    print(
        f"{report['arch']}, {report['size']} px, {report['precision']}, {where}; "
        f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_average']:.2f}; "
        f"{report['rounds']} rounds\n"
    )
    rows = report["rows"]
    if load:
        headings = ["engine", "batch", "load ms", "ours / theirs", "process ms", "ours / theirs"]
        headings += ["peak MiB", "ours / theirs", "grown MiB", "ours / theirs", "max difference"]
        cells = []
        for row in rows:
            line = [title(row, report), str(row["batch"])]
            for key, unit in (
                ("load_ms", 1),
                ("process_ms", 1),
                ("peak_bytes", 2**20),
                ("grown_bytes", 2**20),
            ):
                line += [f"{median(row[key]) / unit:.1f}", ratio_text(row, key)]
            cells.append([*line, f"{row['max_difference']:.1e}"])
        print_table(headings, cells)
        return
    headings = ["engine", "batch", "median ms", "min ms", "images/s", "ours / theirs"]
    print_table(
        [*headings, "max difference"],
        [
            [
                title(row, report),
                str(row["batch"]),
                time_text(median(row["ms"])),
                time_text(min(row["ms"])),
                f"{1e3 * row['batch'] / median(row['ms']):.1f}",
                ratio_text(row, "ms"),
                f"{row['max_difference']:.1e}",
            ]
            for row in rows
        ],
    )


def describe_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.partition(": ")[2].strip() for line in f if line.startswith("model name")]
    return {
        "cpu": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
