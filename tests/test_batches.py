"""Batches: each result belongs to its image, is saved at once, and is not paid for twice, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ScriptedProvider, failure, picture_bytes, reply

from personalab import LLMPool, Pipeline, load_run, read_card
from personalab.errors import ConfigError, KeyRefused, OutputError
from personalab.images import each_image, open_picture
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.offline.writer import write

NAMES = ("core_persona", "tweet_strategy", "example_tweets", "social_network")


def pictures(folder: Path, count: int, start: int = 0) -> list[Path]:
    """Small images, each of a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(start, start + count):
        path = folder / f"face{number:04d}.png"
        path.write_bytes(picture_bytes((number % 256, number // 256, 90), size=(8, 12)))
        paths.append(path)
    return paths


def belongs(folder: Path, image: Path) -> bool:
    """Whether the card and the run that bear an image's name carry that image's mark."""
    mark = open_picture(image).sha256
    card = read_card(folder / f"{image.stem}_persona.png").extensions["personalab"]["provenance"]
    run = json.loads((folder / f"{image.stem}_run.json").read_bytes())
    return mark == card["picture_sha256"] == run["brief"]["picture"]["sha256"] and run["source"] == str(image)


@pytest.fixture
def scripted(provider: ScriptedProvider, make_pool: Callable[..., LLMPool]) -> Pipeline:
    """A pipeline on the scripted provider, which answers as the embedded one does until told otherwise."""
    provider.script = write
    return Pipeline(make_pool())


async def test_three_images_three_personas(pipeline: Pipeline, tmp_path: Path) -> None:
    """Files and contents match, and each run is on disk before it is given out."""
    images, out = pictures(tmp_path / "in", 3), tmp_path / "out"
    batch = pipeline.run_many(images, out=out)
    async for run in batch:
        assert load_run(out / f"{run.name}_run.json").brief.picture == run.brief.picture.model_copy(
            update={"data": b""}
        )  # type: ignore[union-attr]
    assert all(belongs(out, image) for image in images)
    frame = batch.frame()
    assert list(frame["image"]) == [str(image) for image in images]
    assert list(frame["state"]) == ["made"] * 3
    assert all(load_run(out / f"{image.stem}_run.json")["core_persona"].name == persona
               for image, persona in zip(images, frame["persona"], strict=True))  # fmt: skip


async def test_results_belong_to_their_images_in_any_order(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """Two hundred images under random latency and failures, cancelled in the middle and started again."""
    images, out = pictures(tmp_path / "in", 200), tmp_path / "out"
    chance = random.Random(7)

    async def wait(body: dict[str, Any]) -> None:
        await asyncio.sleep(chance.uniform(0, 0.02))

    def script(body: dict[str, Any]) -> Any:
        drawn = chance.random()
        if drawn < 0.05:
            return failure(429, headers={"retry-after-ms": "5"})
        return (
            failure(503)
            if drawn < 0.1
            else reply("{", finish_reason="length")
            if drawn < 0.15
            else write(body)
        )

    provider.wait, provider.script = wait, script
    async for _ in scripted.run_many(images, out=out):
        if len(list(out.glob("*_run.json"))) >= 60:
            break
    frame = await scripted.run_many(images, out=out).finish()
    assert list(frame["image"]) == [str(image) for image in images]
    assert set(frame["state"]) == {"made", "kept"}
    assert all(belongs(out, image) for image in images)
    assert provider.most_in_flight <= 20


async def test_twenty_at_once(provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path) -> None:
    """The gate fills, and is never overfilled."""
    full = asyncio.Event()

    async def wait(body: dict[str, Any]) -> None:
        if provider.in_flight >= 20:
            full.set()
        await asyncio.wait_for(full.wait(), 30)

    provider.wait = wait
    images = pictures(tmp_path / "in", 20)
    frame = await scripted.run_many(images, out=tmp_path / "out").finish()
    assert set(frame["status"]) == {"done"}
    assert provider.most_in_flight == 20
    assert all(belongs(tmp_path / "out", image) for image in images)


async def test_finished_personas_are_kept(pipeline: Pipeline, tmp_path: Path) -> None:
    """The same batch again sends nothing and writes nothing, also without the cache."""
    images, out = pictures(tmp_path / "in", 3), tmp_path / "out"
    await pipeline.run_many(images, out=out).finish()
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = Pipeline(LLMPool(cache="off"))
    frame = await again.run_many(images, out=out).finish()
    assert list(frame["state"]) == ["kept"] * 3
    assert again.pool.counts.sent == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


async def test_half_finished_personas_go_on(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """What failed is asked again and the rest is taken over from the run, even when the cache is gone."""
    images, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    provider.script = lambda body: "no" if "social_network" in str(body["response_format"]) else write(body)
    frame = await scripted.run_many(images, out=out).finish()
    assert list(frame["status"]) == ["partial", "partial"]
    assert list(frame["state"]) == ["failed", "failed"]
    shutil.rmtree(scripted.pool.cache.folder)
    provider.script, provider.bodies = write, []
    frame = await scripted.run_many(
        [*images, *pictures(tmp_path / "in", 1, 9)], out=out, retry_failed=True
    ).finish()
    assert list(frame["state"]) == ["made", "made", "left"]
    assert [body["response_format"]["json_schema"]["name"] for body in provider.bodies] == [
        "social_network"
    ] * 2


@pytest.mark.parametrize("lost", ["_persona.json", "_persona.png"])
async def test_a_lost_file_is_written_again(pipeline: Pipeline, tmp_path: Path, lost: str) -> None:
    """A card that is gone is made anew from the run, and nothing is paid."""
    (image,), out = pictures(tmp_path / "in", 1), tmp_path / "out"
    await pipeline.run_many([image], out=out).finish()
    content = (out / f"{image.stem}{lost}").read_bytes()
    (out / f"{image.stem}{lost}").unlink()
    again = Pipeline(LLMPool(cache="off"))
    await again.run_many([image], out=out).finish()
    assert ((out / f"{image.stem}{lost}").read_bytes(), again.pool.counts.sent) == (content, 0)


async def test_changed_settings_are_a_run_of_their_own(pipeline: Pipeline, tmp_path: Path) -> None:
    """The row says what differs; the earlier run is set aside; back again costs nothing."""
    (image,), out = pictures(tmp_path / "in", 1), tmp_path / "out"
    await pipeline.run_many([image], out=out).finish()
    first = (out / "face0000_run.json").read_bytes()
    warmer = pipeline.vary("social_network", temperature=1.4)
    frame = await warmer.run_many([image], out=out).finish()
    assert "social_network: sampling.temperature 0.85 → 1.4" in frame["note"][0]
    assert "earlier/face0000-" in frame["note"][0]
    assert frame["calls"][0] == 1
    assert [path.read_bytes() for path in (out / "earlier").glob("*_run.json")] == [first]
    frame = await Pipeline(pipeline.pool, language="Español").run_many([image], out=out).finish()
    assert "language: Español instead of English" in frame["note"][0]
    assert (await pipeline.run_many([image], out=out).finish())["calls"][0] == 0
    image.write_bytes(picture_bytes("navy"))
    assert "the image has changed" in (await pipeline.run_many([image], out=out).finish())["note"][0]


async def test_force_takes_nothing_over(
    provider: ScriptedProvider, make_pool: Callable[..., LLMPool], tmp_path: Path
) -> None:
    """With a pool that asks anew everything is paid again, and the earlier replies are set aside if they differ."""
    provider.script = write
    images, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    await Pipeline(make_pool()).run_many(images, out=out).finish()
    await Pipeline(make_pool(cache="refresh")).run_many(images, out=out, force=True).finish()
    assert len(provider.bodies) == 28


async def test_duplicates_are_made_once(pipeline: Pipeline, tmp_path: Path) -> None:
    """The same bytes, and the same pixels in another file, are one persona; each path has its row."""
    (image,) = pictures(tmp_path / "in", 1)
    copy, metadata = tmp_path / "in" / "copy.png", tmp_path / "in" / "metadata.png"
    shutil.copy(image, copy)
    metadata.write_bytes(picture_bytes((0, 0, 90), size=(8, 12), dpi=(72, 72)))
    assert metadata.read_bytes() != image.read_bytes()
    batch = pipeline.run_many([image, copy, metadata], out=tmp_path / "out")
    runs = [run async for run in batch]
    assert len(runs) == 1
    frame = batch.frame()
    assert sorted(frame["state"]) == ["duplicate", "duplicate", "made"]
    assert frame["persona"].nunique() == 1
    assert len(list((tmp_path / "out").glob("*_run.json"))) == 1


async def test_two_images_of_one_name(pipeline: Pipeline, tmp_path: Path) -> None:
    """Neither overwrites the other, and each is found again."""
    images = [*pictures(tmp_path / "a", 1), *pictures(tmp_path / "b", 1, 300)]
    images[1] = images[1].rename(tmp_path / "b" / "face0000.png")
    out = tmp_path / "out"
    await pipeline.run_many(images, out=out).finish()
    assert len(list(out.glob("*_run.json"))) == len(list(out.glob("*_persona.png"))) == 2
    frame = await Pipeline(LLMPool(cache="off")).run_many(reversed(images), out=out).finish()
    assert list(frame["state"]) == ["kept", "kept"]
    assert len(list(out.glob("*_run.json"))) == 2


async def test_names_that_are_no_text(pipeline: Pipeline, tmp_path: Path) -> None:
    """File names may hold any bytes: each image has a row, a run that says which it was, and is found again."""
    good, other, broken = (
        tmp_path / os.fsdecode(name) for name in (b"a\xff.png", b"a\xfe.png", b"b\xff.png")
    )
    for number, image in enumerate(pictures(tmp_path / "in", 2)):
        image.rename((good, other)[number])
    broken.write_bytes(b"no image")
    out = tmp_path / "out"
    frame = await pipeline.run_many([good, other, broken], out=out).finish()
    assert list(frame["state"]) == ["made", "made", "failed"]
    assert [Path(name).name for name in frame["image"]] == [r"a\xff.png", r"a\xfe.png", r"b\xff.png"]
    sources = {load_run(path).source for path in out.glob("*_run.json")}
    assert sources == {str(tmp_path / name) for name in (r"a\xff.png", r"a\xfe.png", r"b\xff.png")}
    again = await Pipeline(LLMPool(cache="off")).run_many([good, other, broken], out=out).finish()
    assert list(again["state"]) == ["kept", "kept", "failed"]


async def test_a_moved_image_keeps_its_persona(pipeline: Pipeline, tmp_path: Path) -> None:
    """Another picture under its old path gets a name of its own, and the row of the moved one leads to its own card."""
    out = tmp_path / "out"
    (image,) = pictures(tmp_path / "a", 1)
    await pipeline.run_many([image], out=out).finish()
    (tmp_path / "b").mkdir()
    moved = image.rename(tmp_path / "b" / image.name)
    image.write_bytes(picture_bytes("navy"))
    frame = await pipeline.run_many([moved, image], out=out).finish()
    assert list(frame["state"]) == ["kept", "made"]
    marks = [
        read_card(file).extensions["personalab"]["provenance"]["picture_sha256"] for file in frame["file"]
    ]
    assert marks == [open_picture(moved).sha256, open_picture(image).sha256]
    again = await Pipeline(LLMPool(cache="off")).run_many([moved, image], out=out).finish()
    assert list(again["file"]) == list(frame["file"])
    assert list(again["state"]) == ["kept", "kept"]


async def test_a_batch_goes_on_after_an_interrupt(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """Left by `break` or cancelled by the stop button, the same batch is finished later, with a row for every image."""
    images, out = pictures(tmp_path / "in", 12), tmp_path / "out"
    batch = scripted.run_many(images, out=out, window=4)
    async for _ in batch:
        break
    going = asyncio.create_task(batch.finish())
    while len(batch.rows) < 3:
        await asyncio.sleep(0.005)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    frame = await batch.finish()
    assert list(frame["image"]) == [str(image) for image in images]
    assert set(frame["status"]) == {"done"}
    assert batch.counts.sent == len(provider.bodies) <= 84 + 2 * 20
    assert batch.seconds > 0


async def test_interrupts_at_any_moment_lose_no_image(pipeline: Pipeline, tmp_path: Path) -> None:
    """Also one in the moment in which an image is read."""
    images, out = pictures(tmp_path / "in", 25), tmp_path / "out"
    batch = pipeline.run_many(images, out=out, window=3)
    for moment in range(25):
        going = asyncio.create_task(batch.finish())
        await asyncio.wait([going], timeout=moment / 2000)
        going.cancel()
        with suppress(asyncio.CancelledError):
            await going
    frame = await batch.finish()
    assert list(frame["image"]) == [str(image) for image in images]
    assert set(frame["status"]) == {"done"}
    assert all(belongs(out, image) for image in images)


async def test_what_failed_beside_an_older_good_run_is_retried(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """The failed run of new settings counts as failed, though the persona of the old ones lies beside it."""
    images, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    await scripted.run_many(images, out=out).finish()
    warmer = scripted.vary("core_persona", temperature=1.2)
    provider.script = lambda body: "no"
    await warmer.run_many(images[:1], out=out).finish()
    provider.script = write
    frame = await warmer.run_many(images, out=out, retry_failed=True).finish()
    assert list(frame["state"]) == ["made", "left"]
    assert list(out.glob("*-failed_run.json")) == []


async def test_pixels_of_a_finished_image_are_known(pipeline: Pipeline, tmp_path: Path) -> None:
    """Its duplicate in another format stays one on the next run; what the batch wrote into the folder is not read."""
    folder = tmp_path / "in"
    (image,) = pictures(folder, 1)
    (folder / "z.bmp").write_bytes(picture_bytes((0, 0, 90), size=(8, 12), kind="BMP"))
    for state in ("made", "kept"):
        frame = await pipeline.run_many(folder, out=folder).finish()
        assert list(frame["image"]) == [str(image), str(folder / "z.bmp")]
        assert list(frame["state"]) == [state, "duplicate"]


async def test_of_images_with_the_same_pixels_the_first_is_made(pipeline: Pipeline, tmp_path: Path) -> None:
    """However long each takes to decode: a large PNG is slower than the same picture as BMP."""
    images = []
    for number in range(3):
        for kind in ("PNG", "BMP"):
            images.append(tmp_path / f"{number}.{kind.lower()}")
            images[-1].write_bytes(picture_bytes((number, 9, 9), size=(1500, 1500), kind=kind))
    frame = await pipeline.run_many(images, out=tmp_path / "out").finish()
    assert list(frame["state"]) == ["made", "duplicate"] * 3


async def test_folders_globs_and_generators(pipeline: Pipeline, tmp_path: Path) -> None:
    """All are ways to name images; a name that leads nowhere is a row, a single empty folder an error."""
    images = pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "[odd].png").write_bytes(picture_bytes("red"))
    assert list(each_image(tmp_path / "in")) == [tmp_path / "in" / "[odd].png", *images]
    assert list(each_image(str(tmp_path / "in" / "face*.png"))) == images
    assert list(each_image([tmp_path / "in" / "[odd].png"])) == [tmp_path / "in" / "[odd].png"]
    frame = await pipeline.run_many(
        (path for path in [*images, tmp_path / "no*.png"]), out=tmp_path / "o"
    ).finish()
    assert list(frame["state"]) == ["made", "made", "made", "failed"]
    assert "cannot be read" in frame["error"][3]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no image in"):
        pipeline.run_many(tmp_path / "empty")


async def test_a_refused_key_stops_and_keeps(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """What was done before the key was withdrawn is on disk."""
    images, out = pictures(tmp_path / "in", 30), tmp_path / "out"
    provider.script = lambda body: write(body) if len(provider.bodies) < 120 else failure(401)
    with pytest.raises(KeyRefused):
        await scripted.run_many(images, out=out, window=3).finish()
    assert 10 <= len(list(out.glob("*_persona.json"))) < 20


async def test_results_that_cannot_be_written_stop_the_batch(pipeline: Pipeline, tmp_path: Path) -> None:
    """Nothing is paid for when nothing can be kept."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        await pipeline.run_many(pictures(tmp_path / "in", 30), out=tmp_path / "file" / "x").finish()
    assert pipeline.pool.counts.sent == 0


async def test_faulty_replies_end_as_whole_personas(tmp_path: Path) -> None:
    """Three of ten replies are a 429, a server error, a reset, cut off or of the wrong shape: every persona is whole."""
    fault = [
        "rate_limit=0.06",
        "server_error=0.06",
        "reset=0.06",
        "cut_off=0.06",
        "wrong_shape=0.06",
        "retry_after=0.01",
    ]
    with OfflineServer(parse_faults(fault=fault, latency=[])) as server:
        pool = LLMPool(api_base=server.base_url, model="personalab-offline")
        frame = await Pipeline(pool).run_many(pictures(tmp_path / "in", 40), out=tmp_path / "out").finish()
    assert set(frame["status"]) == {"done"}, list(frame["error"].dropna())


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again(tmp_path: Path) -> None:
    """With kill -9: every persona is there in the end, every file whole, and hardly a call is paid twice."""
    images, kills, limit = pictures(tmp_path / "in", 24), 6, 8
    chance = random.Random(11)
    with OfflineServer(parse_faults(fault=[], latency=["0.02..0.08"])) as server:
        environment = os.environ | {
            "OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "personalab-offline", "MAX_CONCURRENT": str(limit),
        }  # fmt: skip
        command = [sys.executable, "-m", "personalab", "persona", str(tmp_path / "in")]
        for _ in range(kills):
            seen = server.ledger.received
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            target = seen + chance.randrange(3, 30)
            while server.ledger.received < target and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        sent = server.ledger.received
    out = tmp_path / "outputs" / "personas"
    assert all(belongs(out, image) for image in images)
    for path in [*out.rglob("*.json"), *(tmp_path / "outputs" / "cache").rglob("*.json")]:
        json.loads(path.read_bytes())
    assert 24 * 7 <= sent <= 24 * 7 + kills * limit


async def test_no_more_tasks_than_the_window(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """Of a generator of images only those are taken that can be under way."""
    taken: list[Path] = []
    made = 0

    def images() -> Any:
        for path in pictures(tmp_path / "in", 60):
            taken.append(path)
            yield path

    batch = scripted.run_many(images(), out=tmp_path / "out", window=5)
    async for _ in batch:
        made += 1
        assert len(taken) - made <= 6
    assert made == 60
