"""Other projects' networks, judged layer by layer, as Markdown (`tools/record_referee.py`)."""

from ..rendering.markdown import markdown_table
from .records import RefereeRecord


def referee_table(record: RefereeRecord) -> str:
    """A row per network and model: what holds, where the first fault is, and which mistakes it is explained by."""
    heading = ("network", "model", "layers that hold", "first fault", "explained by", "outputs differ by")
    rows = []
    for row in record.ports:
        first = f"`{row.first_fault}`" if row.first_fault else "none"
        mistakes = ", ".join(f"`{name}`" for name in row.mistakes) or "-"
        if not row.explained:
            mistakes += "; not all of it"
        held = f"{row.hold} of {row.layers}"
        rows.append([row.network, row.model, held, first, mistakes, f"{row.outputs:.1e}"])
    return markdown_table(heading, rows)


def planted_table(record: RefereeRecord) -> str:
    """A row per fault planted in effdet's network."""
    rows = []
    for row in record.planted:
        known = "-" if row.known_as is None else f"`{row.known_as}`"
        named = ", ".join(f"`{name}`" for name in row.mistakes) or "-"
        rows.append([row.fault, f"`{row.expected}`", f"`{row.first_fault}`", known, named])
    return markdown_table(("planted in effdet's network", "at", "found at", "known as", "explained by"), rows)


def referee_summary(record: RefereeRecord) -> str:
    """How good the judge is, in a paragraph."""
    planted, clean, names = record.planted, record.clean, record.without_names
    known = [row for row in planted if row.known_as is not None]
    return (
        f"Of {len(planted)} faults planted in effdet's own network {sum(row.detected for row in planted)} are "
        f"detected, and at {sum(row.named for row in planted)} the right layer is named first; of the {len(known)} "
        f"that are known porting mistakes {sum(row.explained for row in known)} are named as such. Of {len(clean)} "
        f"clean runs, on other weights and images, {sum(not row.ok for row in clean)} fail.\n\nWith every module's "
        f"name lost, {names.paired} of the {names.layers} layers that compute a value of their own are paired by "
        f"their weights and values, {len(names.wrong)} of them wrongly; the others are no modules there."
    )


def versions_text(record: RefereeRecord) -> str:
    """Which versions were run."""
    versions = record.versions
    return (
        f"effdet {versions['effdet']} with timm {versions['timm']}; zylo117/Yet-Another-EfficientDet-Pytorch at commit "
        f"`{versions['zylo117'][:12]}`; bonlime/pytorch-tools at commit `{versions['pytorch-tools'][:12]}`."
    )
