package custody

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"aslrescue/engine/event"
	"aslrescue/engine/source"
	"aslrescue/engine/store/format"
)

// Disks are asked once a minute while they are read, and more often while they cool. One whose reads do not come back is not asked.
const (
	askEvery     = time.Minute
	askHot       = 15 * time.Second
	stuckAfter   = 2 * time.Second // without a read that came back, while some are under way
	usualLimit   = 60              // °C, of a disk that names no limit of its own
	coolerBy     = 5               // °C below its limit a disk is read again
	watchedKept  = 500             // rows of an Evidence
	abandonAfter = smartTime + 5*time.Second
)

// health is what of a disk's own record tells whether it gets worse.
type health struct {
	failed                                    bool
	reallocated, pending, uncorrected, errors int64 // sectors, sectors, sectors, errors of the medium
	critical                                  int64
	celsius, limit                            int
}

// healthOf reads what smartctl prints; false where it says nothing of all that.
func healthOf(js []byte) (h health, ok bool) {
	var s struct {
		Status     *struct{ Passed bool }      `json:"smart_status"`
		Attributes struct{ Table []smartAttr } `json:"ata_smart_attributes"`
		Heat       map[string]json.Number      `json:"temperature"`
		NVMe       *struct {
			Critical    int64 `json:"critical_warning"`
			MediaErrors int64 `json:"media_errors"`
			Temperature int   `json:"temperature"`
		} `json:"nvme_smart_health_information_log"`
		NVMeLimit struct {
			Warning, Critical int
		} `json:"nvme_composite_temperature_threshold"`
		Grown int64 `json:"scsi_grown_defect_list"`
		SCSI  struct {
			Read struct {
				Uncorrected int64 `json:"total_uncorrected_errors"`
			} `json:"read"`
		} `json:"scsi_error_counter_log"`
	}
	if json.Unmarshal(js, &s) != nil {
		return h, false
	}
	heat := func(key string) int { n, _ := strconv.Atoi(s.Heat[key].String()); return n }
	h = health{reallocated: s.Grown, uncorrected: s.SCSI.Read.Uncorrected, celsius: heat("current")}
	ok = s.Status != nil || h != (health{})
	h.failed = s.Status != nil && !s.Status.Passed
	for _, a := range s.Attributes.Table {
		ok = true
		switch a.ID {
		case 5:
			h.reallocated = a.Raw.Value
		case 197:
			h.pending = a.Raw.Value
		case 187, 198:
			h.uncorrected = max(h.uncorrected, a.Raw.Value)
		}
	}
	if n := s.NVMe; n != nil {
		ok = true
		h.errors, h.critical, h.celsius = n.MediaErrors, n.Critical, max(h.celsius, n.Temperature)
	}
	for _, n := range []int{heat("op_limit_max"), heat("limit_max"), heat("drive_trip"), s.NVMeLimit.Warning, s.NVMeLimit.Critical} {
		if n > 0 && (h.limit == 0 || n < h.limit) {
			h.limit = n
		}
	}
	return h, ok
}

// worse says in what h is worse than before; empty where it is not. Temperature is not among it.
func (h health) worse(before health) string {
	var all []string
	add := func(now, was int64, one, many string) {
		if now > was {
			all = append(all, fmt.Sprintf("%s, %d before", event.CountOf(now, one, many), was))
		}
	}
	if h.failed && !before.failed {
		all = append(all, "it says now that it is failing")
	}
	if h.critical&^before.critical != 0 {
		all = append(all, fmt.Sprintf("it warns (0x%02x, 0x%02x before)", h.critical, before.critical))
	}
	add(h.pending, before.pending, "sector waits to be replaced", "sectors wait to be replaced")
	add(h.uncorrected, before.uncorrected, "sector could not be read", "sectors could not be read")
	add(h.errors, before.errors, "error of the medium", "errors of the medium")
	add(h.reallocated, before.reallocated, "sector was replaced", "sectors were replaced")
	return strings.Join(all, "; ")
}

// row is h as it is kept.
func (h health) row(at format.Moment) format.SmartSeen {
	return format.SmartSeen{At: at, Celsius: h.celsius, Failed: h.failed, Critical: h.critical, Reallocated: h.reallocated, Pending: h.pending, Uncorrected: h.uncorrected, Errors: h.errors}
}

// watching is the looking after one disk while it is read. All but hot belongs to its goroutine until that has ended.
type watching struct {
	w    *Witness
	o    *watched
	say  func(event.Level, string)
	last health
	any  bool // last is something
	over bool // it was told that it is too hot
	most int  // °C
	hot  atomic.Bool
	rows []format.SmartSeen
}

// look asks the disk once and says what became worse.
func (k *watching) look(s format.Smart) {
	h, ok := healthOf(s.JSON)
	if s.Why != "" || !ok {
		k.hot.Store(false) // nothing is known, and a disk is not left alone for ever
		if k.any && s.Why != "" {
			k.keep(format.SmartSeen{At: k.w.moment(), Why: format.Text(s.Why)})
		}
		return
	}
	if h.limit == 0 {
		if h.limit = k.last.limit; h.limit == 0 {
			h.limit = usualLimit
		}
	}
	if k.any {
		if worse := h.worse(k.last); worse != "" {
			k.say(event.Warning, "the disk gets worse: "+worse)
		}
	}
	switch {
	case h.celsius >= h.limit && !k.over:
		k.over = true
		text := fmt.Sprintf("the disk is at %d °C, its limit is %d °C", h.celsius, h.limit)
		if k.w.PauseWhenHot {
			text += fmt.Sprintf("; it is not read until it has %d °C", h.limit-coolerBy)
		}
		k.say(event.Warning, text)
	case k.over && h.celsius <= h.limit-coolerBy:
		k.over = false
		k.say(event.Info, fmt.Sprintf("the disk has cooled to %d °C", h.celsius))
	}
	k.hot.Store(k.over && k.w.PauseWhenHot)
	row := h.row(k.w.moment())
	if !k.any || h.worse(k.last) != "" || h.celsius > k.most {
		k.keep(row)
	}
	k.last, k.any, k.most = h, true, max(k.most, h.celsius)
}

func (k *watching) keep(row format.SmartSeen) {
	if n := len(k.rows); n > 0 && row.Why != "" && k.rows[n-1].Why == row.Why || n == watchedKept {
		return
	}
	k.rows = append(k.rows, row)
}

// run looks after the disk until ctx ends.
func (k *watching) run(ctx context.Context) {
	for {
		wait := k.w.every
		if k.hot.Load() {
			wait = min(wait, askHot)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		s := format.Smart{Why: "not asked: its reads do not come back"}
		if !stuck(ctx, k.o.disk) {
			s = k.w.ask(ctx, k.o, watchFlags()...)
		}
		if ctx.Err() != nil {
			return
		}
		k.look(s)
	}
}

// stuck tells whether reads of a disk are under way of which none comes back. To ask such a disk anything is to wait behind them.
func stuck(ctx context.Context, disk string) bool {
	done, flying := ioOf(disk)
	if flying == 0 {
		return false
	}
	select {
	case <-ctx.Done():
		return true
	case <-time.After(stuckAfter):
	}
	now, flying := ioOf(disk)
	return flying > 0 && now == done
}

// ioOf gives how many transfers the kernel has done on a disk, and how many are under way.
func ioOf(disk string) (done, flying uint64) {
	f := strings.Fields(line(disk + "/stat"))
	if len(f) < 9 {
		return 0, 0
	}
	for _, i := range []int{0, 4} {
		n, _ := strconv.ParseUint(f[i], 10, 64)
		done += n
	}
	flying, _ = strconv.ParseUint(f[8], 10, 64)
	return done, flying
}

// ask has smartctl ask a disk, and waits no longer than that may take: a process may be stuck in the kernel with the disk, and then it is left behind, and
// no other is started.
func (w *Witness) ask(ctx context.Context, o *watched, flags ...string) format.Smart {
	if !o.asking.CompareAndSwap(false, true) {
		return format.Smart{Why: "it did not answer the last time"}
	}
	answer := make(chan format.Smart, 1)
	go func() {
		s := w.smart(ctx, o.dev, flags...)
		o.asking.Store(false)
		answer <- s
	}()
	select {
	case s := <-answer:
		return s
	case <-time.After(w.abandon):
		return format.Smart{Why: "the disk did not answer smartctl within " + smartTime.String()}
	case <-ctx.Done():
		return format.Smart{Why: context.Cause(ctx).Error()}
	}
}

func allFlags() []string { return []string{"-x"} }

// watchFlags ask for what may change, and do not wake a disk that sleeps.
func watchFlags() []string { return []string{"-n", "standby,0", "-H", "-A", "-l", "scttempsts"} }

// Pause waits while a source is too hot to be read, where that is wanted.
func (w *Witness) Pause(ctx context.Context, i int) {
	for w.Hot(i) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Hot tells whether a source is to be left alone because it is too hot.
func (w *Witness) Hot(i int) bool {
	o := w.open[i]
	return o != nil && o.watch != nil && o.watch.hot.Load()
}

// Hurt tells whether a device's own record says that it is failing, or has places that it cannot read.
func Hurt(ctx context.Context, src source.Info) bool {
	w := NewWitness()
	disk, _ := w.device(src)
	if virtual(disk) || stuck(ctx, disk) {
		return false
	}
	s := w.ask(ctx, &watched{dev: "/dev/" + strings.ReplaceAll(filepath.Base(disk), "!", "/")}, "-n", "standby,0", "-H", "-A")
	h, _ := healthOf(s.JSON)
	return h.hurt()
}

func (h health) hurt() bool {
	return h.failed || h.pending > 0 || h.uncorrected > 0 || h.errors > 0 || h.critical != 0
}
