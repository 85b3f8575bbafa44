"""What an agent wrote for a terminal, shown elsewhere: colours by name, and nothing of it hidden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcplatform.lib.ansi import Piece, pieces, plain
from zcplatform.lib.terminal import visible

E = "\x1b"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("plain", [Piece("plain")]),
        ("", []),
        (f"{E}[32mINFO{E}[0m up", [Piece("INFO", "green"), Piece(" up")]),
        (f"{E}[1;31mbad{E}[22m worse{E}[39m", [Piece("bad", "bold red"), Piece(" worse", "red")]),
        (f"{E}[38;5;9mred{E}[38;5;200mstill{E}[m.", [Piece("red", "red"), Piece("still", "red"), Piece(".")]),
        (f"{E}[38;2;1;2;3;4mx", [Piece("x", "underline")]),
        (f"{E}[48;5;31mx{E}[8my{E}[41mz", [Piece("x"), Piece("y"), Piece("z")]),
        (f"a{E}[2Kb{E}[1;1Hc{E}]0;title\x07d{E}]8;;http://x\x1b\\e{E}(Bf", [Piece(c) for c in "abcdef"]),
        ("\x9b31mred", [Piece("red", "red")]),
        (f"{E}]0;never ends", [Piece("\\x1b]0;never ends")]),
        (f"cut {E}[3", [Piece("cut \\x1b[3")]),
        ("<b>&\u202e\x07\r", [Piece("<b>&\\u202e\\x07\\x0d")]),
        (f"{E}[{'9' * 5000}mx", [Piece("x")]),
        (f"{E}[²mx", [Piece("\\x1b[²mx")]),
    ],
)
def test_a_line_is_taken_apart_where_its_style_changes(line, found):
    assert pieces(line) == found


@given(st.text(alphabet=st.sampled_from("\x1b[]m0123;89PX^_\\\x07\x9b a(Bé"), max_size=60))
def test_whatever_is_printed_the_pieces_hold_all_text_and_no_control_character(line):
    text = "".join(piece.text for piece in pieces(line))
    assert text == visible(plain(line))
    assert all(char.isprintable() for char in text)
