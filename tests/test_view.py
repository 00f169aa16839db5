"""The page of runs and results without a browser: what it is made of, what it refuses, and the server on loopback."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_run import HOSTILE, responses, write_results, write_run

from luffy.errors import InputError
from luffy.record import FACTS, TOKENS, VALUES, read_group, record_file, write_record
from luffy.safety import SafetyConfig
from luffy.view.chunks import TYPES
from luffy.view.page import Shown, write_page
from luffy.view.runs import alarms
from luffy.view.server import make_server

ROOT = Path(__file__).resolve().parent.parent
RECORD = pa.schema([*FACTS, *TOKENS])


def unpacked(chunk: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """A chunk, read by the format's description alone."""
    data = gzip.decompress(chunk)
    size = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + size])
    body = data[4 + size :]
    return header, {
        name: np.frombuffer(body, dtype=TYPES[kind], count=length, offset=offset)
        for name, (kind, offset, length) in header["arrays"].items()
    }


def in_page(page: Path, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """A chunk of a page."""
    return unpacked(base64.b64decode(re.search(rf'id="{name}">([^<]*)<', page.read_text(encoding="utf-8"))[1]))


def test_a_page_holds_every_group_with_the_numbers_of_its_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", n_groups=2, n_rows=3)
    assert write_page(Shown([run]), tmp_path / "page.html") == [tmp_path / "page.html"]
    header, arrays = in_page(tmp_path / "page.html", "index")
    assert [run["name"] for run in header["runs"]] == ["run"]
    assert arrays["runs0.group_step"].tolist() == [10, 10, 20, 20, 30, 30, 30, 30]
    assert arrays["runs0.group_held_out"].tolist() == [0] * 6 + [1] * 2
    header, arrays = in_page(tmp_path / "page.html", "runs-0-3")
    table = read_group(record_file(run, 20), 1)
    assert header["starts"] == [0, *np.cumsum([len(each) for each in table["tokens"].to_pylist()]).tolist()]
    for name in VALUES:
        assert arrays[name].tolist() == [value for row in table[name].to_pylist() for value in row], name
    assert [header["vocabulary"][each] for each in arrays["token"]] == [token for row in table["tokens"].to_pylist() for token in row]
    header, arrays = in_page(tmp_path / "page.html", "runs-0-6")
    assert np.isnan(arrays["loss"]).all() and header["rows"][0]["advantage"] is None


def test_a_file_of_a_run_that_is_given_too_is_shown_once(tmp_path: Path) -> None:
    write_run(tmp_path / "run", steps=(10,))
    write_results(tmp_path / "run" / "heldout.jsonl")
    write_results(tmp_path / "run" / "heldout_2.jsonl")
    shown = Shown([tmp_path / "run", tmp_path / "run" / "heldout.jsonl"])
    assert [result.name for result in shown.results] == ["run: heldout_2", "heldout"]


def test_no_text_of_a_model_is_in_the_page_as_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run<script>alert(1)</script>", hostile=True)
    results = write_results(tmp_path / "results.jsonl")
    write_page(Shown([run, results]), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not [each for each in (*HOSTILE, "<script>alert") if each.replace("\udc80", "") in text]
    assert re.findall(r'<script nonce="\w+">', text) == re.findall(r"<script(?! type=.text/plain. id)[^>]*>", text)


def test_scripts_make_no_markup_of_texts() -> None:
    for file in (ROOT / "luffy" / "view" / "page").glob("*.js"):
        script = file.read_text(encoding="utf-8")
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|http:(?!//www\.w3\.org)|https:", script
        ), file


def test_chunks_of_a_large_run_are_files_beside_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    page, folder = write_page(Shown([run]), tmp_path / "page.html", most_bytes=1000)
    assert len(list(folder.glob("*.js"))) == 14
    assert 'id="runs-0-0"' not in page.read_text() and f'data-folder="{folder.name}"' in page.read_text()
    assert write_page(Shown([run]), tmp_path / "page.html") == [page] and not folder.exists()
    folder.mkdir()
    (folder / "mine.txt").write_text("not yours")
    with pytest.raises(InputError, match="in the way"):
        write_page(Shown([run]), tmp_path / "page.html", most_bytes=1000)
    assert (folder / "mine.txt").exists()


def test_what_cannot_be_shown_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has neither metrics"):
        Shown([tmp_path / "empty"])
    with pytest.raises(InputError, match="no such file"):
        Shown([tmp_path / "nothing"])
    run = write_run(tmp_path / "a" / "run")
    with pytest.raises(InputError, match="two of what is shown are called run"):
        Shown([run, write_run(tmp_path / "b" / "run")])
    with pytest.raises(InputError, match="1 names for 2"):
        Shown([run, run], ["one"])
    done = subprocess.run(
        [sys.executable, "eval_scripts/view.py", str(tmp_path / "empty")], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.jsonl", b'{"step": 1, "data": {"a\xe9": 1}}\n', "metrics.jsonl: line 1 is not"),
        ("metrics.jsonl", b"[" * 100_000 + b"\n", "metrics.jsonl: line 1 is not"),
        ("config.yaml", b"a: &a {b: *a}\n", "config.yaml: is nested without end"),
        (
            "config.yaml",
            b"a: &a0 {x: 1, y: 2}\n" + b"".join(b"k%d: &a%d {x: *a%d, y: *a%d}\n" % (n, n, n - 1, n - 1) for n in range(1, 40)),
            "config.yaml: has more than 20000 settings",
        ),
    ],
)
def test_a_broken_file_of_a_run_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        Shown([run]).index()


def test_metrics_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    key = "val-core/sums/acc/mean@8"
    huge = "9" * 400
    lines = (
        f'{{"step": 1, "data": {{"{key}": null, "a": {huge}}}}}',
        f'{{"step": 2, "data": {{"{key}": "x"}}}}',
        f'{{"step": 3, "data": {{"{key}": 0.5}}}}',
    )
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    shown, _ = unpacked(Shown([run]).index())
    assert shown["runs"][0]["curves"]["held-out avg@8"] == [[3], [0.5]]
    assert shown["runs"][0]["alarms"] == [{"step": 1, "text": "a is inf"}]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({name: ["x"] for name in RECORD.names}), "column gradient_share is of another type"),
        (pa.Table.from_pylist([], schema=RECORD), "a group without responses"),
        (pa.Table.from_pylist([dict.fromkeys(RECORD.names)], schema=RECORD), "a text is null"),
    ],
)
def test_a_file_that_only_looks_like_a_record(tmp_path: Path, table: pa.Table, says: str) -> None:
    run = write_run(tmp_path / "run")
    pq.write_table(table, record_file(run, 50))
    header, _ = unpacked(Shown([run]).index())
    assert header["runs"][0]["alarms"][0]["step"] == 50 and says in header["runs"][0]["alarms"][0]["text"]


def harm_tokens(file: Path) -> None:
    """Change a byte in the first group's tokens, which only reading them shows."""
    column = pq.ParquetFile(file).metadata.row_group(0).column(len(FACTS))
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize(
    "harm", [lambda file: file.write_bytes(b"no parquet"), lambda file: file.write_bytes(file.read_bytes()[:-20]), harm_tokens]
)
def test_a_broken_record_is_named_and_the_others_are_shown(tmp_path: Path, harm, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(tmp_path / "run", n_groups=2, n_rows=3)
    harm(record_file(run, 20))
    write_page(Shown([run]), tmp_path / "page.html")
    header, arrays = in_page(tmp_path / "page.html", "index")
    assert arrays["runs0.group_step"].tolist() == [10, 10, 30, 30, 30, 30]
    alarm = header["runs"][0]["alarms"][0]
    assert alarm["step"] == 20 and alarm["text"].startswith(f"groups not shown: {record_file(run, 20)}: cannot be read as parquet")
    assert str(record_file(run, 20)) in caplog.text
    assert in_page(tmp_path / "page.html", "runs-0-5")[0]["rows"]


def test_a_page_takes_the_place_of_no_other_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="give it a name that ends with .html"):
        write_page(Shown([run]), run / "metrics.jsonl")
    assert (run / "metrics.jsonl").read_bytes() == before


def test_alarms_are_what_a_person_should_look_at() -> None:
    records = [{"step": 0, "data": {"actor/loss": 0.5}}, {"step": 1, "data": {"actor/loss": float("nan"), "training/lost_rows": 0}}]
    records += [{"step": step, "data": {"training/lost_rows": int(step == 2), "on_policy/reward": 0.0}} for step in (2, 3, 4)]
    said = [(each["step"], each["text"]) for each in alarms(records, SafetyConfig(alarm_steps=3))]
    assert said[:2] == [(1, "actor/loss is nan"), (2, "rows lost: 1")]
    assert [step for step, _ in said[2:]] == [4] and said[2][1].startswith("for 3 steps ")


@contextmanager
def served(shown: Shown) -> Iterator[int]:
    """A server of the project's, and its port."""
    with make_server(shown, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def asked(port: int, path: str, host: str | None = None) -> tuple[int, bytes, str | None]:
    """Status, body and version of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers["X-Version"]
    connection.close()
    return found


def test_the_server_serves_this_machine_and_nothing_but_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with served(Shown([run])) as port:
        assert asked(port, "/")[0] == 200
        status, index, version = asked(port, "/index")
        assert (status, version) == (200, "1") and unpacked(index)[0]["runs"][0]["name"] == "run"
        assert unpacked(asked(port, "/chunk/runs-0-1?1")[1])[0]["prompt"].endswith("what is 1 + 1?<|assistant|>")
        assert asked(port, "/", host="evil.example")[0] == 403
        assert asked(port, "/index", host="evil.example:80")[0] == 403
        for path in (
            "/../run/config.yaml",
            "/config.yaml",
            "//etc/passwd",
            "/chunk/runs-0-..%2f?1",
            "/chunk/runs-9-0?1",
            "/chunk/runs-0-99?1",
        ):
            assert asked(port, path)[0] == 404, path
        with pytest.raises(InputError, match="cannot be served"):
            make_server(Shown([run]), port)


def test_the_server_says_what_became_of_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with served(Shown([run])) as port:
        assert asked(port, "/index")[0] == 200
        run.rename(tmp_path / "moved")
        status, said, _ = asked(port, "/index")
        assert status == 503 and b"no such f" in said
        assert asked(port, "/chunk/runs-0-0?1")[0] == 404
        (tmp_path / "moved").rename(run)
        assert asked(port, "/index")[0] == 200


def test_the_server_shows_what_a_run_adds(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with served(Shown([run])) as port:
        assert asked(port, "/index")[2] == "1"
        write_record(record_file(run, 40), responses(np.random.default_rng(0), 40, 2, 2, 5))
        _, index, version = asked(port, "/index")
        assert version == "2" and unpacked(index)[1]["runs0.group_step"].tolist()[-2:] == [40, 40]
        assert asked(port, "/chunk/runs-0-1?1")[0] == 409
        assert asked(port, "/chunk/runs-0-1?2")[0] == 200


MACHADO = {  # linear RGB as people without one kind of cone see it (Machado, Oliveira and Fernandes 2009, severity 1)
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def scale(name: str) -> np.ndarray:
    """The stops of a scale of colours, [N, 3] in linear RGB."""
    script = (ROOT / "luffy" / "view" / "page" / "colours.js").read_text(encoding="utf-8")
    stops = np.array(json.loads(re.search(rf"const {name} = (\[\[.*?\]\]);", script)[1])) / 255
    return np.where(stops <= 0.04045, stops / 12.92, ((stops + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("kind", MACHADO)
def test_colours_keep_their_order_for_every_kind_of_colour_vision(kind: str) -> None:
    matrix, luminance = np.array(MACHADO[kind]), np.array([0.2126, 0.7152, 0.0722])
    amount = (scale("AMOUNT") @ matrix.T).clip(0, 1) @ luminance
    assert (np.diff(amount) < -0.01).all()
    signed = (scale("SIGNED") @ matrix.T).clip(0, 1)
    middle = len(signed) // 2
    assert (np.diff(signed @ luminance)[:middle] > 0).all() and (np.diff(signed @ luminance)[middle:] < 0).all()
    for step in range(1, middle + 1):  # what is as far below 0 as another is above it has another colour
        assert np.abs(signed[middle - step] - signed[middle + step]).max() > 0.1
