"""Claims about LaTeX: what is printed is what was meant, whatever a name holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from synthetic_runs import fixed, write

from rdvla_bench.commands.board import main
from rdvla_bench.leaderboards.latex import escape, latex
from rdvla_bench.leaderboards.tables import NOTHING, Table


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("50 %", r"50 \%"),
        ("a_b & c#d", r"a\_b \& c\#d"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("x^2 ~ $y$ {z}", r"x\textasciicircum{}2 \textasciitilde{} \$y\$ \{z\}"),
        ("<b> | 7 ± 1", r"\textless{}b\textgreater{} \textbar{} 7 $\pm$ 1"),
        ("two\nlines\x00", "two lines"),
        (NOTHING, "--"),
    ],
)
def test_text_is_printed_as_it_is(text: str, printed: str) -> None:
    assert escape(text) == printed


def test_a_table_has_rules_alignment_and_a_caption_and_drops_columns_that_say_nothing() -> None:
    table = Table("T_1", ("name", "rate", "depth"), (("a", "50 %", NOTHING), ("[b]", "7 %", NOTHING)), legend="L.")
    text = latex([(table, ["not ranked: x."])])
    assert r"\caption{T\_1. not ranked: x. L.}" in text
    assert r"\begin{tabular}{lr}" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()
    assert body == [r"\toprule", r"name & rate \\", r"\midrule", r"a & 50 \% \\", r"{[}b] & 7 \% \\"]


def test_every_row_of_a_board_has_as_many_cells_as_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(write(tmp_path / f"d_{d}", fixed(d), n_tasks=2, n_episodes=3)) for d in (2, 8)]
    assert main([*runs, "--format", "latex"]) == 0
    text = capsys.readouterr().out
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for tabular in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in tabular[1].splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(tabular[0])}
