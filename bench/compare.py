#!/usr/bin/env python3
"""Side by side, in one run and in turn: souverain, tar|zstd|age, restic, rustic, PostgreSQL's own tools.

    cargo build --release --locked -p souverain -p souverain-bench
    python3 bench/compare.py [--size-mib 1024] [--rounds 3] [--work DIR] [--skip postgres,rustic] [--large-mib 16384]

Prints Markdown tables: medians of wall seconds over the rounds, peak memory, and ratios. Everything is
warm in the page cache before it is timed; every tool makes its output durable (the pipe by `sync`). The
kernels of sealing are timed in each round too, so that they and the export meet the same machine.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, "target", "release")
TABLES = 8


class Run:
    """One finished command: wall seconds, peak memory of its largest process, what it printed."""

    def __init__(self, argv, env=None, shell=False, stdin=None):
        # What others wrote is on disk, so that nobody waits for it who syncs.
        os.sync()
        start = time.monotonic()
        child = subprocess.Popen(
            argv, shell=shell, env={**os.environ, **(env or {})}, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            executable="/bin/bash" if shell else None,
        )
        out, err = child.communicate()
        self.seconds = time.monotonic() - start
        self.out = out.decode(errors="replace")
        if child.returncode != 0:
            sys.exit(f"failed ({child.returncode}): {argv}\n{self.out}\n{err.decode(errors='replace')}")


def peak_mib(argv, env=None):
    """Peak resident memory of a command, from a child of its own."""
    code = (
        "import resource,subprocess,sys;"
        "r=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL);"
        "print(r.returncode,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env={**os.environ, **(env or {})},
        capture_output=True, text=True, check=True,
    )
    status, kib = done.stdout.split()
    if status != "0":
        sys.exit(f"failed ({status}): {argv}")
    return int(kib) / 1024


def du(path):
    """Bytes of all files below a path."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path) for name in names
    )


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    return path


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = os.path.abspath(args.work)
        self.data = os.path.join(self.work, "data")
        self.times = {}
        self.sizes = {}
        self.kernels = {}
        self.peaks = {}
        self.skip = set(filter(None, args.skip.split(",")))

    def path(self, name):
        return os.path.join(self.work, name)

    def note(self, name, run):
        self.times.setdefault(name, []).append(run.seconds)
        print(f"  {name}: {run.seconds:.2f} s", file=sys.stderr)
        return run

    def median(self, name):
        return statistics.median(self.times[name])

    def souverain(self, home, *argv):
        return [os.path.join(BIN, "souverain"), "--home", home, *argv]

    def restic(self, *argv):
        return ["restic", "-r", self.path("restic"), *argv]

    def rustic(self, *argv):
        return [self.args.rustic, "-r", self.path("rustic"), "--no-progress", *argv]

    # data ---------------------------------------------------------------

    def prepare(self):
        os.makedirs(self.work, exist_ok=True)
        fresh(self.data)
        Run([os.path.join(BIN, "dataset"), self.data, str(self.args.size_mib)])
        Run("find " + self.data + " -type f -exec cat {} + > /dev/null; sync", shell=True)
        key = self.path("key.txt")
        if os.path.exists(key):
            os.remove(key)
        Run(["age-keygen", "-o", key])
        with open(key) as file:
            self.recipient = next(l.split(": ")[1].strip() for l in file if "public key" in l)
        # Ages what was just written: files changed within two seconds are always read again.
        time.sleep(3)

    # files --------------------------------------------------------------

    def export_files(self):
        home = fresh(self.path("home"))
        Run(self.souverain(home, "init"))
        run = self.note("souverain export", Run(self.souverain(home, "export", self.data)))
        self.cid = run.out.strip()
        self.sizes["souverain"] = du(os.path.join(home, "packs"))
        pipe = self.path("pipe.age")
        self.note("pipe export", Run(
            f"set -o pipefail; tar -C {self.work} -cf - data | zstd -q -3 | age -r {self.recipient} > {pipe} && sync {pipe}",
            shell=True))
        self.sizes["pipe"] = du(pipe)
        env = {"RESTIC_PASSWORD": "benchmark"}
        fresh(self.path("restic"))
        Run(self.restic("init", "--repository-version", "2"), env)
        self.note("restic export", Run(self.restic("backup", "-q", self.data), env))
        self.sizes["restic"] = du(self.path("restic"))
        if "rustic" not in self.skip:
            env = {"RUSTIC_PASSWORD": "benchmark"}
            fresh(self.path("rustic"))
            Run(self.rustic("init"), env)
            self.note("rustic export", Run(self.rustic("backup", self.data), env))
            self.sizes["rustic"] = du(self.path("rustic"))

    def unchanged(self):
        home = self.path("home")
        self.note("souverain unchanged", Run(self.souverain(home, "export", self.data)))
        self.note("restic unchanged", Run(self.restic("backup", "-q", self.data), {"RESTIC_PASSWORD": "benchmark"}))
        if "rustic" not in self.skip:
            self.note("rustic unchanged", Run(self.rustic("backup", self.data), {"RUSTIC_PASSWORD": "benchmark"}))

    def verify_and_restore(self):
        home = self.path("home")
        self.note("souverain verify keyless", Run(self.souverain(home, "verify", "--keyless", self.cid)))
        self.note("souverain verify opened", Run(self.souverain(home, "verify", self.cid)))
        out = fresh(self.path("out"))
        self.note("souverain restore", Run(self.souverain(home, "import", self.cid, "--into", out)))
        Run(["diff", "-r", self.data, out])
        fresh(out)
        self.note("restic restore", Run(self.restic("restore", "-q", "latest", "-t", out), {"RESTIC_PASSWORD": "benchmark"}))
        fresh(out)
        if "rustic" not in self.skip:
            os.makedirs(out)
            self.note("rustic restore", Run(self.rustic("restore", "latest", out), {"RUSTIC_PASSWORD": "benchmark"}))
            fresh(out)
        os.makedirs(out)
        self.note("pipe restore", Run(
            f"set -o pipefail; age -d -i {self.path('key.txt')} {self.path('pipe.age')} | zstd -dqc | tar -C {out} -xf -", shell=True))
        fresh(out)

    def one_of_eight(self):
        """The eight tables as streams of their own: all of them against one."""
        home = fresh(self.path("home8"))
        Run(self.souverain(home, "init"))
        sources = [os.path.join(self.data, f"table{n}.ndjson") for n in range(TABLES)]
        cid = Run(self.souverain(home, "export", *sources)).out.strip()
        for _ in range(self.args.rounds):
            out = fresh(self.path("out"))
            self.note("souverain eight tables", Run(self.souverain(home, "import", cid, "--into", out)))
            out = fresh(self.path("out"))
            self.note("souverain one table", Run(
                self.souverain(home, "import", cid, "--source", "table3.ndjson", "--into", out)))
        fresh(self.path("out"))
        fresh(home)

    def insert(self, round_number):
        """A 13 KB insertion into a table, another place each round."""
        path = os.path.join(self.data, "table3.ndjson")
        with open(path, "rb") as file:
            before = file.read()
        at = before.index(b"\n", len(before) * (2 * round_number + 1) // (2 * self.args.inserts)) + 1
        row = b'{"id":0,"state":"inserted","note":"%d"}\n' % round_number
        with open(path, "wb") as file:
            file.write(before[:at] + row * (13_000 // len(row)) + before[at:])
        time.sleep(3)
        home = self.path("home")
        for name, place, argv, env in (
            ("souverain", os.path.join(home, "packs"), self.souverain(home, "export", self.data), None),
            ("restic", self.path("restic"), self.restic("backup", "-q", self.data), {"RESTIC_PASSWORD": "benchmark"}),
        ):
            size = du(place)
            self.note(f"{name} insert", Run(argv, env))
            self.sizes.setdefault(f"{name} insert", []).append(du(place) - size)

    def time_kernels(self):
        files = [os.path.join(folder, name) for folder, _, names in os.walk(self.data) for name in names]
        out = Run([os.path.join(BIN, "kernels"), *sorted(files)]).out
        for line in out.splitlines():
            name, *figures = line.split()
            self.kernels.setdefault(name, []).append([float(figure) for figure in figures])

    def memory(self, label, data):
        """Peak memory of each verb on one set of data."""
        home, out = fresh(self.path("homem")), fresh(self.path("out"))
        Run(self.souverain(home, "init"))
        self.peaks[f"export, {label}"] = peak_mib(self.souverain(home, "export", data))
        cid = Run(self.souverain(home, "list")).out.split()[0]
        self.peaks[f"export unchanged, {label}"] = peak_mib(self.souverain(home, "export", data))
        self.peaks[f"verify, {label}"] = peak_mib(self.souverain(home, "verify", cid))
        self.peaks[f"import, {label}"] = peak_mib(self.souverain(home, "import", cid, "--into", out))
        fresh(home)
        fresh(out)

    def large_memory(self):
        data = fresh(self.path("large"))
        Run([os.path.join(BIN, "dataset"), data, str(self.args.large_mib)])
        self.memory(f"{self.args.large_mib} MiB", data)
        fresh(data)

    # PostgreSQL ----------------------------------------------------------

    def postgres(self):
        """Four tables of 15 typed columns each, in a server of its own on a Unix socket."""
        import glob
        bin_dir = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[-2]))
        folder = fresh(self.path("pg"))
        os.makedirs(folder, mode=0o755)
        as_user = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            for place in (self.work, os.path.dirname(self.work)):
                os.chmod(place, 0o755)
            as_user = ["runuser", "-u", "postgres", "--"]
        data, log = os.path.join(folder, "data"), os.path.join(folder, "log")
        Run([*as_user, os.path.join(bin_dir, "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"])
        server = [*as_user, os.path.join(bin_dir, "pg_ctl"), "-D", data, "-l", log, "-w"]
        Run([*server, "-o", f"-k {folder} -c listen_addresses= -c max_wal_size=4GB", "start"])
        try:
            self.postgres_rounds(folder)
        finally:
            Run([*server, "-m", "fast", "stop"])

    def postgres_rounds(self, folder):
        psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", folder, "-U", "postgres"]

        def url(database):
            return f"postgres:///{database}?host={folder}&user=postgres"

        Run([*psql, "-c", "CREATE DATABASE shop"])
        self.rows, tables = self.args.pg_rows, 4
        for n in range(tables):
            Run([*psql, "-d", "shop", "-c", f"""
                CREATE TABLE t{n} AS SELECT g AS id, (g * 7919) % 1000003 AS customer, md5(g::text) AS ref,
                  now() - g * interval '1 second' AS at, (g % 5)::smallint AS state, (g * 31 % 10007)::numeric(12,2) / 7 AS total,
                  g * 1.5e-3::float8 AS weight, g % 2 = 0 AS paid, md5((g * 3)::text)::uuid AS token, 'name ' || g % 5000 AS name,
                  CASE WHEN g % 3 = 0 THEN NULL ELSE 'note ' || repeat(chr(97 + g % 26), g % 40) END AS note,
                  jsonb_build_object('a', g % 100, 'b', g % 7) AS extra, ARRAY[g % 10, g % 20] AS tags,
                  (now() - g * interval '1 minute')::date AS day, decode(md5(g::text), 'hex') AS digest
                FROM generate_series(1, {self.rows // tables}) g;
                ALTER TABLE t{n} ADD PRIMARY KEY (id); CREATE INDEX ON t{n} (customer);"""])
        Run([*psql, "-d", "shop", "-c", "VACUUM ANALYZE", "-c", "CHECKPOINT"])
        dump, home = self.path("pg.dump"), self.path("homepg")
        for _ in range(self.args.rounds):
            copy = " ".join(f"-c 'COPY t{n} TO STDOUT'" for n in range(tables))
            self.note("postgres COPY", Run(f"{' '.join(psql)} -d shop {copy} > /dev/null", shell=True))
            fresh(home)
            Run(self.souverain(home, "init"))
            cid = self.note("postgres export", Run(self.souverain(home, "export", url("shop")))).out.strip()
            self.note("pg_dump -Fc", Run(["pg_dump", "-Fc", "-h", folder, "-U", "postgres", "-f", dump, "shop"]))
            for name, jobs in (("pg_restore", []), ("pg_restore -j 2", ["-j", "2"])):
                Run([*psql, "-c", "DROP DATABASE IF EXISTS copy", "-c", "CREATE DATABASE copy", "-c", "CHECKPOINT"])
                self.note(name, Run(["pg_restore", *jobs, "-h", folder, "-U", "postgres", "-d", "copy", dump]))
            Run([*psql, "-c", "DROP DATABASE copy", "-c", "CREATE DATABASE copy", "-c", "CHECKPOINT"])
            self.note("postgres import", Run(self.souverain(home, "import", cid, "--into", url("copy"))))

    # report -------------------------------------------------------------

    def report(self):
        size = du(self.data)
        median, mb = self.median, 1e6
        cores = os.cpu_count()
        print(f"Machine: {cores} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}. "
              f"Data: {size / mb:.0f} MB. Medians of {self.args.rounds} rounds.\n")
        print("| | seconds | MB/s |\n|---|---|---|")
        for name, times in self.times.items():
            if "postgres" in name or name.startswith("pg_"):
                continue
            rate = "" if any(w in name for w in ("unchanged", "insert", "table")) else f"{size / mb / median(name):.0f}"
            print(f"| {name} | {median(name):.2f} | {rate} |")
        print("\n| sealed size | MB |\n|---|---|")
        for name in ("souverain", "pipe", "restic", "rustic"):
            if name in self.sizes:
                print(f"| {name} | {self.sizes[name] / mb:.1f} |")
        print("\n| kernel, one core | seconds | MB/s of its input |\n|---|---|---|")
        for name, rounds in self.kernels.items():
            figures = [statistics.median(column) for column in zip(*rounds)]
            rate = f"{figures[1]:.0f}" if figures[1:] else ""
            print(f"| {name} | {figures[0]:.2f} | {rate} |")
        bound = statistics.median(seconds for [seconds, *_] in self.kernels["sum"]) / cores
        insert = {n: statistics.median(self.sizes[f"{n} insert"]) for n in ("souverain", "restic")}
        rows = [
            ("export, against the pipe", median("pipe export") / median("souverain export"), ">= 1.0"),
            ("export, against restic", median("restic export") / median("souverain export"), ">= 2"),
            ("size, against the pipe", self.sizes["souverain"] / self.sizes["pipe"], "<= 1.03"),
            ("export, share of the bound of its kernels", bound / median("souverain export"), ">= 0.85"),
            ("unchanged, time against restic", median("souverain unchanged") / median("restic unchanged"), "<= 0.2"),
            ("13 KB inserted, time against restic", median("souverain insert") / median("restic insert"), "<= 0.5"),
            ("13 KB inserted, bytes against restic", insert["souverain"] / insert["restic"], "<= 0.5"),
            ("restore, against restic", median("restic restore") / median("souverain restore"), ">= 2"),
            ("one table of eight, time against all", median("souverain one table") / median("souverain eight tables"), "<= 0.25"),
            ("keyless verify, MB/s of sealed bytes", self.sizes["souverain"] / mb / median("souverain verify keyless"), ">= 500"),
        ]
        print("\n| goal | measured | to reach |\n|---|---|---|")
        for name, value, goal in rows:
            limit = float(goal.split()[1])
            reached = value >= limit if goal.startswith(">") else value <= limit
            print(f"| {name} | {value:.2f}{'' if reached else ' (**not reached**)'} | {goal} |")
        if "postgres" not in self.skip:
            print(f"| PostgreSQL export, rows/s against plain COPY | {median('postgres COPY') / median('postgres export'):.2f} | >= 0.9 |")
            print(f"| PostgreSQL import, against pg_restore | {median('pg_restore') / median('postgres import'):.2f} | >= 1.0 |")
        for name, value in self.peaks.items():
            print(f"| peak memory, {name}, MiB | {value:.0f}{'' if value <= 128 else ' (**not reached**)'} | <= 128 |")
        if "postgres" not in self.skip:
            print(f"\n| PostgreSQL, {self.rows} rows of 15 columns | seconds | rows/s |\n|---|---|---|")
            for name in ("postgres COPY", "postgres export", "pg_dump -Fc", "postgres import", "pg_restore", "pg_restore -j 2"):
                print(f"| {name} | {median(name):.2f} | {self.rows / median(name):.0f} |")
        print(f"\n13 KB inserted wrote {insert['souverain'] / 1e3:.0f} kB; restic {insert['restic'] / 1e3:.0f} kB.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inserts", type=int, default=9, help="insertions of 13 KB, each into another place")
    parser.add_argument("--large-mib", type=int, default=0, help="also measure memory with so much data")
    parser.add_argument("--work", default=os.path.join(ROOT, "target", "bench"))
    parser.add_argument("--rustic", default="rustic", help="the rustic binary (cargo install rustic-rs --locked)")
    parser.add_argument("--skip", default="", help="rustic, postgres")
    parser.add_argument("--pg-rows", type=int, default=1_000_000)
    args = parser.parse_args()
    bench = Bench(args)
    bench.prepare()
    for _ in range(args.rounds):
        bench.export_files()
        bench.time_kernels()
    for _ in range(args.rounds):
        bench.unchanged()
        bench.verify_and_restore()
    bench.one_of_eight()
    bench.memory(f"{args.size_mib} MiB", bench.data)
    if args.large_mib:
        bench.large_memory()
    for number in range(args.inserts):
        bench.insert(number)
    if "postgres" not in bench.skip:
        bench.postgres()
    bench.report()


if __name__ == "__main__":
    main()
