"""The rows of a CSV table as a JSON list of objects; its first row names the keys."""

import csv
import io
import json
import sys


def main():
    text = sys.stdin.buffer.read().decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not rows.fieldnames:
        raise ValueError("the table is empty")
    table = []
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {rows.line_num} has not {len(rows.fieldnames)} columns")
        table.append(row)
    json.dump(table, sys.stdout, ensure_ascii=False)
    print()


try:
    # Whatever the machine's locale is.
    sys.stdout.reconfigure(encoding="utf-8")
    main()
except (csv.Error, ValueError) as error:  # UnicodeDecodeError is a ValueError
    sys.exit(f"csv2json: {error}")
