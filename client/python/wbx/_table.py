"""Tables: rows under column names."""
from __future__ import annotations

import sys
from typing import Any, Callable, Iterable, Iterator, Sequence

LOG_MODES = ("IMMUTABLE", "MUTABLE", "INCREMENTAL")

# Says something to the user once; the package sets it.
tell: Callable[[str], None] = lambda text: None


def is_frame(value: Any) -> bool:
    """A pandas DataFrame, or what looks like one."""
    return hasattr(value, "to_dict") and hasattr(value, "columns")


def _frame_rows(frame: Any) -> list[list[Any]]:
    """Column by column, which is quicker than cell by cell and keeps each column's own types."""
    try:
        columns = [frame.iloc[:, i].tolist() for i in range(len(frame.columns))]
    except (AttributeError, TypeError):
        values = frame.values
        return [list(row) for row in (values.tolist() if hasattr(values, "tolist") else values)]
    return [list(row) for row in zip(*columns)]


def _rows(data: Any) -> list[list[Any]]:
    if hasattr(data, "tolist"):  # numpy
        data = data.tolist()
    return [list(row) for row in data]


class Table:
    """Rows under column names, logged as a W&B table.

    ``columns`` is a list of str (or int), ``data`` a list of rows, each with one cell per column, a 2-D array or a DataFrame; ``dataframe`` goes before both,
    ``rows`` is ``data`` by another name. All may be read, and appended to; what is logged is a copy.

    A column's type is inferred by the daemon, as W&B's client does it. ``optional`` says whether None is one of its values, of all or of each column.
    Cells of several types may stand in one column, with ``allow_mixed_types`` or without. ``dtype`` is taken and not looked at.

    ``log_mode``: IMMUTABLE or MUTABLE (W&B's client logs an IMMUTABLE one once; here each log() is the table as it is then), or INCREMENTAL: each
    log() sends only the rows that came since the one before.
    """

    MAX_ROWS = 10_000
    MAX_ARTIFACT_ROWS = 200_000

    def __init__(self, columns: Sequence[Any] | None = None, data: Any = None, rows: Any = None, dataframe: Any = None,
                 dtype: Any = None, optional: bool | list[bool] = True, allow_mixed_types: bool = False, log_mode: str | None = "IMMUTABLE"):
        if log_mode not in LOG_MODES:
            raise ValueError(f"log_mode must be one of {', '.join(LOG_MODES)}, not {log_mode!r}")
        self.log_mode: str = log_mode
        self._optional = optional
        self._mixed = bool(allow_mixed_types)
        self._logged = (0, 0, 0)  # INCREMENTAL: the newest increment, its first row, the row behind it
        if data is None:
            data = rows
        if dataframe is None and is_frame(data):
            dataframe = data
        if dataframe is not None:
            columns, data = list(dataframe.columns), _frame_rows(dataframe)
        if columns is None:
            columns = ["Input", "Output", "Expected"]
        self.columns: list[Any] = [c if isinstance(c, (str, int)) else str(c) for c in columns]
        self.data: list[list[Any]] = _rows(data) if data is not None else []
        for row in self.data:
            self._check(row)

    def _check(self, row: Sequence[Any]) -> None:
        if len(row) != len(self.columns):
            raise ValueError(f"a row of {len(row)} cells does not fit {len(self.columns)} columns: {self.columns}")

    def add_data(self, *row: Any) -> None:
        """Appends one row; ValueError when it has not one cell per column."""
        self._check(row)
        self.data.append(list(row))

    add_row = add_data

    def add_column(self, name: str, data: Any, optional: bool = False) -> None:
        """Appends a column: as many cells as there are rows, or any number when the table is empty."""
        if self.log_mode == "INCREMENTAL":
            raise ValueError("a table that is logged incrementally keeps its columns")
        if not isinstance(name, str) or name in self.columns:
            raise ValueError(f"a column needs a name of its own, not {name!r}")
        cells = data.tolist() if hasattr(data, "tolist") else list(data)
        if not self.columns:
            self.data = [[] for _ in cells]
        if len(cells) != len(self.data):
            raise ValueError(f"a column of {len(cells)} cells does not fit {len(self.data)} rows")
        if isinstance(self._optional, bool):
            self._optional = [self._optional] * len(self.columns)
        self._optional = [*self._optional, bool(optional)]
        self.columns.append(name)
        for row, cell in zip(self.data, cells):
            row.append(cell)

    def get_column(self, name: Any, convert_to: str | None = None) -> Any:
        """A column's cells as a list, or with convert_to="numpy" as an array."""
        if name not in self.columns:
            raise ValueError(f"there is no column {name!r}")
        if convert_to not in (None, "numpy"):
            raise ValueError('convert_to must be None or "numpy"')
        at = self.columns.index(name)
        cells = [row[at] for row in self.data]
        if convert_to is None:
            return cells
        import numpy
        return numpy.array(cells)

    def add_computed_columns(self, fn: Callable[[int, dict[Any, Any]], dict[str, Any]]) -> None:
        """Appends the columns that fn(index, row) returns for each row."""
        computed = [fn(i, dict(zip(self.columns, row))) for i, row in enumerate(self.data)]
        for name in computed[0] if computed else ():
            self.add_column(name, [one[name] for one in computed])

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        return iter(enumerate(self.data))

    def get_index(self) -> list[int]:
        return list(range(len(self.data)))

    def get_dataframe(self) -> Any:
        import pandas
        return pandas.DataFrame(self.data, columns=self.columns)

    def cast(self, col_name: Any, dtype: Any, optional: bool = False) -> None:
        """Says whether None is one of the column's values; its type is inferred."""
        at = self.columns.index(col_name)
        if isinstance(self._optional, bool):
            self._optional = [self._optional] * len(self.columns)
        self._optional[at] = bool(optional)

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<wbx.Table {len(self.data)} x {len(self.columns)}>"

    # -- for the encoder

    def _types(self) -> dict[str, Any] | None:
        types: dict[str, Any] = {}
        if self._optional is not True and not (isinstance(self._optional, list) and all(self._optional)):
            types["optional"] = self._optional
        if self._mixed:
            types["mixed"] = True
        if self.log_mode != "IMMUTABLE":
            types["log_mode"] = self.log_mode
        return types or None

    def _increment(self) -> tuple[int, list[list[Any]]]:
        """The rows since the last log() and their number; with none, those of the last one again."""
        number, first, end = self._logged
        if len(self.data) > end or end == 0:
            number, first, end = (number + 1 if end else 0), end, len(self.data)
            self._logged = (number, first, end)
        return number, self.data[first:end]

    def _wbx(self) -> tuple:
        rows, increment = self.data, None
        if self.log_mode == "INCREMENTAL":
            increment, rows = self._increment()
        if len(rows) > self.MAX_ARTIFACT_ROWS:
            tell(f"a table of {len(rows)} rows: W&B takes the first {self.MAX_ARTIFACT_ROWS}, of them {self.MAX_ROWS} for its media panels; the rest stays "
                 "on this machine as long as the run's records do (wbxctl table)")
        elif len(rows) > self.MAX_ROWS:
            tell(f"a table of {len(rows)} rows: W&B's media panels take the first {self.MAX_ROWS}, its artifact has all")
        log_mode = None if self.log_mode == "IMMUTABLE" else self.log_mode
        return self.columns, rows, self._types(), log_mode, increment, len(self.data)
