#!/usr/bin/env python3
"""Plays `holdover-hub demo` in a terminal (tmux) and prints what was to be seen as an SVG: docs/demo.svg.

    cargo build --release --features demo --bin holdover-hub
    docs/demo_picture.py target/release/holdover-hub > docs/demo.svg

Two moments of one run, character for character: while the backlog drains, and the account at the end. Text keeps to
the terminal's grid whatever the viewer's font; the bars are drawn. The background is the picture's own, so it reads
the same on a light and on a dark page.
"""

import os
import re
import subprocess
import sys
import time
from html import escape

COLUMNS, ROWS = 80, 42
WIDTH, HEIGHT, SIZE, MARGIN = 8.4, 19, 14, 18
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
PAPER, EDGE, INK, FAINT = "#0d1117", "#30363d", "#e6edf3", "#8b949e"
COLORS = {31: "#ff7b72", 32: "#3fb950", 33: "#d29922", 36: "#39c5cf", 39: INK}
PROMPT = "$ cargo run --features demo --bin holdover-hub -- demo"


def tmux(*args):
    command = ["tmux", "-L", f"holdover-picture-{os.getpid()}", "-f", "/dev/null", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(what, found):
    """The screen, with its colors, as soon as `found` is pleased with its text."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if found(tmux("capture-pane", "-p", "-t", "show")):
            return tmux("capture-pane", "-e", "-p", "-t", "show").rstrip("\n").split("\n")
        time.sleep(0.2)
    sys.exit(f"never seen: {what}")


def half_drained(text):
    """Well into the drain: every bar has shrunk, and none is gone."""
    bars = [line.count("█") for line in text.split("\n") if " catching " in line]
    return len(bars) == 3 and all(4 <= bar <= 16 for bar in bars)


def record(program):
    tmux("new-session", "-d", "-s", "show", "-x", str(COLUMNS), "-y", str(ROWS), f"{program} demo; sleep 30")
    try:
        draining = wait_for("the drain", half_drained)
        ended = wait_for("the end", lambda text: "(exit " in text)
    finally:
        tmux("kill-server")
    account = next(n for n, line in enumerate(ended) if "caught up" in line)
    return draining, ended[account:]


def runs(line, look):
    """(column, text, color, bold) of each stretch. tmux tells changes only: `look` goes on from line to line."""
    column = 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b["):
            for code in (int(word or 0) for word in part[2:-1].split(";")):
                if code == 0:
                    look.update(color=INK, bold=False, dim=False)
                elif code in (1, 2):
                    look["bold" if code == 1 else "dim"] = True
                elif code in COLORS:
                    look["color"] = COLORS[code]
        elif part:
            yield column, part, FAINT if look["dim"] else look["color"], look["bold"]
            column += len(part)


def stretch(column, row, text, color, bold):
    """Bars as boxes, and each word where the terminal has it."""
    for match in re.finditer(r"█+|░+|[^█░\s]+(?: [^█░\s]+)*", text):
        piece, x = match.group(), MARGIN + (column + match.start()) * WIDTH
        width = len(piece) * WIDTH
        if piece[0] in "█░":
            faint = ' opacity=".25"' if piece[0] == "░" else ""
            yield f'<rect x="{x:.1f}" y="{row - 12}" width="{width:.1f}" height="14" fill="{color}"{faint}/>'
        else:
            weight = ' font-weight="bold"' if bold else ""
            fill = "" if color == INK else f' fill="{color}"'
            yield f'<text x="{x:.1f}" y="{row}" textLength="{width:.1f}"{fill}{weight}>{escape(piece)}</text>'


def draw(lines):
    height = 2 * MARGIN + HEIGHT * len(lines)
    width = 2 * MARGIN + COLUMNS * WIDTH
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">'
    yield "<title>holdover-hub demo in a terminal: the backlog drains, and the account at the end</title>"
    yield f'<rect x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1}" rx="8" fill="{PAPER}" stroke="{EDGE}"/>'
    yield f'<g font-family="{FONT}" font-size="{SIZE}" fill="{INK}">'
    look = {"color": INK, "bold": False, "dim": False}
    for number, line in enumerate(lines):
        row = MARGIN + HEIGHT * number + SIZE
        for column, text, color, bold in runs(line, look):
            yield from stretch(column, row, text, color, bold)
    yield "</g>\n</svg>"


def main():
    draining, account = record(sys.argv[1])
    cut = "\x1b[2m" + "- " * (COLUMNS // 2) + "\x1b[0m"
    print("\n".join(draw([f"\x1b[1m{PROMPT}\x1b[0m", "", *draining, "", cut, "", *account])))


main()
