"""Records of what verdicts allow and refuse, as Markdown tables for the documentation."""

from collections.abc import Mapping
from typing import Any

from ..rendering.markdown import markdown_table


def bounds_table(record: Mapping[str, Any]) -> str:
    """Per kind of layer: the largest share of its bound that clean layers use, and by how much faults exceed it."""
    heading = (
        *("kind of layer", "clean layers compared", "PyTorch, largest share of the bound"),
        *("TensorFlow, largest share", "faults planted", "least of them, times the bound"),
    )
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in record["clean"]):
        clean = [row for row in record["clean"] if row["kind"] == kind]
        faults = [row for row in record["faults"] if row["kind"] == kind and row["times_bound"] is not None]
        least = f"{min(row['times_bound'] for row in faults):.3g}" if faults else "-"
        shares = [f"{max(row[side] for row in clean):.2f}" for side in ("candidate", "reference")]
        rows.append([kind, sum(row["layers"] for row in clean), *shares, len(faults), least])
    return markdown_table(heading, rows)


def float32_summary(record: Mapping[str, Any]) -> str:
    """The planted faults and the clean runs in two sentences."""
    faults, runs = record["faults"], record["clean_runs"]
    ours = [row for row in faults if row["side"] == "ours"]
    named = sum(row["named"] == row["planted_in"] for row in faults)
    alarms = sum(run["false_alarm"] is not None for run in runs)
    return (
        f"{len(faults)} faults of float32 alone, {len(ours)} in our network and {len(faults) - len(ours)} in the "
        f"reference: {sum(row['detected'] for row in faults)} detected, {named} with the faulty layer named first. "
        f"{len(runs)} clean runs of {len({run['model'] for run in runs})} models, of different seeds, sizes, thread "
        f"counts, memory formats, with oneDNN and without: {alarms} false alarms."
    )


def smallest_table(record: Mapping[str, Any]) -> str:
    """The smallest relative error of one layer's float32 output that is found without any reference."""
    rows = [
        (row["kind"], "not found" if row["smallest_found"] is None else f"{row['smallest_found']:.1e}")
        for row in record["sensitivity"]
    ]
    return markdown_table(("layer", "smallest error found"), rows)


def verdicts_table(record: Mapping[str, Any]) -> str:
    """`tools/record_verdicts.py`: every verdict, the wrong results planted against it, and how many were refused."""
    rows = []
    for row in record["rows"]:
        refused = row["refused"] if row["refused"] == row["planted"] else f"**{row['refused']}**"
        test = f"`{row['test'].removeprefix('tests/')}`"
        rows.append([f"`{row['verdict']}`", row["wrong_result"], row["planted"], refused, test])
    return markdown_table(("verdict", "wrong result planted", "planted", "refused", "test"), rows)


def mutants_summary(record: Mapping[str, Any]) -> str:
    """`tools/record_mutants.py`: how many changes of one token were noticed, and those that were not."""
    equivalent = len(record["equivalent"])
    changing = record["mutants"] - equivalent
    lines = [
        f"{record['mutants']} changes of one token in {len(record['modules'])} modules (seed {record['seed']}): "
        f"{equivalent} change no behaviour, and of the other {changing} the tests notice {record['noticed']}, "
        f"{record['noticed'] / changing:.1%}; {record['out_of_time']} of these because a test never ended."
    ]
    lines += ["", "Not noticed:", "", *(f"- `{name}`" for name in record["unnoticed"])] if record["unnoticed"] else []
    return "\n".join(lines)


def mutants_table(record: Mapping[str, Any]) -> str:
    """Changes by folder of the code, and every one that changes no behaviour, with why."""
    folders: dict[str, list[int]] = {}
    for module, counts in record["modules"].items():
        row = folders.setdefault(module.rpartition("/")[0], [0, 0, 0])
        row[:] = [sum(pair) for pair in zip(row, counts.values(), strict=True)]
    heading = ("code", "changes of one token", "noticed", "no change of behaviour")
    parts = [markdown_table(heading, [[f"`{name}`", *row] for name, row in folders.items()])]
    if record["equivalent"]:
        rows = [[f"`{name}`", why] for name, why in record["equivalent"].items()]
        parts.append(markdown_table(("no change of behaviour", "why"), rows))
    return "\n\n".join(parts)
