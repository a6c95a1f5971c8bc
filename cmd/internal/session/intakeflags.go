package session

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aslrescue/cmd/internal/config"
	"aslrescue/cmd/internal/report"
	"aslrescue/cmd/internal/wire"
	"aslrescue/engine/approval"
	"aslrescue/engine/intake"
	"aslrescue/engine/store"
)

// intakeOptions is the command line of asl-intake.
type intakeOptions struct {
	batch, dryRun, json, noVerify, noResume bool

	sources, approve    list
	store, plan, label  string
	compression, verify string
	name, domain        string
	digest, order       string
	usedOnly, files     bool
	memory, workers     int
	cpuprofile          string
	reading             readingOptions
	remote              remoteOptions
	version             bool
	given               []string  // flags that the command line has
	until               time.Time // when to stop as an operator would; zero: when all is done

	preflight              bool
	capture, facts, config string
	runDir                 string // where mode, preflight.json and the engine's socket are

	status, watch            bool // look on at an engine
	engine, detach, detached bool // be one; start one; started by one of us
	idle                     time.Duration
	listDir                  string

	rehearse, plain, ascii bool // the wizard
	boot                   bool // batch, if the config says what to take in; else the wizard
}

type list []string

func (l *list) String() string     { return strings.Join(*l, ", ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

const intakeUsage = `asl-intake takes disks, images and directory trees into a store.

  asl-intake                                                        the wizard asks
  asl-intake --rehearse [FACTS]                                     the wizard, to practise
  asl-intake --batch --source PATH [PATH ...] --store DIR [options]

Sources are only read. DIR may be absent or empty: it becomes a store; a store that is there is added to.
If an earlier run with the same sources was interrupted, this one goes on from where it was.
With --batch and no source, batch.sources of asl.conf says which disks, and batch.done what to do then.

Examples
  asl-intake --batch --source /dev/sdb --store /mnt/asl/local
  asl-intake --batch --source /home /etc --store /mnt/usb/store --label "before repair"
  zfs send -R tank@now | asl-intake --batch --source - --name tank-now --store /mnt/usb/store
  asl-intake --batch --source /dev/sdb --store /mnt/usb/store --dry-run > plan.toml
  asl-intake --batch --plan plan.toml
  asl-intake --batch --config /mnt/usb/asl
  asl-intake --source /dev/sdb --store zfs:tank/asl --dry-run
  asl-intake --batch --source /dev/sdb --store zfs:tank/asl --approve import=13411770823413532103:0123456789abcdef
  asl-intake --batch --source /dev/sdb --store https://store.example --token-file /run/asl/token
  asl-intake --batch --source /dev/sdb --store s3://rescue/asl
  asl-intake --batch --source /dev/sdb --store /mnt/usb/store --used-only --dry-run
  asl-intake --batch --source /dev/sdb2 --store /mnt/usb/store --files --dry-run
  asl-intake --batch --source /dev/sdb --store /mnt/usb/store --retry 3 --wait 30m
  asl-intake --batch --list-unfinished --store /mnt/usb/store
  asl-intake --watch
  asl-intake --preflight
  asl-intake --preflight --capture /mnt/usb/machine.json
  asl-intake --preflight --facts machine.json

--preflight looks at the machine, prints what it found as a table, and writes the mode to /run/asl. It changes nothing else, and
ends with 0 whatever it finds; docs/preflight.md describes the table.

Options
`

func parseIntake(args []string, help io.Writer) (*intakeOptions, error) {
	o := &intakeOptions{}
	fs := flag.NewFlagSet("asl-intake", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&o.batch, "batch", false, "work without a person: ask nothing, print lines")
	fs.Var(&o.sources, "source", "`PATH` of a directory, image file or block device, or - for standard input; may be given several times")
	fs.StringVar(&o.store, "store", "", "`DIR` of the store; or zfs:POOL/DATASET: the pool is imported if it is not, which wants an approval, the dataset made if it is not there; or https://HOST of an asl-backend; or s3://BUCKET/PREFIX, with AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID as other tools want them")
	fs.Var(&o.approve, "approve", "`TOKEN` as --dry-run printed it: consent to exactly that plan; may be given several times")
	fs.StringVar(&o.label, "label", "", "`TEXT` that stands with the snapshot")
	fs.StringVar(&o.compression, "compression", "auto", "`MODE`: auto, none, fast, better; auto is fast")
	fs.StringVar(&o.name, "name", "", "`NAME` of the source that is standard input")
	fs.StringVar(&o.plan, "plan", "", "`FILE` that --dry-run printed: do exactly that, or refuse if the sources are not the same any more")
	fs.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, as a plan file, and do nothing")
	fs.BoolVar(&o.noVerify, "no-verify", false, "do not read back what was stored")
	fs.StringVar(&o.verify, "verify", "new", "`WHAT` to read back at the end: new (blocks of this run) or all (every block of the store)")
	fs.StringVar(&o.digest, "digest", "", "hashes to make of whole disks and images, a `LIST` of blake3, sha256, md5, or none (default blake3; with --no-verify none)")
	fs.StringVar(&o.order, "order", asGiven, "`WHICH` disks to begin with: hurt-first, hurt-last (by what smartctl says of them), or as-given")
	fs.BoolVar(&o.usedOnly, "used-only", false, "of disks and images read only what their file systems call used (ext2, ext3, ext4, NTFS, FAT); wants a token of --dry-run")
	fs.BoolVar(&o.files, "files", false, "take the files of a partition, or of an image of one, mounted so that nothing is written to it; wants a token of --dry-run")
	fs.BoolVar(&o.noResume, "no-resume", false, "begin anew, also where an interrupted run could be gone on with")
	o.reading.flags(fs)
	o.remote.flags(fs)
	fs.BoolVar(&o.json, "json", false, "print JSON lines; the last has the type result")
	fs.StringVar(&o.domain, "domain", "", "`NAME` of the domain a new store belongs to (default: domain.id of asl.conf)")
	fs.StringVar(&o.config, "config", config.Folder, "`DIR` with asl.conf, federation.conf and logging.conf")
	fs.IntVar(&o.memory, "memory", intake.DefaultBudget>>20, "`MIB` of memory to use in all")
	fs.IntVar(&o.workers, "workers", 0, "`N` goroutines that hash, and as many that compress (default: one per core)")
	fs.StringVar(&o.cpuprofile, "cpuprofile", "", "write a CPU profile to `FILE`")
	fs.BoolVar(&o.preflight, "preflight", false, "look at this machine, print what was found as a table, write the mode")
	fs.StringVar(&o.runDir, "run-dir", "", "`DIR` for mode, preflight.json and the engine's socket (default "+RunDir+"; with --facts none)")
	fs.StringVar(&o.capture, "capture", "", "with --preflight: keep what was seen in `FILE`, to be sent with a report")
	fs.StringVar(&o.facts, "facts", "", "with --preflight: decide on what `FILE` says instead of looking; it was written by --capture, or is a preflight.json")
	fs.BoolVar(&o.rehearse, "rehearse", false, "practise: the wizard on a made-up machine, or on one captured in a file that is given; writes only to a temporary store")
	fs.BoolVar(&o.plain, "plain", false, "the wizard as questions line by line, for speech, braille and simple terminals")
	fs.BoolVar(&o.ascii, "ascii", false, "the wizard without line-drawing characters")
	fs.BoolVar(&o.boot, "boot", false, "what the first console runs: --batch if batch.sources of the config says what to take in, else the wizard")
	fs.BoolVar(&o.version, "version", false, "print the version")
	fs.BoolVar(&o.status, "status", false, "print how the intake of the wizard's engine stands, and do nothing else")
	fs.BoolVar(&o.watch, "watch", false, "print what the wizard's engine says until its intake ends; leaving stops nothing")
	fs.BoolVar(&o.engine, "engine", false, hidden)
	fs.BoolVar(&o.detach, "detach", false, hidden)
	fs.BoolVar(&o.detached, "detached", false, hidden)
	fs.DurationVar(&o.idle, "idle", 0, hidden)
	fs.StringVar(&o.listDir, "list-dir", "", hidden)
	err := parseAnywhere(fs, args, (*[]string)(&o.sources))
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(help, intakeUsage)
		shown := visible(fs)
		shown.SetOutput(help)
		shown.PrintDefaults()
		fmt.Fprint(help, "\nExit codes\n")
		for _, c := range report.Codes() {
			fmt.Fprintf(help, "  %3d  %s\n", c.Code, c.Means)
		}
		return nil, flag.ErrHelp
	}
	if err != nil {
		return nil, report.Usagef("%w", err)
	}
	if o.noResume && o.reading.resume == "auto" {
		o.reading.resume = "none"
	}
	fs.Visit(func(f *flag.Flag) { o.given = append(o.given, f.Name) })
	if o.boot {
		if len(o.sources) > 0 || o.batch || o.plan != "" || o.dryRun || o.alone() > 0 {
			return nil, report.Usagef("--boot takes from the config what is to be done: no sources, --batch, --plan, --dry-run, --preflight beside it")
		}
		c, _ := config.Load(o.where()) // its mistakes are the wizard's to show, and end a batch
		o.batch = c.Batch.Sources != ""
	}
	return o, o.check()
}

// hidden is the usage of flags that nobody types: docs/engine.md has them.
const hidden = ""

// visible are the flags that the help shows.
func visible(fs *flag.FlagSet) *flag.FlagSet {
	shown := flag.NewFlagSet(fs.Name(), flag.ContinueOnError)
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage != hidden {
			shown.Var(f.Value, f.Name, f.Usage)
			shown.Lookup(f.Name).DefValue = f.DefValue
		}
	})
	return shown
}

// parseAnywhere lets flags stand after arguments, which are appended to rest.
func parseAnywhere(fs *flag.FlagSet, args []string, rest *[]string) error {
	for {
		if err := fs.Parse(args); err != nil {
			return err
		}
		args = fs.Args()
		if len(args) == 0 {
			return nil
		}
		*rest, args = append(*rest, args[0]), args[1:]
	}
}

// place is where the engine's socket is.
func (o *intakeOptions) place() wire.Place { return wire.At(or(o.runDir, RunDir)) }

// alone counts what is asked for that is no intake of this process.
func (o *intakeOptions) alone() (n int) {
	for _, b := range []bool{o.status, o.watch, o.engine, o.preflight} {
		if b {
			n++
		}
	}
	return n
}

// byConfig says that batch.sources of the config is to be taken in.
func (o *intakeOptions) byConfig() bool {
	return o.batch && !o.dryRun && o.plan == "" && len(o.sources) == 0
}

func (o *intakeOptions) check() error {
	streams := 0
	for _, s := range o.sources {
		if s == "-" {
			streams++
		}
	}
	if err := o.reading.check(o); err != nil {
		return err
	}
	switch {
	case o.version, o.listDir != "", o.reading.list:
		return nil
	case o.alone() > 1 || o.alone() == 1 && (o.batch || o.dryRun || o.rehearse || o.plain || len(o.sources) > 0 || o.store != "" || o.plan != ""):
		return report.Usagef("--preflight, --status, --watch and --engine: only one of them, and no intake beside it")
	case o.runDir != "" && !filepath.IsAbs(o.runDir) && !o.preflight:
		return report.Usagef("--run-dir %q is no absolute path", o.runDir)
	case o.usedOnly && o.files:
		return report.Usagef("--used-only reads a disk, --files the files on it: choose one")
	case o.memory < intake.MinBudget>>20:
		return report.Usagef("--memory %d: the least is %d", o.memory, intake.MinBudget>>20)
	case o.alone() == 1 && !o.preflight:
		return nil
	case o.preflight:
		return nil
	case o.capture != "" || o.facts != "":
		return report.Usagef("--capture and --facts go with --preflight")
	case o.wizard():
		return o.checkWizard()
	case !o.batch && !o.dryRun:
		return report.Usagef("--batch is missing: without it and without sources the wizard asks")
	case o.plan != "" && (len(o.sources) > 0 || o.store != "" || o.dryRun):
		return report.Usagef("--plan says sources and store: --source, --store and --dry-run do not go with it")
	case o.plan == "" && len(o.sources) == 0 && !o.byConfig():
		return report.Usagef("nothing to take in: --source is missing")
	case slices.Contains(o.sources, ""):
		return report.Usagef("--source is empty: want the path of a directory, an image file or a block device, or -")
	case o.domain != "" && !store.ValidDomain(o.domain):
		return badDomain(o.domain)
	case streams > 1:
		return report.Usagef("standard input can be only one of the sources")
	case streams == 1 && o.name == "":
		return report.Usagef("--source - wants --name: the name that the stream will have in the snapshot")
	case streams == 0 && o.name != "":
		return report.Usagef("--name goes with --source - only")
	case o.verify != "new" && o.verify != "all":
		return report.Usagef("--verify %q: want new or all", o.verify)
	case o.noVerify && o.verify == "all":
		return report.Usagef("--no-verify and --verify all contradict each other")
	case orderMistake(o.order) != nil:
		return orderMistake(o.order)
	case badToken(o.approve) != nil:
		return report.Usagef("--approve: %w", badToken(o.approve))
	case o.workers < 0 || o.workers > 1024:
		return report.Usagef("--workers %d: want 0 to 1024", o.workers)
	}
	if _, err := digestNames(o.digest); err != nil {
		return report.Usagef("--digest: %w", err)
	}
	if _, err := intake.Codec(intake.Compression(o.compression)); err != nil {
		return report.Usagef("%w", err)
	}
	return nil
}

func badToken(tokens []string) error {
	for _, t := range tokens {
		if _, err := approval.ParseToken(t); err != nil {
			return err
		}
	}
	return nil
}
