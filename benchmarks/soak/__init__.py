"""What a run withstands, by attacking it: `python -m benchmarks.soak` writes the table."""

from dataclasses import dataclass, field


@dataclass
class Attack:
    """What one kind of attack found.

    name     of the kind: kills, disks, ...
    tried    how many attacks were carried out
    figures  what else was counted, a line each: words and a number
    wrong    each attack that did not end as promised, with what happened; empty if all held
    """

    name: str
    tried: int = 0
    figures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
