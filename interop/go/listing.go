package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hibiken/asynq"
)

// listing is a run of the subcommand of this name: the words of an operator, as the command line program of
// asynq documents them, answered with the library and with Go's own formatting.
type listing struct {
	inspectCommand
	task      taskInput // what `task enqueue` was given
	json      bool
	args      []string // what is left of the command line: names of queues, ids
	now       time.Time
	conn      asynq.RedisConnOpt
	inspector *asynq.Inspector
}

// listings are the commands, by their words.
var listings = map[string]func(*listing) error{
	"stats":           (*listing).stats,
	"queue list":      (*listing).queues,
	"queue inspect":   (*listing).inspectQueues,
	"queue history":   (*listing).history,
	"queue pause":     (*listing).pause,
	"queue resume":    (*listing).resume,
	"queue remove":    (*listing).removeQueues,
	"task list":       (*listing).tasks,
	"task inspect":    (*listing).inspectTask,
	"task cancel":     (*listing).cancel,
	"task run":        (*listing).run,
	"task archive":    (*listing).archive,
	"task delete":     (*listing).delete,
	"task enqueue":    (*listing).enqueue,
	"task runall":     (*listing).runAll,
	"task archiveall": (*listing).archiveAll,
	"task deleteall":  (*listing).deleteAll,
	"server list":     (*listing).servers,
	"cron list":       (*listing).entries,
	"cron history":    (*listing).events,
	"group list":      (*listing).groups,
}

// aliases are other words for commands. Any `ls` is a `list`.
var aliases = map[string]string{
	"queue unpause": "queue resume",
	"queue rm":      "queue remove",
	"queue delete":  "queue remove",
	"task rm":       "task delete",
	"task remove":   "task delete",
}

// runListing tells errors on stdout, as the program does that it stands for.
func runListing(name string, args []string) error {
	l := listing{now: time.Now()}
	run, err := l.parse(name, args)
	if err == nil {
		l.inspector = asynq.NewInspector(l.conn)
		defer l.inspector.Close()
		err = run(&l)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return nil
}

// parse reads flags and other words in any order, and returns the command.
func (l *listing) parse(name string, args []string) (func(*listing) error, error) {
	f := flag.NewFlagSet(name, flag.ExitOnError)
	var uri, nodes string
	var db int
	var cluster bool
	for _, name := range []string{"uri", "u"} {
		f.StringVar(&uri, name, "127.0.0.1:6379", "host:port of Redis")
	}
	for _, name := range []string{"db", "n"} {
		f.IntVar(&db, name, 0, "database")
	}
	f.BoolVar(&cluster, "cluster", false, "connect to a cluster")
	f.StringVar(&nodes, "cluster_addrs", "", "some nodes of the cluster, with commas")
	f.BoolVar(&l.json, "json", false, "write stats as JSON")
	l.Page, l.Size = f.Int("page", 1, "number of the page"), f.Int("size", 30, "size of a page")
	for _, name := range []string{"days", "x"} {
		f.IntVar(&l.Days, name, 10, "number of days")
	}
	for _, name := range []string{"force", "f"} {
		f.BoolVar(&l.Force, name, false, "remove queues with tasks")
	}
	texts := []struct {
		target      *string
		name, short string
	}{
		{&l.Queue, "queue", "q"}, {&l.ID, "id", "i"}, {&l.State, "state", "s"}, {&l.Group, "group", "g"},
		{&l.task.Type, "type_name", "t"},
	}
	for _, text := range texts {
		f.StringVar(text.target, text.name, "", "the same as -"+text.short)
		f.StringVar(text.target, text.short, "", "the same as --"+text.name)
	}
	l.enqueueFlags(f)

	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if args = f.Args(); len(args) > 0 {
			l.args, args = append(l.args, args[0]), args[1:]
		}
	}
	if cluster {
		l.conn = asynq.RedisClusterClientOpt{Addrs: strings.Split(nodes, ",")}
	} else {
		conn, err := newConnection(uri)
		if err != nil {
			return nil, err
		}
		conn.options.DB = db
		l.conn = conn
	}

	words := l.args[:min(2, len(l.args))]
	if len(words) > 0 && words[0] == "stats" {
		words = words[:1]
	}
	l.args = l.args[len(words):]
	command := strings.Join(words, " ")
	if group, isList := strings.CutSuffix(command, " ls"); isList {
		command = group + " list"
	}
	if alias, ok := aliases[command]; ok {
		command = alias
	}
	if run, ok := listings[command]; ok {
		return run, nil
	}
	return nil, fmt.Errorf("unknown command %q", command)
}

// require is an error if a flag is empty; it takes names and values in turns.
func require(flags ...string) error {
	for pair := range slices.Chunk(flags, 2) {
		if pair[1] == "" {
			return fmt.Errorf("required flag(s) %q not set", pair[0])
		}
	}
	return nil
}

// separated calls fn with each argument, and writes a line between the answers, of which an error is one, too.
func (l *listing) separated(fn func(name string) error) error {
	for i, name := range l.args {
		if i > 0 {
			fmt.Printf("\n%s\n\n", strings.Repeat("=", 49))
		}
		if err := fn(name); err != nil {
			fmt.Printf("error: %v\n", err)
		}
	}
	return nil
}

// table writes rows below titles, each of them above a line as long as itself.
func table(titles []string, rows [][]any) {
	lines := make([]any, len(titles))
	head := make([]any, len(titles))
	for i, title := range titles {
		head[i], lines[i] = title, strings.Repeat("-", utf8.RuneCountInString(title))
	}
	columns(append([][]any{head, lines}, rows...))
}

// columns writes rows with at least two blanks after each cell.
func columns(rows [][]any) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for _, cell := range row {
			fmt.Fprintf(w, "%v\t", cell)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// printable is data as text, if it is text that can be seen.
func printable(data []byte) string {
	isBlank := true
	for _, char := range string(data) {
		if !unicode.IsPrint(char) {
			return "non-printable bytes"
		}
		isBlank = isBlank && unicode.IsSpace(char)
	}
	if isBlank || !utf8.Valid(data) {
		return "non-printable bytes"
	}
	return string(data)
}

// date is empty for no time.
func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.UnixDate)
}

// until is the time to a moment in whole seconds, or another text if it has passed.
func (l *listing) until(t time.Time, in, passed string) string {
	if !t.After(l.now) {
		return passed
	}
	return in + t.Sub(l.now).Round(time.Second).String()
}

func (l *listing) since(t time.Time) string {
	return l.now.Sub(t).Round(time.Second).String() + " ago"
}

func errorRate(processed, failed int) string {
	if processed == 0 {
		return "N/A"
	}
	return fmt.Sprintf("%.2f%%", float64(failed)/float64(processed)*100)
}

// runsOfDay writes the numbers of a day of UTC.
func runsOfDay(day time.Time, processed, failed int) {
	fmt.Printf("Daily Stats %s UTC\n", day.UTC().Format(time.DateOnly))
	table([]string{"processed", "failed", "error rate"}, [][]any{{processed, failed, errorRate(processed, failed)}})
}
