"""Builds clients and backends, plays the scenarios and says what held."""

import argparse
import collections
import concurrent.futures
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import time
import traceback

import languages
import process
import scenarios
from certificates import Authority
from expect import Absent, Broken
from stage import Stage

_ROW = "{:8}{:8}{:46}{}"


def main():
    flags = argparse.ArgumentParser(prog="tests/interop/run", description=__doc__)
    known = ", ".join(language.name for language in languages.ALL)
    flags.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"{known}; all if absent")
    flags.add_argument("--filter", default="", help="only scenarios whose name has this in it")
    flags.add_argument("--lookaside", type=pathlib.Path, help="use this balancer instead of building one")
    flags.add_argument("--jobs", type=int, default=3, help="languages played at a time (default 3)")
    flags.add_argument("--list", action="store_true", help="name the scenarios and end")
    flags = flags.parse_args()
    if flags.list:
        for scenario in scenarios.ALL:
            print(f"{scenario.__name__}: {' '.join(scenario.__doc__.split())}")
        return 0
    unknown = set(flags.languages) - {language.name for language in languages.ALL}
    if unknown:
        print(f"no such language: {', '.join(unknown)}; there are {known}", file=sys.stderr)
        return 2

    process.end_all_on_signal()
    languages.BUILD.mkdir(exist_ok=True)
    shutil.rmtree(languages.BUILD / "logs", ignore_errors=True)
    logs = languages.BUILD / "logs"
    logs.mkdir()
    wanted = [x for x in languages.ALL if not flags.languages or x.name in flags.languages]
    results = Results()
    try:
        playable = [language for language in wanted if prepare(language, logs, results)]
        binaries = build_ours(flags.lookaside)
        authority = Authority(logs)
        by_name = {language.name: language for language in playable}
        made = functools.partial(Stage, languages=by_name, binaries=binaries, authority=authority)
        with concurrent.futures.ThreadPoolExecutor(max(1, flags.jobs)) as pool:
            played = [
                pool.submit(play, language, flags.filter, made, logs, results)
                for language in playable
            ]
            for one in played:
                one.result()
    finally:
        process.end_all()
    return results.close()


def prepare(language, logs, results):
    """Builds a client and a backend; false if they cannot be played."""
    absent = language.missing()
    if absent:
        results.lacks(language.name, f"{absent} is absent")
        return False
    began = time.monotonic()
    log = logs / f"{language.name}-build.log"
    try:
        language.build(log)
    except (subprocess.SubprocessError, OSError) as error:
        tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        results.fail(language.name, "build", f"{error}\n{tail}")
        return False
    print(f"{language.name}: ready ({time.monotonic() - began:.0f} s)", flush=True)
    return True


def build_ours(lookaside):
    """The balancer and the backend, by name."""
    wanted = ["-p", "lookaside-tests", "--bin", "interop-backend"]
    if not lookaside:
        wanted += ["-p", "lookaside-server", "--bin", "lookaside"]
    binaries = languages.cargo_build(*wanted)
    return binaries | {"lookaside": lookaside} if lookaside else binaries


def play(language, only, made, logs, results):
    """Every scenario of a language, one after another."""
    for scenario in scenarios.ALL:
        name = scenario.__name__
        speaks = getattr(scenario, "languages", languages.CLIENTS)
        if only not in name or language.name not in speaks:
            continue
        folder = logs / f"{language.name}-{name}"
        folder.mkdir()
        began = time.monotonic()
        try:
            with made(language, folder=folder) as stage:
                seen = scenario(stage)
        except Absent as absent:
            results.skip(language.name, name, str(absent))
        except (Broken, process.Died) as broken:
            results.fail(language.name, name, f"{broken}\n  logs: {folder}")
        except Exception:  # A scenario's own mistake must not hide the others.
            results.fail(language.name, name, traceback.format_exc())
        else:
            results.ok(language.name, name, seen, time.monotonic() - began)


class Results:
    """What held, as it becomes known and at the end."""

    def __init__(self):
        self._rows = []

    def ok(self, language, scenario, seen, seconds):
        self._row("ok", language, scenario, f"{seen}  ({seconds:.1f} s)")

    def fail(self, language, scenario, why):
        self._row("FAILED", language, scenario, why)

    def skip(self, language, scenario, why):
        self._row("skipped", language, scenario, why)

    def lacks(self, language, why):
        """A whole language cannot be played."""
        if os.environ.get("LOOKASIDE_INTEROP") == "require":
            self.fail(language, "all", f"{why}, and LOOKASIDE_INTEROP=require wants it")
        else:
            self.skip(language, "all", why)

    def _row(self, *row):
        self._rows.append(row)
        print(_ROW.format(*row), flush=True)

    def close(self):
        """Prints the summary; the exit code."""
        count = collections.Counter(row[0] for row in self._rows)
        print()
        for row in sorted(self._rows, key=lambda row: row[1]):
            if row[0] != "ok":
                print(_ROW.format(*row))
        line = f"{count['ok']} passed, {count['FAILED']} failed"
        if count["skipped"]:
            line += f", {count['skipped']} skipped"
        print(line)
        return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
