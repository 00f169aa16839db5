"""Pictures of the page's views for docs/glass_box.md: ``python tests/picture_page.py OUTPUT_FOLDER [PAGE]``; without a page, of generated runs."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from browser import browser, opened
from recorded_run import write_results, write_run

from luffy.view.page import Shown, write_page


def find(page: Any, selector: str) -> list[Any]:
    return page.find_elements("css selector", selector)


def save(page: Any, file: Path) -> None:
    """A picture of few colours, which is a third of the size."""
    from PIL import Image

    page.save_screenshot(str(file))
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)


def main(page_file: Path, output: Path) -> None:
    """Draw the four views of a page."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import Select

    output.mkdir(parents=True, exist_ok=True)
    with browser(width=1240, height=900) as page:
        opened(page, page_file)
        find(page, "tr.group")[0].click()
        time.sleep(2)
        Select(find(page, "#measure")[0]).select_by_value("gradient_weight")
        time.sleep(1)
        page.execute_script("document.querySelector('.opened').scrollIntoView()")
        ActionChains(page).move_to_element(find(page, ".text[data-row='0'] span")[9]).perform()
        time.sleep(0.5)
        save(page, output / "groups.png")
        for view in ("trace", "run", "evaluation"):
            find(page, f"button[data-view={view}]")[0].click()
            page.execute_script("window.scrollTo(0, 0)")
            time.sleep(2)
            if view == "evaluation" and (samples := find(page, "tr.group")):
                samples[0].click()
                time.sleep(1)
            save(page, output / f"{view}.png")


def generated(folder: Path) -> Path:
    """A page of two runs and a result that no model made."""
    first = write_run(folder / "first", n_groups=6, n_rows=8, n_tokens=120, steps=(10, 20, 30, 40, 50, 60))
    second = write_run(folder / "second", seed=1, gamma=0.5)
    results = write_results(folder / "scored.jsonl", hostile=False)
    write_page(Shown([first, second, results]), folder / "page.html")
    return folder / "page.html"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[2]) if len(sys.argv) > 2 else generated(Path(folder)), Path(sys.argv[1]))
