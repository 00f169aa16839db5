"""The page in a real browser: it opens, filters and hovers, shows the numbers of the files, and runs no text of a model."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import MISSING, browser, complaints, opened
from recorded_run import HOSTILE, responses, write_results, write_run

from luffy.record import VALUES, read_facts, read_group, record_file, write_record
from luffy.view.page import Shown, write_page
from luffy.view.server import make_server

pytestmark = [pytest.mark.skipif(MISSING is not None, reason=str(MISSING)), pytest.mark.slow]
STEPS = (10, 20, 30)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("view")
    write_run(made / "first", steps=STEPS, hostile=True)
    write_run(made / "second", steps=STEPS, seed=1, gamma=0.5)
    write_results(made / "scored.jsonl")
    write_page(Shown([made / "first", made / "second", made / "scored.jsonl"]), made / "page.html")
    return made


@pytest.fixture
def page(driver: Any, folder: Path) -> Iterator[Any]:
    opened(driver, folder / "page.html")
    yield driver
    assert complaints(driver) == []
    assert driver.title == "first, second, scored"  # no script of a model's text has run


def find(page: Any, selector: str) -> list[Any]:
    return page.find_elements("css selector", selector)


def choose(page: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(page, f"#{name}")[0]).select_by_visible_text(text)


def until(found: Callable[[], Any]) -> Any:
    """Wait for something that is true."""
    end = time.monotonic() + 20
    while not (value := _now(found)):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.03)
    return value


def _now(found: Callable[[], Any]) -> Any:
    """None where the page was drawn anew between finding an element and reading it."""
    from selenium.common.exceptions import StaleElementReferenceException

    try:
        return found()
    except (StaleElementReferenceException, IndexError):
        return None


def open_group(page: Any, number: int) -> None:
    find(page, "tr.group")[number].click()
    until(lambda: find(page, ".response"))


def hover(page: Any, element: Any) -> dict[str, str]:
    """What the tip says of an element."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).move_to_element(element).perform()
    until(lambda: find(page, "#tip:not([hidden])"))
    return {cell.get_attribute("data-name"): cell.text for cell in find(page, "#tip td[data-name]")}


def set_step(page: Any, place: int) -> None:
    page.execute_script(
        "const slider = document.getElementById('step'); slider.value = arguments[0]; slider.dispatchEvent(new Event('input'))", place
    )


def test_a_token_shows_the_numbers_of_its_file(page: Any, folder: Path) -> None:
    set_step(page, 1)
    assert find(page, "#step-number")[0].text == "20"
    open_group(page, 2)
    table = read_group(record_file(folder / "first", 20), 2)
    for row, place in ((0, 0), (2, 7), (3, 3)):
        facts = hover(page, find(page, f".text[data-row='{row}'] span")[place])
        for name in VALUES:
            assert float(facts[name.replace("_", " ")]) == pytest.approx(table[name][row][place].as_py(), rel=1e-7), name
        assert facts["given by"] == ("a demonstration" if row == 0 else "the policy")
    heading = find(page, ".response h3")[0].text
    assert heading.startswith("teacher deepseek: reward 1, advantage 0.5")
    assert f"{np.abs(np.array(table['gradient_weight'][0].as_py())).sum():.4g}" in heading


@pytest.mark.parametrize("measure", ["gradient weight on ∇log π", "entropy (nats)", "loss", "probability (old policy)"])
def test_tokens_have_the_colours_of_the_legend(page: Any, folder: Path, measure: str) -> None:
    open_group(page, 1)
    choose(page, "measure", measure)
    name = {"gradient weight on ∇log π": "gradient_weight", "entropy (nats)": "entropy", "loss": "loss"}.get(measure, "old_probability")
    rows = read_group(record_file(folder / "first", 30), 1)[name].to_pylist()
    values = np.concatenate([np.array(row) for row in rows])
    ticks = [float(each.text) for each in find(page, ".ticks span")]
    far = 1.0 if name == "old_probability" else values.max() if name == "entropy" else np.abs(values).max()
    assert ticks[-1] == pytest.approx(far, rel=6e-3)
    assert ticks[0] == (0 if name in ("entropy", "old_probability") else -ticks[-1])
    colours = page.execute_script(
        "return [...document.querySelectorAll('.text[data-row=\"2\"] span')].map((each) => each.style.backgroundColor)"
    )
    darkness = [-sum(map(int, colour[4:-1].split(","))) for colour in colours]
    by_value = np.argsort(np.abs(rows[2]))
    assert darkness[by_value[-1]] > darkness[by_value[0]]


def test_groups_are_filtered(page: Any, folder: Path) -> None:
    facts = [group for step in STEPS for group in read_facts(record_file(folder / "first", step))]
    find(page, "#all-steps")[0].click()

    def listed() -> int:
        return int(find(page, "#count")[0].text.split()[0])

    assert listed() == len(facts)
    for control, text, fits in (
        ("verdict", "wrong", lambda row: row["reward"] == 0),
        ("reason", "truncated", lambda row: row["reward"] == 0 and row["reason"] == "truncated"),
        ("source", "rollout", lambda row: row["reason"] == "truncated" and row["source"] == "rollout"),
        ("advantage", "below 0", lambda row: row["reason"] == "truncated" and row["advantage"] < 0),
    ):
        choose(page, control, text)
        assert listed() == sum(any(fits(row) for row in group) for group in facts), control
    choose(page, "advantage", "above 0")
    assert listed() == 0


def test_search_finds_prompts_at_once_and_responses_when_opened(page: Any) -> None:
    find(page, "#search")[0].send_keys("3 + 3")
    until(lambda: find(page, "#count")[0].text.startswith("1 group."))
    find(page, "#search")[0].clear()
    find(page, "#search")[0].send_keys("gnp.exe")
    until(lambda: find(page, "#count")[0].text.startswith("4 groups"))


def test_texts_of_models_are_texts(page: Any) -> None:
    open_group(page, 0)
    spans = [span.get_property("textContent") for span in find(page, ".text[data-row='1'] span")[: len(HOSTILE)]]
    assert spans[0] == HOSTILE[0] and spans[1] == HOSTILE[1] and spans[4] == HOSTILE[4]
    assert spans[2] == "broken �� bytes"
    assert spans[3] == "⟦202E⟧gnp.exe⟦2066⟧⟦200F⟧ال"
    assert spans[5] == "⟦0000⟧⟦001B⟧[31m⟦2028⟧line"
    assert find(page, "main img, main script") == []


def test_held_out_answers_are_shown_without_values(page: Any) -> None:
    choose(page, "split", "held-out problems")
    assert find(page, "#count")[0].text.startswith("2 groups")
    open_group(page, 1)
    assert [each.text for each in find(page, ".response .text")] == ["answer 0 of step 30", "answer 1 of step 30"]
    assert "no values of single tokens" in find(page, ".opened")[0].text


def test_a_trace_over_the_steps(page: Any, folder: Path) -> None:
    find(page, "button[data-view=trace]")[0].click()
    until(lambda: find(page, "#heat-probability"))
    p = np.array([read_group(record_file(folder / "first", step), 0)["old_probability"][0].as_py() for step in STEPS])
    canvas = find(page, "#heat-probability")[0]
    assert (canvas.get_property("height"), canvas.get_property("width")) == p.shape
    change = p[-1] - p[0]
    cells = [cell.text for cell in find(page, "#moved td")]
    assert int(cells[0]) == int(np.abs(change).argmax()) + 1
    assert float(cells[4]) == pytest.approx(change[np.abs(change).argmax()], rel=1e-3)
    facts = hover(page, canvas)
    step, token = STEPS.index(int(facts["step"])), int(facts["token"]) - 1
    assert float(facts["probability"]) == pytest.approx(p[step, token], rel=1e-7)
    assert float(facts["γp/(p+γ)²"]) == pytest.approx(0.1 * p[step, token] / (p[step, token] + 0.1) ** 2, rel=1e-6)
    choose(page, "run", "second")
    until(lambda: find(page, "#gamma") and find(page, "#gamma")[0].get_property("value") == "0.5")


def test_curves_alarms_checkpoints_and_settings_of_two_runs(page: Any) -> None:
    find(page, "button[data-view=run]")[0].click()
    assert [each.text for each in find(page, "figcaption")][:3] == ["held-out", "reward", "entropy (nats a token)"]
    assert [each.text for each in find(page, "#settings td")] == ["luffy.objective.shaping.gamma", "0.1", "0.5", "trainer.seed", "0", "1"]
    said = [each.text for each in find(page, "#alarms td")]
    assert said[:6] == ["first", "7", "rows lost: 1", "first", "12", "actor/grad_norm is nan"]
    reward = find(page, "figure")[1]
    assert len(reward.find_elements("css selector", "path.checkpoint")) == 4
    assert len(reward.find_elements("css selector", "path.alarm")) == 4
    choose(page, "metric", "training/lost_rows")
    assert "training/lost_rows" in [each.text for each in find(page, "figcaption")]


def test_results_by_benchmark_and_sample(page: Any) -> None:
    find(page, "button[data-view=evaluation]")[0].click()
    rows = [[cell.text for cell in row.find_elements("css selector", "td")] for row in find(page, "#benchmarks tr")[1:]]
    assert [row[:4] for row in rows] == [["scored", "own", "3", "12"], ["scored", "aime", "3", "12"]]
    right = [1, 2, 1]  # of the samples 0 to 3 of problems 0, 2 and 4, those with (problem + sample) divisible by 3
    right = [sum((problem + sample) % 3 == 0 for sample in range(4)) for problem in (0, 2, 4)]
    assert rows[0][4].startswith(f"{100 * sum(right) / 12:.1f} (")
    choose(page, "benchmark", "own")
    choose(page, "verdict", "right")
    assert find(page, "#count")[0].text == f"{sum(right)} samples"
    find(page, "tr.group")[-1].click()
    until(lambda: find(page, ".opened .text"))
    assert HOSTILE[4] in [each.get_property("textContent") for each in find(page, ".opened .text")]


def test_a_served_run_shows_what_it_adds(driver: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "going", steps=(10,))
    with make_server(Shown([run]), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened(driver, f"http://127.0.0.1:{server.server_address[1]}/")
        open_group(driver, 0)
        find(driver, "tr.group")[0].click()
        write_record(record_file(run, 20), responses(np.random.default_rng(5), 20, 2, 2, 5))
        until(lambda: driver.execute_script("return index.runs[0].group_step.includes(20)"))
        until(lambda: find(driver, "#step")[0].get_property("max") == "1")
        driver.get("about:blank")
        server.shutdown()
    assert complaints(driver) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 groups of 8 responses of 8 192 tokens, and 100 of short ones."""
    folder = tmp_path_factory.mktemp("large")
    write_record(record_file(folder, 5), responses(np.random.default_rng(0), 5, 15, 8, 8192))
    write_record(record_file(folder, 10), responses(np.random.default_rng(1), 10, 100, 8, 20))
    return folder


def repeat_record(folder: Path, times: int) -> None:
    for number in range(2, times + 1):
        shutil.copy(record_file(folder, 10), record_file(folder, 10 * number))


def opens_fast(driver: Any, url: str | Path, n_groups: int) -> None:
    """The first view is there within two seconds, a group of 8 x 8 192 tokens within five after it is asked for."""
    assert opened(driver, url) < 2000
    assert driver.execute_script("return index.runs[0].group_step.length") == n_groups
    set_step(driver, 0)
    start = time.monotonic()
    open_group(driver, 5)
    assert time.monotonic() - start < 5


@pytest.mark.alone
@pytest.mark.parametrize("most_bytes", [1 << 40, 0], ids=["one file", "files beside it"])
def test_a_page_of_many_groups_opens_fast(driver: Any, large: Path, tmp_path: Path, most_bytes: int) -> None:
    repeat_record(large, 5)
    write_page(Shown([large]), tmp_path / "page.html", most_bytes=most_bytes)
    opens_fast(driver, tmp_path / "page.html", 515)
    assert complaints(driver) == []


@pytest.mark.alone
def test_ten_thousand_groups_are_served_fast(driver: Any, large: Path) -> None:
    repeat_record(large, 100)
    with make_server(Shown([large]), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opens_fast(driver, f"http://127.0.0.1:{server.server_address[1]}/", 10_015)
        find(driver, "#all-steps")[0].click()
        start = time.monotonic()
        choose(driver, "reason", "truncated")
        assert time.monotonic() - start < 5
        driver.get("about:blank")
        server.shutdown()
    assert complaints(driver) == []
