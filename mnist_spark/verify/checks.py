"""Everything but the contents: columns, data files, rows per split."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as kinds

from mnist_spark.catalog.schema import TableSchema
from mnist_spark.errors import TableError
from mnist_spark.table.reader import TableReader
from mnist_spark.verify.expected import ExpectedSplit
from mnist_spark.verify.findings import Findings, Problem, What


def check_columns(table: TableReader, schema: TableSchema, findings: Findings) -> bool:
    """Compares the columns, in names, order, types and nullability, with the schema.

    Types that hold the same values (wider integers, dictionaries) and columns that may be null
    are what other engines leave when they rewrite a table: notes, not problems.

    Returns:
        whether rows can be rebuilt from these columns.
    """
    if list(table.partitioned_by) != ["split"]:
        findings.notes.append(f"partitioned by {', '.join(table.partitioned_by) or 'nothing'}")
    wanted, found = schema.arrow(), table.schema
    usable, types, nullable = True, [], []
    for field in wanted:
        at = found.get_field_index(field.name)
        other = None if at < 0 else found.field(at)
        if other is None or _name(other.type, loosely=True) != _name(field.type, loosely=True):
            got = "none" if other is None else str(other.type)
            findings.add(Problem(What.COLUMN, None, None, field.name, _name(field.type), got))
            usable = False
            continue
        if _name(other.type) != _name(field.type):
            types.append(f"{field.name} {other.type}")
        if other.nullable:
            nullable.append(field.name)
    for name in found.names:
        if wanted.get_field_index(name) < 0:
            findings.add(Problem(What.COLUMN, None, None, name, "no such column", "one"))
    # Readers slice columns by place. That of `split` depends on whether it's in the files.
    shared = [name for name in found.names if name in set(wanted.names) - {"split"}]
    order = [name for name in wanted.names if name in set(shared)]
    for name, other_name in zip(order, shared, strict=False):
        if name != other_name:
            place = f"before {other_name}"
            findings.add(Problem(What.COLUMN, None, None, name, place, "another order"))
            break
    if types:
        findings.notes.append(f"types that hold the same values: {_some(types)}")
    if nullable:
        findings.notes.append(f"columns that may be null: {_some(nullable)}")
    return usable


def check_files(table: TableReader, findings: Findings) -> None:
    """Notes data files that are missing or of another size than was logged."""
    for fault in table.faults():
        got = "no file" if fault.got is None else f"{fault.got:,} bytes"
        findings.add(Problem(What.FILE, None, None, fault.path, f"{fault.expected:,} bytes", got))


def count_rows(
    table: TableReader, splits: Sequence[ExpectedSplit], findings: Findings, *, deep: bool
) -> dict[str, int]:
    """Compares the rows per split.

    Args:
        deep: look at the column ``index`` itself, for values that are no record's too.

    Returns:
        rows by split, 0 for one that is absent; nothing if a data file can't be read.
    """
    try:
        extents = table.extents() if deep else {}
        rows = {name: extent.rows for name, extent in extents.items()} if deep else table.rows()
    except TableError as error:
        findings.add(Problem(What.FILE, got=str(error.got or error)))
        return {}
    wanted = {split.name: split.records for split in splits}
    for name in sorted(set(rows) - set(wanted)):
        one_of = f"one of {', '.join(wanted)}"
        findings.add(Problem(What.SPLIT, name, None, "split", one_of, f"{rows[name]:,} rows"))
    for name, records in wanted.items():
        if rows.setdefault(name, 0) != records:
            findings.add(Problem(What.COUNT, name, None, None, records, rows[name]))
        extent = extents.get(name)
        if extent is None:
            continue
        if extent.nulls:
            findings.add(Problem(What.NULL, name, None, "index", "a value"), extent.nulls)
        for index in (extent.low, extent.high):
            if index is not None and not 0 <= index < records:
                within = f"0 to {records - 1}"
                findings.add(Problem(What.INDEX, name, index, "index", within, index))
    return rows


def _name(kind: pa.DataType, *, loosely: bool = False) -> str:
    """A type without nullability, which engines don't keep within lists and structs.

    Args:
        loosely: the same name for all types that hold the same kind of values.
    """
    if kinds.is_struct(kind):
        return f"struct<{', '.join(f'{f.name} {_name(f.type, loosely=loosely)}' for f in kind)}>"
    if kinds.is_list(kind) or (
        loosely and (kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))
    ):
        return f"list<{_name(kind.value_type, loosely=loosely)}>"
    if not loosely:
        return str(kind)
    if kinds.is_dictionary(kind):
        return _name(kind.value_type, loosely=True)
    if kinds.is_integer(kind):
        return "integer"
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return "string"
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind):
        return "binary"
    return "binary" if kinds.is_fixed_size_binary(kind) else str(kind)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
