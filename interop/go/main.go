// Command asynq-interop is the Go side of the interoperability tests: small programs around the
// original asynq library, driven over argv and line-delimited JSON. See README.md for the shapes.
//
// Answers and events go to stdout, one JSON object a line. Everything meant for people goes to stderr.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
)

type command struct {
	name    string
	summary string
	run     func(name string, args []string) error
}

var commands = []command{
	{"enqueue", "enqueue the tasks read from stdin", runEnqueue},
	{"inspect", "answer inspector commands read from stdin", runInspect},
	{"listing", "answer the words of the command line program of asynq", runListing},
	{"serve", "run a server whose handler obeys the payload", runServe},
	{"asynqmon", "serve the web server of asynqmon", runAsynqmon},
	{"metrics", "write one scrape of the collector for Prometheus", runMetrics},
	{"schedule", "run a scheduler with the entries read from stdin", runSchedule},
	{"options", "write the options read from stdin as texts", runOptions},
	{"dump", "print every key of the database", runDump},
	{"vectors", "enqueue a fixed set of tasks into an empty database and dump it", runVectors},
	{"cron", "print what the scheduler's cron library makes of generated specs", runCron},
	{"bench-enqueue", "measure enqueueing", runBenchEnqueue},
	{"bench-drain", "measure processing of tasks that do nothing", runBenchDrain},
}

// usageError is a mistake on the command line: exit status 2 instead of 1.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

func main() {
	if len(os.Args) < 2 {
		printUsage()
		os.Exit(2)
	}
	name := os.Args[1]
	for _, c := range commands {
		if c.name != name {
			continue
		}
		if err := c.run(name, os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "asynq-interop %s: %v\n", name, err)
			var usage usageError
			if errors.As(err, &usage) {
				os.Exit(2)
			}
			os.Exit(1)
		}
		return
	}
	fmt.Fprintf(os.Stderr, "asynq-interop: unknown subcommand %q\n", name)
	printUsage()
	os.Exit(2)
}

func printUsage() {
	fmt.Fprintln(os.Stderr, "usage: asynq-interop SUBCOMMAND [--redis ADDRESS] [flags]")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-14s %s\n", c.name, c.summary)
	}
}

// localFlags is the flag set of a subcommand without Redis.
type localFlags struct{ *flag.FlagSet }

func newLocalFlags(name string) localFlags {
	return localFlags{flag.NewFlagSet(name, flag.ExitOnError)}
}

func (f localFlags) parse(args []string) error {
	if err := f.Parse(args); err != nil {
		return usageError{err.Error()}
	}
	if f.NArg() > 0 {
		return usagef("unexpected argument %q", f.Arg(0))
	}
	return nil
}

// flags is a flag set with the one flag that every subcommand with Redis has.
type flags struct {
	localFlags
	redis string
}

func newFlags(name string) *flags {
	f := &flags{localFlags: newLocalFlags(name)}
	f.StringVar(&f.redis, "redis", "", "host:port, path of a unix socket, or redis:// URL (required)")
	return f
}

// connect parses the arguments and returns the connection they describe.
func (f *flags) connect(args []string) (connection, error) {
	if err := f.parse(args); err != nil {
		return connection{}, err
	}
	if f.redis == "" {
		return connection{}, usagef("--redis is required")
	}
	return newConnection(f.redis)
}

// connection satisfies asynq.RedisConnOpt. Its clients carry a name of this process, so that they can be
// told apart in CLIENT LIST.
type connection struct{ options redis.Options }

func newConnection(address string) (connection, error) {
	options := &redis.Options{Network: "tcp", Addr: address}
	switch {
	case strings.Contains(address, "://"):
		parsed, err := redis.ParseURL(address)
		if err != nil {
			return connection{}, usageError{err.Error()}
		}
		options = parsed
	case strings.HasPrefix(address, "/"):
		options.Network = "unix"
	}
	options.ClientName = fmt.Sprintf("asynq-interop-%d", os.Getpid())
	return connection{*options}, nil
}

// MakeRedisClient returns a new *redis.Client, as asynq expects it.
func (c connection) MakeRedisClient() any { return c.client() }

func (c connection) client() *redis.Client {
	options := c.options
	return redis.NewClient(&options)
}
