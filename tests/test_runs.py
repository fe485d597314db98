"""Runs on disk: whole files, names that never clash, loading again, hostile text, how a run looks."""

from __future__ import annotations

import json
import subprocess
import sys
from html import escape
from pathlib import Path

import pandas as pd
import pytest
from conftest import PORTRAITS, picture_bytes
from PIL import Image

from personalab import LLMPool, Pipeline, Run, find_runs, load_run, read_card
from personalab.errors import OutputError, PersonalabError
from personalab.files import write_whole
from personalab.frames import as_table, stages_df
from personalab.records import Usage

TURBAN = PORTRAITS / "teal_turban.png"


@pytest.fixture
async def run(pipeline: Pipeline) -> Run:
    """A finished run."""
    return await pipeline.run(TURBAN)


async def test_what_is_saved_can_be_loaded(run: Run, tmp_path: Path) -> None:
    """Run, card and portrait; the loaded run equals the saved one."""
    saved = run.save(tmp_path / "personas")
    assert [path.name for path in (saved.run, saved.card, saved.portrait) if path] == [
        "teal_turban_run.json",
        "teal_turban_persona.json",
        "teal_turban_persona.png",
    ]
    loaded = load_run(saved.run)
    assert loaded.model_dump() == run.model_dump()
    assert loaded["core_persona"] == run["core_persona"]
    assert loaded.card.to_json() == run.card.to_json()
    assert saved.card is not None
    assert read_card(saved.card).document["spec"] == "chara_card_v2"
    assert saved.portrait is not None
    assert read_card(saved.portrait).document["spec"] == "chara_card_v3"
    assert Image.open(saved.portrait).size == (512, 768)
    assert [found.name for found in find_runs(tmp_path / "personas")] == ["teal_turban"]


async def test_the_run_file_tells_everything(run: Run, tmp_path: Path) -> None:
    """Prompt, template hash, sampling, usage, attempts, seconds, times: there is no second log."""
    stored = json.loads(run.save(tmp_path).run.read_bytes())
    record = stored["stages"]["tweet_strategy"]
    assert (
        "Tweet" in record["request"]["messages"][0]["text"]
        or "tweet" in record["request"]["messages"][0]["text"]
    )
    assert record["prompt"] == "tweet_strategy.md"
    assert len(record["prompt_sha256"]) == len(record["key"]) == 64
    assert record["request"]["sampling"]["temperature"] == 0.85
    assert record["reply"]["usage"]["output_tokens"] > 0
    assert record["reply"]["attempts"] == 1
    assert 0 < record["started"] <= record["ended"] <= stored["seconds"]
    assert stored["card_tokens"]["first_mes"] > 0


async def test_the_same_image_gets_one_file_another_of_its_name_its_own(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Nothing is overwritten by another image; the same image, and the same file with new pixels, is."""
    one, other = tmp_path / "a" / "face.png", tmp_path / "b" / "face.png"
    for path, colour in ((one, "teal"), (other, "crimson")):
        path.parent.mkdir()
        path.write_bytes(picture_bytes(colour))
    out = tmp_path / "out"
    for path in (one, other, one, other):
        (await pipeline.run(path)).save(out)
    assert len(list(out.glob("*_run.json"))) == len(list(out.glob("*_persona.png"))) == 2
    one.write_bytes(picture_bytes("navy"))
    (await pipeline.run(one)).save(out)
    assert len(list(out.glob("*_run.json"))) == 2


async def test_the_same_persona_is_the_same_bytes(pipeline: Pipeline, tmp_path: Path) -> None:
    """Made twice, from the cache and anew: JSON and PNG are equal."""
    anew = Pipeline(LLMPool(cache_dir=tmp_path / "another"))
    first, second = (
        (await pipeline.run(TURBAN)).save(tmp_path / "1"),
        (await anew.run(TURBAN)).save(tmp_path / "2"),
    )
    for one, other in ((first.card, second.card), (first.portrait, second.portrait)):
        assert one is not None
        assert other is not None
        assert one.read_bytes() == other.read_bytes()


async def test_usage_is_what_was_paid(pipeline: Pipeline) -> None:
    """A run from the cache cost nothing, and unknown stays unknown."""
    assert ((await pipeline.run(TURBAN)).paid.tokens or 0) > 0
    again = await pipeline.run(TURBAN)
    assert (again.paid, again.calls) == (Usage(), 0)
    assert (Usage(input_tokens=None, output_tokens=1) + Usage(input_tokens=2, output_tokens=2)) == Usage(
        input_tokens=None, output_tokens=3
    )


def test_files_that_are_no_runs(tmp_path: Path) -> None:
    """Missing, no JSON, another JSON: an error that names the file."""
    for name, content in (("a", None), ("b", "{"), ("c", '{"name": 1}'), ("d", "[]")):
        path = tmp_path / f"{name}_run.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(OutputError, match=f"{name}_run.json"):
            load_run(path)


async def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    """The error says where, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        run.save(tmp_path / "file" / "personas")


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    """A process killed at any moment of writing leaves the old content or the new, and no reader sees a part."""
    path = tmp_path / "file.json"
    code = (
        "import sys; from pathlib import Path; from personalab.files import write_whole\n"
        "print('go', flush=True)\n"
        "while True:\n"
        "    for letter in b'ab': write_whole(Path(sys.argv[1]), bytes([letter]) * 3_000_000)"
    )
    write_whole(path, b"a" * 3_000_000)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(20):
            content = path.read_bytes()
            assert len(content) == 3_000_000
            assert len(set(content)) == 1
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert len(set(path.read_bytes())) == 1


async def test_hostile_text_shows_as_text(run: Run) -> None:
    """Markup and control characters of a model do nothing in a notebook or a terminal."""
    core = run["core_persona"].model_copy(
        update={"description": "<script>alert(1)</script>\x1b[2J\u202e", "name": "<img src=x onerror=y>"}
    )
    record = run.stages["core_persona"].model_copy(update={"output": core})
    hostile = run.model_copy(update={"stages": {**run.stages, "core_persona": record}})
    html, text = hostile._repr_html_(), str(hostile)
    assert "<script" not in html.replace("&lt;script", "")
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in text
    assert "\u202e" not in text


async def test_a_run_shows_itself(run: Run) -> None:
    """Portrait, name, tweets and network are to be seen, and that it is AI-made."""
    html, text = run._repr_html_(), str(run)
    assert "data:image/png;base64," in html
    for shown in (run["core_persona"].name, run["social_network"].close_friends[0].name, "AI-made"):
        assert shown.replace("'", "&#x27;") in html
        assert shown in text
    assert "portrait=" not in repr(run)
    assert "<hr></details>" not in html


async def test_tables_are_for_reading(run: Run) -> None:
    """Text is whole and on the left, the items of a list stand on lines of their own, and HTML stays text."""
    network = run["social_network"]
    hostile = network.close_friends[0].model_copy(
        update={"contact": "<script>", "memorable_moments": ("one moment", "two " * 99)}
    )
    html = as_table([hostile, *network.past_relationships]).to_html()
    assert "&lt;script&gt;" in html
    assert "one moment\n" + "two " * 99 in html
    assert "text-align: left" in html
    assert "mathjax_ignore" in html  # dollars are money, and no formula
    assert "overflow-wrap: break-word" in html  # a name is not cut within a word
    shown = as_table(
        pd.DataFrame({"card": [str(PORTRAITS / "felt_hat.png"), "<b>none"], "n": [1, 2]}), pictures="card"
    )
    assert shown.to_html().count("<img") == 1
    assert "<b>" not in shown.to_html()
    frame = as_table(stages_df(run)[["stage", "temperature", "cached"]]).to_html()
    assert "0.85" in frame
    assert "False" in frame


async def test_prompts_and_outputs_show_themselves(run: Run) -> None:
    """As text that is wrapped between words, escaped."""
    request = run.stages["core_persona"].request
    assert request is not None
    for shown in (request, run["authenticity"], run["core_persona"]):
        html = shown._repr_html_()
        assert "word-break:normal" in html
        assert escape(str(shown)) in html
    assert "<START>" not in run["core_persona"]._repr_html_()


async def test_a_failed_run_never_replaces_a_good_one(pipeline: Pipeline, tmp_path: Path) -> None:
    """It lies beside it under a name of its own, until the next one succeeds."""
    image = tmp_path / "face.png"
    image.write_bytes(picture_bytes())
    out = tmp_path / "out"
    (await pipeline.run(image)).save(out)
    good = (out / "face_run.json").read_bytes()
    image.write_bytes(b"text")
    (failed,) = [run async for run in pipeline.run_many([image])]
    assert failed.save(out).run.name == "face-failed_run.json"
    assert (out / "face_run.json").read_bytes() == good
    assert load_run(out / "face-failed_run.json").portrait is None
    image.write_bytes(picture_bytes())
    (await pipeline.run(image)).save(out)
    assert sorted(path.name for path in out.glob("*.json")) == ["face_persona.json", "face_run.json"]


async def test_two_broken_images_of_one_name(pipeline: Pipeline, tmp_path: Path) -> None:
    """Each keeps its own error."""
    paths = [tmp_path / folder / "x.png" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(f"text {path.parent.name}".encode())
    await pipeline.run_many(paths, out=tmp_path / "out").finish()
    assert len(list((tmp_path / "out").glob("*_run.json"))) == 2


async def test_a_run_of_a_newer_version_is_not_overwritten(pipeline: Pipeline, tmp_path: Path) -> None:
    """A file that is JSON but not ours to read counts as somebody's; one that is no JSON holds nothing to lose."""
    saved = (await pipeline.run(TURBAN)).save(tmp_path)
    newer = json.loads(saved.run.read_bytes())
    newer["brief"]["mood"] = "new"
    saved.run.write_text(json.dumps(newer))
    assert (await pipeline.run(TURBAN)).save(tmp_path).run != saved.run
    with pytest.warns(UserWarning, match="teal_turban_run.json"):
        assert len(list(find_runs(tmp_path))) == 1


async def test_a_loaded_run_goes_on(pipeline: Pipeline, tmp_path: Path) -> None:
    """Its pixels come back from the portrait, so the first stage can be run again and is in the cache."""
    loaded = load_run((await pipeline.run(TURBAN)).save(tmp_path).run)
    before = pipeline.pool.counts.sent
    again = await pipeline.advance(loaded, "core_persona")
    assert (pipeline.pool.counts.sent, again.stages["core_persona"].key) == (
        before,
        loaded.stages["core_persona"].key,
    )
    warmer = await pipeline.vary("core_persona", temperature=1.4).advance(loaded, "core_persona")
    assert warmer["core_persona"] != loaded["core_persona"]
    assert set(warmer.outputs) == {"core_persona"}  # what was made from the old one is dropped
    bare = loaded.model_copy(update={"portrait": None})
    with pytest.raises(PersonalabError, match="has no pixels here"):
        await pipeline.vary("core_persona", temperature=1.3).advance(bare, "core_persona")


def test_a_save_that_fails_does_not_block_the_next(tmp_path: Path) -> None:
    """The folder's lock is given back whatever happens."""
    code = (
        "import asyncio, sys; from pathlib import Path; from personalab import Pipeline, LLMPool\n"
        "from personalab.errors import OutputError\n"
        "out = Path('out'); run = asyncio.run(Pipeline(LLMPool()).run(sys.argv[1]))\n"
        "(out / 'teal_turban_persona.json').mkdir(parents=True)\n"
        "kept = None\n"
        "try: run.save(out)\n"
        "except OutputError as error: kept = error\n"
        "assert kept\n"
        "(out / 'teal_turban_persona.json').rmdir()\n"
        "run.save(out)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(TURBAN)], check=True, timeout=50, cwd=tmp_path)
