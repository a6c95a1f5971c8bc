# Power cuts at random moments of the intake of a hurt disk, each followed by a boot and the same command: what was repeated, and that it ends
# with the root of a run that nobody disturbed. --times says how many.
#: disk HURT 256M ext4-big file.inject-error.0.event=read_aio,file.inject-error.0.errno=5,file.inject-error.0.sector=9001,file.inject-error.1.event=read_aio,file.inject-error.1.errno=5,file.inject-error.1.sector=70001,file.inject-error.2.event=read_aio,file.inject-error.2.errno=5,file.inject-error.2.sector=70003,file.inject-error.3.event=read_aio,file.inject-error.3.errno=5,file.inject-error.3.sector=300000,file.inject-error.4.event=read_aio,file.inject-error.4.errno=5,file.inject-error.4.sector=524287
#: disk STORE 1G
#: disk WHOLE 1G
#: same HURT
#: bare
mkdir -p /s
for d in STORE WHOLE; do mkfs.ext4 -q -F "$(disk $d)" || bad "no file system on $d"; done
say "a run that nobody disturbs"
mount "$(disk WHOLE)" /s
wantrc 3 asl-intake --batch --json --no-verify --source "$(disk HURT)" --label cuts --store /s/store
want umount /s

#: boot cut
#: bare
#: times 20
#: cut "phase":"reading"
#: later 3s 16s
mkdir -p /s
mount "$(disk STORE)" /s
asl-intake --batch --json --no-verify --rate-limit 1 --source "$(disk HURT)" --label cuts --store /s/store
say "it was not cut"

#: boot last
#: bare
mkdir -p /s /w /job/keep
mount "$(disk STORE)" /s
mount "$(disk WHOLE)" /w
say "the same command, to its end"
wantrc 3 asl-intake --batch --json --no-verify --source "$(disk HURT)" --label cuts --store /s/store
python3 - /job/before/cut-*.out /job/out <<'P' | tee /job/keep/repeated || bad "more was repeated than may be"
import json, sys
def lines(name):
    for l in open(name, errors="replace"):
        try:
            yield json.loads(l)
        except ValueError:
            pass
settled = lambda c: c["data"] + c["zero"] + c["unreadable"]
runs = []
for name in sys.argv[1:]:
    run = {"name": name.split("/")[-1][:-4], "resumed": 0, "id": "", "goes_on": False, "at": [], "end": 0.0}
    for e in lines(name):
        run["end"] = max(run["end"], e.get("at_s", 0))
        if e["type"] == "intake_begun":
            run["id"], run["goes_on"] = e["intake"], e["resumed"]
        if e["type"] == "source_opened":
            run["resumed"] = settled(e["resumed"])
            run["at"].append((e["at_s"], run["resumed"]))
        if e["type"] == "progress" and e["phase"] == "reading":
            run["at"].append((e["at_s"], settled(e)))
    runs.append(run)
worst = total = 0
bad = False
for a, b in zip(runs, runs[1:]):
    done = max([n for _, n in a["at"]], default=0)
    again = max(0, done - b["resumed"])
    since = max([t for t, n in a["at"] if n <= b["resumed"]], default=a["end"])
    seconds = a["end"] - since if again else 0.0
    same = a["id"] == b["id"]
    print(f'{a["name"]}: cut at {a["end"]:.1f} s with {done} read; then {b["resumed"]} were acknowledged: {again} bytes, {seconds:.1f} s of reading again' + ("" if same else ", ANOTHER INTAKE"))
    worst, total = max(worst, seconds), total + again
    bad |= not same and bool(b["goes_on"]) or (seconds > 10 and again > 16 << 20)
print(f"RESULT {len(runs) - 1} power cuts: at most {worst:.1f} s repeated, {total} bytes in all; went on: {sum(r['goes_on'] for r in runs)} of {len(runs) - 1}")
sys.exit(bad)
P
say "what stands at the end"
want asl-admin --store /s/store verify --read-data
want asl-admin --store /w/store verify --read-data
for s in s w; do asl-admin --store /$s/store --json show latest >/job/keep/$s.json || bad "no snapshot in $s"; done
root() { python3 -c 'import re, sys
print(*re.findall(r"\"root\":\s*\"(b3:[0-9a-f]{64})\"", open(sys.argv[1]).read()))' "$1"; }
echo "RESULT roots: after the cuts $(root /job/keep/s.json), undisturbed $(root /job/keep/w.json)"
[ -n "$(root /job/keep/s.json)" ] && [ "$(root /job/keep/s.json)" = "$(root /job/keep/w.json)" ] || bad "another root than the run that nobody disturbed"
for s in s w; do wantrc 3 asl-admin --store /$s/store restore latest --to /w/$s.img --fill zero; done
cmp /w/s.img /w/w.img || bad "other bytes than the run that nobody disturbed"
