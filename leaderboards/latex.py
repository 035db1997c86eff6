r"""Tables as LaTeX, for ``\usepackage{booktabs}``."""

from __future__ import annotations

from collections.abc import Iterable

from rdvla_bench.leaderboards.tables import NOTHING, Table

PREAMBLE = "% \\usepackage{booktabs}"

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row, \\ would take it for its optional argument
    "±": r"$\pm$",
    "×": r"$\times$",
    "‡": r"\ddag{}",
    NOTHING: "--",
}


def escape(text: str) -> str:
    """Return ``text`` as LaTeX that prints it, on one line. Control characters are dropped."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return "".join(_ESCAPED.get(character, character) for character in line)


def latex(tables: Iterable[tuple[Table, list[str]]]) -> str:
    """Return one ``table`` environment a table; the notes that go with it stand in its caption."""
    return "\n\n".join([PREAMBLE, *(_environment(table, notes) for table, notes in tables)]) + "\n"


def _environment(table: Table, notes: list[str]) -> str:
    shown = _shown(table)
    alignment = "".join("l" if table.is_text(i) else "r" for i in shown)
    caption = " ".join(f"{escape(text.rstrip('.'))}." for text in (table.title, *notes, table.legend) if text)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _row(table.columns, shown),
            r"\midrule",
            *(_row(row, shown) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _shown(table: Table) -> list[int]:
    """Return the columns that say anything."""
    return [i for i in range(len(table.columns)) if any(row[i] not in ("", NOTHING) for row in table.rows)]


def _row(cells: tuple[str, ...], shown: list[int]) -> str:
    return " & ".join(escape(cells[i]) for i in shown) + r" \\"
