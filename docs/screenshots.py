"""The README's pictures, made anew: the digits sweep on a terminal, its study in MLflow's UI, its report.

`make screenshots`: about two minutes, with the same browser as the tests.
"""

from __future__ import annotations

import html
import os
import re
import signal
import tempfile
from pathlib import Path

from browser import Browser, opened
from doors import BESOM, Shell, eventually
from servers import free_port
from terminal import Terminal

HERE = Path(__file__).parent
TRIALS = 8  # of the sweep, when its terminal is looked at
COLOURS = {  # of a terminal, as pyte names them
    "default": "#e6e6e6",
    "green": "#7fc98b",
    "red": "#e2727a",
    "brown": "#dcb767",
    "blue": "#7aa7e0",
    "cyan": "#6cc3c9",
    "magenta": "#c58fd6",
    "brightblack": "#7b8290",
}
PAGE = """<body style="margin:0;background:#1b1e24"><pre style="margin:0;padding:18px 22px;color:#e6e6e6;
font:15px/1.35 'DejaVu Sans Mono',monospace;display:inline-block">{}</pre></body>"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, opened(HERE, size="1280,1100") as browser:
        os.environ.setdefault("BESOM_CACHE", str(Path(folder) / "cache"))
        shell = Shell(Path(folder))
        sweep = shell.terminal(BESOM, "sweep", "digits", columns=110, lines=30)
        live(sweep, browser, shell)
        code, said = sweep.end()
        assert code == 0, said
        study(shell, browser)


def live(sweep: Terminal, browser: Browser, shell: Shell) -> None:
    def at_work(lines: list[str]) -> bool:
        slots = [line for line in lines if re.match(r"[01] .*[▁▂▃▄▅▆▇█]{3}", line)]  # with a curve
        return f"{TRIALS}/20" in "\n".join(lines) and len(slots) == 2

    sweep.until(at_work, f"both slots at work after trial {TRIALS}")
    shell.write("live.html", PAGE.format("\n".join("".join(map(_span, line)) for line in sweep.looks)))
    browser.driver.set_window_size(1130, 620)
    browser.open(f"file://{shell.folder}/live.html")
    browser.keep("live")


def _span(look: tuple[str, str, bool]) -> str:
    text, colour, bold = look
    style = f"color:{COLOURS.get(colour, colour)}" + (";font-weight:bold" if bold else "")
    return f'<span style="{style}">{html.escape(text)}</span>'


def study(shell: Shell, browser: Browser) -> None:
    port = free_port()
    server = shell.start(BESOM, "ui", "digits", "--port", str(port))
    try:
        assert server.stdout
        server.stdout.readline()  # that it takes a few seconds
        table, page = (server.stdout.readline().split()[-1] for _ in range(2))
        link, _, workflow = page.partition("?")
        browser.driver.set_window_size(1280, 800)
        eventually(lambda: browser_opens(browser, table), "MLflow's server")
        browser.wait_for("besom.outcome", "matching runs", "complete")
        browser.keep("table")
        browser.driver.set_window_size(1280, 1100)
        browser.open(page)
        browser.wait_for("Best: trial")
        browser.keep("study")
        browser.open(f"{link}/artifacts/report.html?{workflow}")
        browser.enter("iframe")
        browser.wait_for_elements(".js-plotly-plot .main-svg")
        browser.keep("report")
    finally:
        os.kill(server.pid, signal.SIGINT)
        server.communicate()


def browser_opens(browser: Browser, link: str) -> bool:
    try:
        browser.open(link)
    except Exception:  # nobody answers yet
        return False
    return True


if __name__ == "__main__":
    main()
