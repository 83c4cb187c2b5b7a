package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// cronFixed are cases worth having in every sample.
var cronFixed = []struct{ spec, zone, from string }{
	// Fields of nothing.
	{", * * * *", "UTC", "2024-01-01T00:00:00Z"},
	{"* , * * *", "UTC", "2024-01-01T00:00:00Z"},
	{"* * , * *", "UTC", "2024-01-01T00:00:00Z"},
	{"* * * , *", "UTC", "2024-01-01T00:00:00Z"},
	{"* * * * ,", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 , * mon", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 13 * ,", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 , * ,,", "UTC", "2024-01-01T00:00:00Z"},
	// Days: both, or one of the two.
	{"0 0 13 * fri", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 */1 * fri", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 */2 * fri", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 13,* * fri", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 13 * 0-6", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 1-31 * fri", "UTC", "2024-01-01T00:00:00Z"},
	{"0 0 13 * ?", "UTC", "2024-01-01T00:00:00Z"},
	// Years.
	{"0 0 30 2 *", "UTC", "2023-03-01T00:00:00Z"},
	{"0 0 31 4,6,9,11 *", "UTC", "2023-03-01T00:00:00Z"},
	{"0 0 29 2 *", "UTC", "2020-02-29T00:00:00Z"},
	{"0 0 29 2 *", "UTC", "2097-01-01T00:00:00Z"},
	{"0 0 29 2 *", "UTC", "1896-02-29T00:00:00Z"},
	{"0 0 29 2 *", "UTC", "1898-12-31T23:59:58Z"},
	{"0 0 29 2 *", "UTC", "1898-12-31T23:59:59Z"},
	{"59 23 31 12 *", "UTC", "2023-12-31T23:58:59.999999999Z"},
	{"59 23 31 12 *", "UTC", "2023-12-31T23:59:00Z"},
	// Skipped midnights: west of Greenwich, east of it, on the first of a month.
	{"0 12 4 11 *", "America/Sao_Paulo", "2018-11-03T06:00:00-03:00"},
	{"0 5 3 11 *", "America/Sao_Paulo", "2018-11-03T06:00:00-03:00"},
	{"0 12 * 10 *", "America/Asuncion", "2017-08-15T00:00:00-04:00"},
	{"0 12 1 10 *", "America/Asuncion", "2017-08-15T00:00:00-04:00"},
	{"0 12 26 3 *", "Asia/Beirut", "2017-03-20T00:00:00+02:00"},
	{"0 12 * * 0", "Africa/Cairo", "2023-04-25T00:00:00+02:00"},
	{"0 0 * * *", "Africa/Cairo", "2023-04-27T12:00:00+02:00"},
	// A skipped day.
	{"30 * * * *", "Pacific/Apia", "2011-12-29T23:30:00-10:00"},
	{"0 9 31 * *", "Pacific/Apia", "2011-12-31T00:00:00+14:00"},
	// Half an hour.
	{"15 2 * * *", "Australia/Lord_Howe", "2023-04-02T01:45:00+10:30"},
	{"0 3 * * *", "Australia/Lord_Howe", "2023-10-01T01:10:00+10:30"},
	// Zones by name.
	{"TZ= 0 0 * * *", "Europe/Berlin", "2023-06-01T00:00:00Z"},
	{"CRON_TZ=UTC 0 0 * * *", "Europe/Berlin", "2023-06-01T00:00:00Z"},
	{"CRON_TZ=Local 0 0 * * *", "Europe/Berlin", "2023-06-01T00:00:00Z"},
	{"CRON_TZ=Factory 0 0 * * *", "Europe/Berlin", "2023-06-01T00:00:00Z"},
	{"CRON_TZ=Asia/Tokyo \t@daily\n", "Europe/Berlin", "2023-06-01T00:00:00Z"},
	// Floating point.
	{"@every 0.0175000000000000h", "UTC", "2024-01-01T00:00:00Z"},
	{"@every 0.050000000000000000m", "UTC", "2024-01-01T00:00:00Z"},
	{"CRON_TZ=Asia/Tokyo @every 90m ", "Europe/Berlin", "2023-06-01T00:00:00.25Z"},
}

// Refused, or accepted although one would not think so.
var (
	oddTerms = []string{
		"60", "24", "32", "13", "7", "0", "5-1", "30-70", "1-2-3", "*-2-3", "*-x", "?-5/2", "1/2/3", "*/0", "*/-2", "*/-0",
		"1/x", "1/", "x", "1-x", "x-1", "-", "-5", "5-", "--", "/", "/5", "1//2", "*/", "**", "*5", "5*", "+5", "+", "1-+3",
		"1/+2", "007", "1.5", "1e1", "0x1", "1_0", "99999999999999999999", "1/99999999999999999999",
		"1/9223372036854775807", "9223372036854775807", "jan", "sun", "monday", "mon-5", "2-tue", "sat-sun",
		"DEC", "fR\u0130", "fr\u0131", "mon/2", "jan-mar/2", "L", "15W", "5#3", "H", "%", "1;2", "\u0661", "\u2013", "\u00e9",
	}
	oddSpecs = []string{
		"", " ", "\t", "*", "* * * *", "* * * * * *", "0 * * * * *", "@", "@reboot", "@Daily", "@daily ", " @daily",
		"@daily x", "@DAILY", "@midday", "@every", "@every ", "@every1h", "@every 1d", "@every 5", "@every  1h",
		"@every 1h ", "@every -", "@every +", "@every .s", "@every 1.2.3s", "@every 1h 30m", "@every 1H",
		"@every 9223372036854775808ns", "@every 2562048h", "@every 99999999999999999999s", "@every s",
		"@every 1\u00b5", "@every 1h\u00e9", "@Every 1h", "TZ=UTC", "CRON_TZ=UTC", "TZ=", "CRON_TZ=",
		"TZ=UTC\t* * * * *x", "TZ=UTC\t* * * * *", "TZ=Nowhere/Land * * * * *", "CRON_TZ=Nowhere @daily",
		"TZ=../UTC * * * * *", "TZ=/UTC * * * * *", "TZ=\\UTC * * * * *", "TZ=UTC+3 * * * * *",
		"TZ=TZ=UTC * * * * *", "TZ= TZ=UTC * * * * *", "TZ=UTC ", "TZ=UTC *", "TZ=UTC @reboot", "TZ=UTC @every x",
		"tz=UTC * * * * *", " TZ=UTC * * * * *", "TZ =UTC * * * * *", "TZ=UTC @every 1h \t", "TZ=UTC  @daily",
	}
	durations = []string{
		"1s", "90s", "1m", "1h30m", "24h", "1.5s", "1.999s", "999ms", "1ms", "1\u00b5s", "1\u03bcs", "1us", "1ns", "0", "+0", "0s",
		"-5m", "-1.5h", "+10s", ".5s", "5.s", "1.5h", "0.1h", "1h1h", "3s2h", "1m0.5s", "100000h", "0.3333333333333333333h",
		"0.99999999999999999999999s", "2562047h47m16.854775807s", "-9223372036854775808ns", "-9223372036854775809ns",
		"9223372036854775807ns", "9223372036854775808ns9223372036854775808ns",
	}
	descriptors = []string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
	monthNames  = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames    = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// cronField says what a field takes.
type cronField struct {
	min, max int
	names    []string // from min on
}

var cronFields = [5]cronField{{0, 59, nil}, {0, 23, nil}, {1, 31, nil}, {1, 12, monthNames}, {0, 6, dayNames}}

type cronGenerator struct{ *rand.Rand }

// chance is true in so many of a hundred.
func (g cronGenerator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g cronGenerator, list []T) T { return list[g.IntN(len(list))] }

// between includes both ends.
func (g cronGenerator) between(low, high int) int { return low + g.IntN(high-low+1) }

// from is where a search begins, and a moment of interest not far from it: a change of the clocks, or the
// beginning itself.
func (g cronGenerator) from(zone cronZone, location *time.Location) (from, interest time.Time) {
	year := g.between(zone.first, zone.last)
	from = time.Date(year, time.January, 1, 0, 0, 0, 0, location).Add(time.Duration(g.Int64N(365*86400)) * time.Second)
	switch {
	case g.chance(60):
		_, change := from.ZoneBounds()
		if change.IsZero() || change.Year() > zone.last {
			break
		}
		seconds := g.between(-3*86400, 86400)
		if g.chance(50) {
			seconds = g.between(-4, 4)*1800 + g.between(-1, 1)
		}
		return g.fraction(change.Add(time.Duration(seconds) * time.Second)), change
	case g.chance(40):
		// The end of a month, of February above all, or of a year.
		month := pick(g, []time.Month{time.January, time.March, time.March, time.March, from.Month()})
		from = time.Date(year, month, 1, 0, 0, g.between(-2*86400, 3600), 0, location)
	}
	return g.fraction(from), from
}

func (g cronGenerator) fraction(t time.Time) time.Time {
	if g.chance(70) {
		return t
	}
	return t.Add(pick(g, []time.Duration{1, 500 * time.Millisecond, time.Second - 1, time.Duration(g.Int64N(1e9))}))
}

// spec is due around the moment of interest more often than chance would have it.
func (g cronGenerator) spec(interest time.Time) string {
	spec := ""
	switch kind := g.IntN(100); {
	case kind < 4:
		return pick(g, oddSpecs)
	case kind < 8:
		spec = "@every " + pick(g, durations)
	case kind < 12:
		spec = pick(g, descriptors)
	default:
		fields := g.fields(interest)
		if g.chance(8) {
			i := g.IntN(len(fields))
			fields[i] = pick(g, oddTerms)
			if g.chance(30) {
				fields[i] += "," + g.term(cronFields[i])
			}
		}
		spec = g.spaced(fields[:])
	}
	if g.chance(15) {
		zone := pick(g, cronZones).name
		if g.chance(20) {
			zone = pick(g, []string{"", "UTC", "Local"})
		}
		spec = pick(g, []string{"TZ=", "CRON_TZ="}) + zone + " " + spec
	}
	return spec
}

// spaced puts white space between the fields, mostly blanks.
func (g cronGenerator) spaced(fields []string) string {
	if g.chance(92) {
		return strings.Join(fields, " ")
	}
	blanks := []string{" ", "  ", "\t", " \t", "\u00a0", "\u2003", "\n", "\u0085", "\v"}
	var spec strings.Builder
	for _, field := range fields {
		if spec.Len() > 0 || g.chance(20) {
			spec.WriteString(pick(g, blanks))
		}
		spec.WriteString(field)
	}
	if g.chance(20) {
		spec.WriteString(pick(g, blanks))
	}
	return spec.String()
}

func (g cronGenerator) fields(interest time.Time) [5]string {
	var fields [5]string
	for i, field := range cronFields {
		fields[i] = g.field(field)
	}
	if !g.chance(65) {
		return fields
	}
	// A time of day close to the interest, on its day, or on any.
	near := interest.Add(time.Duration(g.between(-8, 8)) * 15 * time.Minute)
	fields[0] = pick(g, []string{strconv.Itoa(near.Minute()), "0", "30", "*/15", "*", "5,59"})
	hour := (near.Hour() + g.between(-1, 1) + 24) % 24
	fields[1] = pick(g, []string{
		strconv.Itoa(hour), strconv.Itoa(hour), "*", "*/2", "0", "1", "2", "23", fmt.Sprintf("%d,%d", hour, (hour+2)%24),
	})
	for i := 2; i < 5; i++ {
		if g.chance(75) {
			fields[i] = pick(g, []string{"*", "*", "*", "?", "*/1"})
		}
	}
	if g.chance(30) {
		fields[2] = strconv.Itoa(near.AddDate(0, 0, g.between(-1, 1)).Day())
	}
	if g.chance(15) {
		fields[3] = strconv.Itoa(int(near.Month()))
	}
	if g.chance(20) {
		fields[4] = strconv.Itoa(int(near.AddDate(0, 0, g.between(-1, 1)).Weekday()))
	}
	return fields
}

func (g cronGenerator) field(field cronField) string {
	terms := 1
	if g.chance(25) {
		terms = g.between(2, 4)
	}
	// A field of nothing makes the library look at each minute of five years: rare.
	if g.chance(1) && g.chance(20) {
		return ",,"[:g.between(1, 2)]
	}
	list := make([]string, terms)
	for i := range list {
		list[i] = g.term(field)
	}
	return strings.Join(list, pick(g, []string{",", ",", ",", ",,"}))
}

func (g cronGenerator) term(field cronField) string {
	low := g.between(field.min, field.max)
	high := g.between(low, field.max)
	step := strconv.Itoa(g.between(1, field.max+2))
	switch g.IntN(10) {
	case 0, 1, 2:
		return pick(g, []string{"*", "*", "?"})
	case 3, 4:
		return g.number(field, low)
	case 5, 6:
		return g.number(field, low) + "-" + g.number(field, high)
	case 7:
		return pick(g, []string{"*/", "?/"}) + step
	case 8:
		return g.number(field, low) + "/" + step
	default:
		return g.number(field, low) + "-" + g.number(field, high) + "/" + step
	}
}

// number is a number in digits, or by its name in any case.
func (g cronGenerator) number(field cronField, number int) string {
	if len(field.names) > 0 && g.chance(40) {
		name := field.names[number-field.min]
		return pick(g, []string{name, name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]})
	}
	if g.chance(3) {
		return fmt.Sprintf("%02d", number)
	}
	return strconv.Itoa(number)
}
