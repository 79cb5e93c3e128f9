"""A share of the trials of `make trials`: every kind, every job, on one seed. `docs/reliability.md` has the figures of all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from condvest.errors import TransientError
from condvest.storage import objects
from condvest.storage.pacing import Patience
from faults import database, network
from faults.controls import CONTROLS, caught
from faults.grounds import Grounds, Servers
from faults.lakes import Address, temporary_lakes
from faults.network import blackhole
from faults.nursery import Request
from faults.outcome import different, outcome_of
from faults.races import RACES
from faults.scenarios import SCENARIOS
from faults.stops import Verdict
from servers.faulty_proxy import running_proxy
from servers.postgres import PostgresServer
from servers.seaweed import BUCKET, S3Server

#: The seed of these; the long run takes others too.
SEED = 1


@pytest.fixture(scope="module")
def grounds(s3_server: S3Server, postgres_server: PostgresServer) -> Iterator[Grounds]:
    """Where trials take place."""
    with pytest.MonkeyPatch.context() as environ, Grounds(Servers(s3_server, postgres_server)) as made:
        for name, value in s3_server.environment().items():
            environ.setenv(name, value)
        yield made


def assert_good(verdicts: list[Verdict], *, at_least: int = 1) -> None:
    """Every trial did what it is for, nothing was lost, and nothing differs from a clean run."""
    assert len(verdicts) >= at_least
    assert [(verdict.name, verdict.problems) for verdict in verdicts if verdict.problems] == []
    assert all(verdict.rows for verdict in verdicts)


def test_a_bug_in_a_process_is_not_taken_for_its_kill(grounds: Grounds) -> None:
    """A kill is what most trials expect: a process that ends by any other error must not pass for killed."""
    child = grounds.nursery.start(Request(Address("", ""), "no such scenario", SEED, "run"))
    child.listen()
    assert child.ended == "failed"  # the address is none
    child = grounds.nursery.start(Request(Address("", ""), "run", SEED, "run", environment={"A\0": "a bug"}))
    child.listen()
    assert (child.ended, "ValueError: embedded null byte" in child.said) == ("broken", True)


@pytest.mark.parametrize("job", SCENARIOS)
def test_a_job_that_is_stopped_at_any_write_and_run_again_ends_as_a_clean_run(grounds: Grounds, job: str) -> None:
    """Rule 5, at every write in turn; and stopped again and again, with the clock going on."""
    assert_good(grounds.each("stop", "folder", job, SEED))
    assert_good([grounds.one(f"stops/folder/{job}/{SEED}/{chance}") for chance in range(3)])


@pytest.mark.parametrize("job", ["fetch-morning", "backfill", "consolidate", "resample", "run"])
def test_a_process_that_is_killed_and_run_again_ends_as_a_clean_run(grounds: Grounds, job: str) -> None:
    """SIGKILL at some writes, between two calls of a batch, and at any moment."""
    assert_good([grounds.one(f"kill/folder/{job}/{SEED}/{number}") for number in (0, 2, 4, 8)], at_least=4)
    assert_good([grounds.one(f"torn/folder/{job}/{SEED}/{number}") for number in (3, 11)])
    assert_good([grounds.one(f"moment/folder/{job}/{SEED}/{chance}") for chance in range(2)])


@pytest.mark.s3
@pytest.mark.parametrize("job", ["fetch-morning", "consolidate"])
def test_a_process_that_is_killed_on_s3_ends_as_a_clean_run(grounds: Grounds, job: str) -> None:
    """The same on S3."""
    assert_good([grounds.one(f"kill/s3/{job}/{SEED}/{number}") for number in (1, 4)])


@pytest.mark.parametrize("race", range(len(RACES)), ids=[f"{lake}:{'+'.join(jobs)}" for lake, jobs in RACES])
def test_processes_on_one_lake_lose_nothing(grounds: Grounds, race: int) -> None:
    """Rule 6: taking turns step by step, one held while the others run, and freely; each ends well."""
    names = [f"race/folder/{race}/0", f"overtaken/folder/{race}/4", f"free/folder/{race}/0"]
    assert_good([grounds.one(name) for name in names])


@pytest.mark.s3
@pytest.mark.parametrize("race", [0, 4, 7, 12])
def test_processes_on_one_lake_on_s3_lose_nothing(grounds: Grounds, race: int) -> None:
    """The same on S3."""
    assert_good([grounds.one(f"race/s3/{race}/0"), grounds.one(f"free/s3/{race}/0")])


@pytest.mark.s3
@pytest.mark.parametrize("job", ["fetch-morning", "consolidate", "run"])
def test_bad_weather_is_got_through(grounds: Grounds, job: str) -> None:
    """Requests and answers are lost, late, cut and spoiled: what was there stays, and in fair weather the rest comes."""
    assert job in network.JOBS
    assert_good([grounds.one(f"storm/{job}/{SEED}/1")])


@pytest.mark.s3
def test_a_server_that_never_answers_is_given_up(
    grounds: Grounds, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's patience ends (here: soon), the job says so, and does its work when the server answers again."""
    monkeypatch.setattr(objects, "_CLIENT", {"connect_timeout": "1s", "timeout": "300ms", "read_timeout": "300ms"})
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=2))
    lakes, job = grounds.lakes("s3"), SCENARIOS["consolidate"]
    with (
        running_proxy(s3_server.endpoint_url) as proxy,
        lakes.copy(job.name, SEED) as address,
        address.site(job.name, SEED) as site,
    ):
        direct, site.store = site.store, address.store(endpoint_url=proxy.url)
        blackhole(proxy, 1.0)
        with pytest.raises(TransientError):
            job.job(site)
        site.store = direct
        job.job(site)
        found = outcome_of(site)
    with lakes.copy(job.name, SEED) as address, address.site(job.name, SEED) as site:
        job.job(site)
        assert different(found, outcome_of(site)) == []


@pytest.mark.parametrize("how", ["io", "full"])
@pytest.mark.parametrize("job", ["fetch-morning", "fetch-old", "consolidate", "vacuum", "resample"])
def test_a_disk_that_fails_is_said_and_loses_nothing(grounds: Grounds, job: str, how: str) -> None:
    """No space, an input/output error: the job ends with an error of ours, and the next run completes it."""
    assert_good(grounds.each("disk", "folder", job, SEED, how, step=7))


@pytest.mark.postgres
@pytest.mark.parametrize("moment", ["lost", "unanswered"])
@pytest.mark.parametrize("job", database.JOBS)
def test_a_database_that_is_cut_off_is_said_and_loses_nothing(grounds: Grounds, job: str, moment: str) -> None:
    """In the middle of a transaction, and when the answer to its commit is lost."""
    assert_good(grounds.each("database", "folder", job, SEED, moment, step=9))


@pytest.mark.parametrize("control", CONTROLS)
def test_a_broken_variant_is_caught(grounds: Grounds, control: str) -> None:
    """Null controls: trials that a broken variant passes would prove nothing."""
    assert caught(grounds, control) is not None


@pytest.mark.parametrize(
    "name",
    [
        f"stops/folder/run/{SEED}/3",
        "race/folder/13/2",
        "overtaken/folder/27/9",
        f"kill/folder/consolidate/{SEED}/5",
        f"disk/backfill/{SEED}/full/20",
        pytest.param(f"storm/fetch-old/{SEED}/1", marks=pytest.mark.s3),
    ],
)
def test_the_same_name_gives_the_same_trial(grounds: Grounds, name: str) -> None:
    """Every step, stop and fault comes again, so that a failure can be looked at as often as need be."""
    first, second = grounds.one(name), grounds.one(name)
    assert first.trace
    assert (first.trace, first.stops, first.problems) == (second.trace, second.stops, second.problems)


def test_copies_of_a_lake_share_no_file_that_is_written(grounds: Grounds) -> None:
    """The trials' own premise: a copy is as its original was, and what a job does to it touches no other."""
    lakes = grounds.lakes("folder")
    with lakes.copy("run", SEED) as address, address.site("run", SEED) as site:
        before = outcome_of(site)
        SCENARIOS["run"].job(site)
        assert different(outcome_of(site), before)
    with lakes.copy("run", SEED) as address, address.site("run", SEED) as site:
        assert different(outcome_of(site), before) == []


def test_lakes_go_with_their_block() -> None:
    """Nothing of a trial is left on the machine."""
    with temporary_lakes(f"s3://{BUCKET}/none") as lakes:
        folder = lakes.folder
        assert folder.exists()
    assert not folder.exists()
