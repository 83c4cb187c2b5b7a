package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"
	// For machines that have no zone data. Where they have, the library takes theirs: see settled.
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
)

// cronCase is what the library makes of a spec and a time: one of the last three is set.
type cronCase struct {
	Spec  string `json:"spec"`
	Zone  string `json:"zone"`
	From  string `json:"from"`            // RFC 3339 in the zone, with the fraction of the second
	Next  string `json:"next,omitempty"`  // RFC 3339 in the zone, a whole second
	Never bool   `json:"never,omitempty"` // the library gave up
	Error string `json:"error,omitempty"` // refused; "panic: …" if the parser panicked
}

// settled is the end of the times that a case may depend on, unless the clocks of its zone never change. Every
// version of the zone data since 2024a tells the same about the years of cronZones up to here, so machines
// with different versions agree; what comes later is a forecast, and governments change their minds.
var settled = time.Date(2024, 7, 1, 0, 0, 0, 0, time.UTC)

// cronZone is a zone and the years for which the searches begin.
type cronZone struct {
	name        string
	first, last int
}

// cronZones have changes of every kind: at 2 or 3 o'clock, at midnight (east and west of Greenwich), a minute
// after it, by half an hour, by two hours, by a day; lasting changes of the offset; offsets of half and quarter
// hours; no changes at all.
var cronZones = []cronZone{
	{"Africa/Cairo", 2000, 2023},
	{"Africa/Casablanca", 2012, 2019},
	{"America/Asuncion", 2000, 2023},
	{"America/Caracas", 2005, 2018},
	{"America/Havana", 2000, 2023},
	{"America/New_York", 2000, 2023},
	{"America/Santiago", 2000, 2023},
	{"America/Sao_Paulo", 2000, 2019},
	{"America/Scoresbysund", 2000, 2022},
	{"America/St_Johns", 2000, 2023},
	{"Antarctica/Troll", 2006, 2023},
	{"Asia/Amman", 2003, 2022},
	{"Asia/Beirut", 2000, 2023},
	{"Asia/Damascus", 2008, 2022},
	{"Asia/Kathmandu", 2000, 2023},
	{"Asia/Kolkata", 2000, 2023},
	{"Asia/Pyongyang", 2013, 2019},
	{"Asia/Tehran", 2008, 2022},
	{"Asia/Tokyo", 2000, 2023},
	{"Atlantic/Azores", 2000, 2023},
	{"Australia/Lord_Howe", 2000, 2023},
	{"Etc/GMT+5", 1980, 2060},
	{"Europe/Berlin", 1997, 2023},
	{"Europe/Dublin", 1997, 2023},
	{"Europe/Istanbul", 2009, 2018},
	{"Europe/London", 1997, 2023},
	{"Europe/Moscow", 2000, 2016},
	{"Pacific/Apia", 2011, 2020},
	{"Pacific/Chatham", 2000, 2023},
	{"Pacific/Norfolk", 2014, 2023},
	{"UTC", 1890, 2110},
}

func runCron(name string, args []string) error {
	f := newLocalFlags(name)
	seed := f.Uint64("seed", 1, "of the generated cases")
	count := f.Int("count", 10_000, "number of generated cases, which come after the fixed ones")
	if err := f.parse(args); err != nil {
		return err
	}
	if *count < 0 {
		return usagef("--count must be at least 0")
	}
	os.Clearenv() // ZONEINFO would name other data
	zones := make([]*time.Location, len(cronZones))
	for i, zone := range cronZones {
		location, err := time.LoadLocation(zone.name)
		if err != nil {
			return err
		}
		zones[i] = location
	}
	for _, fixed := range cronFixed {
		location, err := time.LoadLocation(fixed.zone)
		if err != nil {
			return err
		}
		from, err := time.Parse(time.RFC3339Nano, fixed.from)
		if err != nil {
			return err
		}
		answer, ok := answerCron(fixed.spec, from.In(location))
		if !ok {
			return fmt.Errorf("%q from %s is not settled", fixed.spec, fixed.from)
		}
		if err := stdout.write(answer); err != nil {
			return err
		}
	}
	generator := cronGenerator{rand.New(rand.NewPCG(*seed, 0))}
	for written := 0; written < *count; {
		i := generator.IntN(len(cronZones))
		from, change := generator.from(cronZones[i], zones[i])
		answer, ok := answerCron(generator.spec(change), from)
		if !ok {
			continue
		}
		if err := stdout.write(answer); err != nil {
			return err
		}
		written++
	}
	return nil
}

// answerCron asks the library. Not ok: the answer depends on times that are not settled, or is not later than
// from, or the library would not end.
func answerCron(spec string, from time.Time) (answer cronCase, ok bool) {
	answer = cronCase{Spec: spec, Zone: from.Location().String(), From: from.Format(time.RFC3339Nano)}
	schedule, err := parseCron(spec)
	if err != nil {
		answer.Error = err.Error()
		return answer, true
	}
	zone := from.Location()
	if fields, isFields := schedule.(*cron.SpecSchedule); isFields {
		if fields.Location != time.Local {
			zone = fields.Location
		}
		if hangs(fields, zone, from) {
			return answer, false
		}
	}
	next := schedule.Next(from)
	if !next.IsZero() && !next.After(from) {
		// Around a minute past midnight, when Newfoundland's clocks go back: no answer to go by.
		return answer, false
	}
	looked := next
	if next.IsZero() {
		answer.Never = true
		looked = from.AddDate(6, 0, 0)
	} else {
		answer.Next = next.Format(time.RFC3339)
	}
	return answer, looked.Before(settled) || constant(zone) && constant(from.Location())
}

// parseCron turns the parser's panic into an error.
func parseCron(spec string) (schedule cron.Schedule, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	return cron.ParseStandard(spec)
}

// hangs reports whether the library may search for ever: day by day, it does not get past a day that the zone
// skipped. Among our zones that is Samoa's 30 December 2011.
func hangs(schedule *cron.SpecSchedule, zone *time.Location, from time.Time) bool {
	const everyDayOfMonth, everyDayOfWeek = 1<<32 - 2, 1<<7 - 1
	everyDay := schedule.Dom&everyDayOfMonth == everyDayOfMonth && schedule.Dow&everyDayOfWeek == everyDayOfWeek
	return zone.String() == "Pacific/Apia" && !everyDay &&
		from.Before(time.Date(2011, 12, 30, 10, 0, 0, 0, time.UTC))
}

// constant reports whether the zone has had one offset for long, and will keep it for all that is known.
func constant(zone *time.Location) bool {
	start, end := time.Date(1980, 1, 1, 0, 0, 0, 0, zone).ZoneBounds()
	return start.IsZero() && end.IsZero()
}
