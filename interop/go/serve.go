package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// event is a line about the program as a whole: ready, stopped or closed.
type event struct {
	Event string `json:"event"`
}

// runEvent tells of the start or the end of one run of the handler.
type runEvent struct {
	Event             string            `json:"event"`
	Type              string            `json:"type"`
	ID                string            `json:"id"`
	Queue             string            `json:"queue"`
	Payload           []byte            `json:"payload"`
	Headers           map[string]string `json:"headers"`
	Retried           int               `json:"retried"`
	MaxRetry          int               `json:"max_retry"`
	DeadlineUnixNanos int64             `json:"deadline_unix_nanos"`
	Outcome           string            `json:"outcome,omitempty"` // of an end
	Error             string            `json:"error,omitempty"`   // of an end that is not "ok"
	AtUnixNanos       int64             `json:"at_unix_nanos"`
}

// aggregateEvent tells that the aggregator was called.
type aggregateEvent struct {
	Event       string   `json:"event"`
	Group       string   `json:"group"`
	Payloads    [][]byte `json:"payloads"`
	AtUnixNanos int64    `json:"at_unix_nanos"`
}

// The outcome of a run, as far as the handler knows it.
const (
	outcomeOK         = "ok"
	outcomeError      = "error"
	outcomeNotFailure = "not_failure"
	outcomeSkipRetry  = "skip_retry"
	outcomeRevoke     = "revoke"
	outcomePanic      = "panic"
	outcomeCanceled   = "canceled"
	outcomeDeadline   = "deadline_exceeded"
)

var errNotFailure = errors.New("not a failure")

func runServe(name string, args []string) error {
	f := newFlags(name)
	queues := f.String("queues", "default=1", `priorities, as name=n,name=n or as a JSON object`)
	strict := f.Bool("strict", false, "strict priority")
	concurrency := f.Int("concurrency", 0, "tasks at once (0: library default)")
	taskCheck := millisFlag(f.FlagSet, "task-check-interval", "pause when all queues are empty")
	delayedCheck := millisFlag(f.FlagSet, "delayed-check-interval", "interval of the forwarder")
	shutdownTimeout := millisFlag(f.FlagSet, "shutdown-timeout", "time that running tasks get at shutdown")
	retryDelay := millis(-time.Millisecond)
	f.Var(&retryDelay, "retry-delay-ms", "constant retry delay, `ms` (-1: library default)")
	groupGrace := millisFlag(f.FlagSet, "group-grace", "grace period of groups, at least 1000")
	groupMaxDelay := millisFlag(f.FlagSet, "group-max-delay", "longest wait of a group")
	groupMaxSize := f.Int("group-max-size", 0, "largest size of a group (0: none)")
	logLevel := f.String("log-level", "error", "debug, info, warn, error or fatal")
	conn, err := f.connect(args)
	if err != nil {
		return err
	}
	priorities, err := parseQueues(*queues)
	if err != nil {
		return usageError{err.Error()}
	}
	config := asynq.Config{
		Concurrency:              *concurrency,
		Queues:                   priorities,
		StrictPriority:           *strict,
		TaskCheckInterval:        *taskCheck,
		DelayedTaskCheckInterval: *delayedCheck,
		ShutdownTimeout:          *shutdownTimeout,
		GroupGracePeriod:         *groupGrace,
		GroupMaxDelay:            *groupMaxDelay,
		GroupMaxSize:             *groupMaxSize,
		IsFailure:                func(err error) bool { return !errors.Is(err, errNotFailure) },
	}
	if err := config.LogLevel.Set(*logLevel); err != nil {
		return usageError{err.Error()}
	}
	if *groupGrace != 0 || *groupMaxDelay != 0 || *groupMaxSize != 0 {
		config.GroupAggregator = asynq.GroupAggregatorFunc(aggregate)
	}
	if *groupGrace != 0 && *groupGrace < time.Second {
		return usagef("--group-grace must be at least 1000")
	}
	if retryDelay >= 0 {
		config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Duration(retryDelay) }
	}
	return serve(conn, config)
}

// serve returns when stdin has ended or said "shutdown", and the server is down.
func serve(conn connection, config asynq.Config) error {
	server := asynq.NewServer(conn, config)
	if err := server.Ping(); err != nil {
		return err
	}
	handler := &obedientHandler{ready: make(chan struct{})}
	if err := server.Start(handler); err != nil {
		return err
	}
	awaitVisible(conn)
	if err := stdout.write(event{"ready"}); err != nil {
		return err
	}
	close(handler.ready)

	errShutdown := errors.New("shutdown")
	err := eachLine(os.Stdin, func(line []byte) error {
		switch string(line) {
		case "stop":
			server.Stop()
			return stdout.write(event{"stopped"})
		case "shutdown":
			return errShutdown
		}
		fmt.Fprintf(os.Stderr, "asynq-interop serve: unknown line %q\n", line)
		return nil
	})
	server.Shutdown()
	if err != nil && !errors.Is(err, errShutdown) {
		return err
	}
	return stdout.write(event{"closed"})
}

// awaitVisible waits until other processes can see the server and cancel its tasks. Start does not: its
// components connect in the background.
func awaitVisible(conn connection) {
	client := conn.client()
	defer client.Close()
	inspector := asynq.NewInspectorFromRedisClient(client)
	ctx := context.Background()
	host, _ := os.Hostname()

	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if isSubscribed(ctx, client, conn.options.ClientName) && isListed(inspector, host) {
			return
		}
	}
	fmt.Fprintln(os.Stderr, "asynq-interop serve: not visible in Redis after 5 s, going on")
}

func isSubscribed(ctx context.Context, client *redis.Client, clientName string) bool {
	list, err := client.Do(ctx, "CLIENT", "LIST", "TYPE", "pubsub").Text()
	return err == nil && strings.Contains(list, " name="+clientName+" ")
}

func isListed(inspector *asynq.Inspector, host string) bool {
	servers, err := inspector.Servers()
	if err != nil {
		return false
	}
	for _, server := range servers {
		if server.Host == host && server.PID == os.Getpid() {
			return true
		}
	}
	return false
}

// obedientHandler does what the payload of the task says.
type obedientHandler struct {
	ready chan struct{} // closed after the line "ready", which thus comes first
}

// orders is a payload that the handler understands.
type orders struct {
	Do         string `json:"do"`
	Error      string `json:"error"`       // fail, fail_times, skip_retry, not_failure, panic, result
	N          int    `json:"n"`           // fail_times, sleep
	MS         millis `json:"ms"`          // sleep
	Data       string `json:"data"`        // result
	DataBase64 []byte `json:"data_base64"` // result, instead of data
}

func (h *obedientHandler) ProcessTask(ctx context.Context, task *asynq.Task) error {
	<-h.ready
	run := runEvent{
		Type:    task.Type(),
		Payload: task.Payload(),
		Headers: nonNil(task.Headers()),
	}
	run.ID, _ = asynq.GetTaskID(ctx)
	run.Queue, _ = asynq.GetQueueName(ctx)
	run.Retried, _ = asynq.GetRetryCount(ctx)
	run.MaxRetry, _ = asynq.GetMaxRetry(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		run.DeadlineUnixNanos = unixNanos(deadline)
	}
	run.Event, run.AtUnixNanos = "start", time.Now().UnixNano()
	if err := stdout.write(run); err != nil {
		return err
	}

	var order orders
	if err := json.Unmarshal(task.Payload(), &order); err != nil {
		order = orders{Do: "ok"}
	}
	outcome, err := obey(ctx, task, order, run.Retried)

	run.Event, run.AtUnixNanos = "end", time.Now().UnixNano()
	run.Outcome = outcome
	if err != nil {
		run.Error = err.Error()
	}
	if writeErr := stdout.write(run); writeErr != nil {
		return writeErr
	}
	if outcome == outcomePanic {
		panic(err.Error())
	}
	return err
}

func obey(ctx context.Context, task *asynq.Task, order orders, retried int) (outcome string, err error) {
	switch order.Do {
	case "fail":
		return outcomeError, order.err("failed")
	case "fail_times":
		if retried < order.N {
			return outcomeError, order.err("failed")
		}
	case "not_failure":
		return outcomeNotFailure, order.wrap(errNotFailure)
	case "skip_retry":
		return outcomeSkipRetry, order.wrap(asynq.SkipRetry)
	case "revoke":
		return outcomeRevoke, asynq.RevokeTask
	case "panic":
		return outcomePanic, order.err("panicked")
	case "sleep":
		if order.N == 0 || retried < order.N {
			time.Sleep(time.Duration(order.MS))
		}
	case "wait_cancel":
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return outcomeDeadline, ctx.Err()
		}
		return outcomeCanceled, ctx.Err()
	case "result":
		data := order.DataBase64
		if data == nil {
			data = []byte(order.Data)
		}
		if _, err := task.ResultWriter().Write(data); err != nil {
			return outcomeError, err
		}
		if order.Error != "" {
			return outcomeError, order.err("")
		}
	}
	return outcomeOK, nil
}

func (o orders) err(fallback string) error {
	if o.Error == "" {
		return errors.New(fallback)
	}
	return errors.New(o.Error)
}

func (o orders) wrap(sentinel error) error {
	if o.Error == "" {
		return sentinel
	}
	return fmt.Errorf("%s: %w", o.Error, sentinel)
}

// aggregate joins the payloads with newlines, oldest first.
func aggregate(group string, tasks []*asynq.Task) *asynq.Task {
	payloads := make([][]byte, 0, len(tasks))
	for _, task := range tasks {
		payloads = append(payloads, task.Payload())
	}
	line := aggregateEvent{"aggregate", group, payloads, time.Now().UnixNano()}
	if err := stdout.write(line); err != nil {
		fmt.Fprintf(os.Stderr, "asynq-interop serve: %v\n", err)
	}
	return asynq.NewTask("aggregated:"+group, bytes.Join(payloads, []byte("\n")))
}

// parseQueues reads "default=3,low=1", or a JSON object where a name has a comma or an equals sign.
func parseQueues(text string) (map[string]int, error) {
	queues := make(map[string]int)
	if strings.HasPrefix(text, "{") {
		if err := decodeStrict([]byte(text), &queues); err != nil {
			return nil, fmt.Errorf("--queues: %w", err)
		}
		return queues, nil
	}
	for _, part := range strings.Split(text, ",") {
		name, priority, found := strings.Cut(part, "=")
		if !found {
			priority = "1"
		}
		n, err := strconv.Atoi(priority)
		if err != nil {
			return nil, fmt.Errorf("--queues: priority of %q: %w", name, err)
		}
		queues[name] = n
	}
	return queues, nil
}
