package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const benchTaskType = "bench:noop"

type enqueueResult struct {
	N         int64   `json:"n"`
	Callers   int     `json:"callers"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

type drainResult struct {
	N           int64   `json:"n"`
	Concurrency int     `json:"concurrency"`
	Seconds     float64 `json:"seconds"` // first run of the handler to last task gone from Redis
	PerSecond   float64 `json:"per_second"`
	// From here on seconds since the server was started.
	FirstTaskSeconds float64 `json:"first_task_seconds"` // first run of the handler
	HandledSeconds   float64 `json:"handled_seconds"`    // n-th run of the handler
	TotalSeconds     float64 `json:"total_seconds"`      // last task gone from Redis
}

func runBenchEnqueue(name string, args []string) error {
	f := newFlags(name)
	n := f.Int64("n", 100_000, "number of tasks")
	callers := f.Int("callers", 1, "goroutines that enqueue, one task at a time each")
	payloadBytes := f.Int("payload-bytes", 0, "size of each payload")
	queue := f.String("queue", "default", "queue")
	poolSize := f.Int("pool-size", 0, "connections to Redis (0: library default)")
	conn, err := f.connect(args)
	if err != nil {
		return err
	}
	if *n < 1 || *callers < 1 || *payloadBytes < 0 {
		return usagef("--n and --callers must be at least 1, --payload-bytes at least 0")
	}
	conn.options.PoolSize = *poolSize
	client := asynq.NewClient(conn)
	defer client.Close()
	if err := client.Ping(); err != nil {
		return err
	}
	task := asynq.NewTask(benchTaskType, bytes.Repeat([]byte{'x'}, *payloadBytes))

	var (
		wg       sync.WaitGroup
		taken    atomic.Int64
		firstErr atomic.Pointer[error]
	)
	start := time.Now()
	for range *callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for firstErr.Load() == nil && taken.Add(1) <= *n {
				if _, err := client.Enqueue(task, asynq.Queue(*queue)); err != nil {
					firstErr.CompareAndSwap(nil, &err)
				}
			}
		}()
	}
	wg.Wait()
	seconds := time.Since(start).Seconds()
	if err := firstErr.Load(); err != nil {
		return *err
	}
	return stdout.write(enqueueResult{*n, *callers, seconds, float64(*n) / seconds})
}

func runBenchDrain(name string, args []string) error {
	f := newFlags(name)
	n := f.Int64("n", 100_000, "number of tasks to wait for")
	concurrency := f.Int("concurrency", 10, "tasks at once")
	queue := f.String("queue", "default", "queue")
	poolSize := f.Int("pool-size", 0, "connections to Redis (0: library default)")
	timeout := millisFlag(f.FlagSet, "timeout", "give up after, ten minutes if not set")
	conn, err := f.connect(args)
	if err != nil {
		return err
	}
	if *n < 1 || *concurrency < 1 {
		return usagef("--n and --concurrency must be at least 1")
	}
	if *timeout == 0 {
		*timeout = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	observer := conn.client()
	defer observer.Close()
	before, err := readProgress(ctx, observer, *queue)
	if err != nil {
		return err
	}
	if before.pending > *n {
		return fmt.Errorf("the queue has %d pending tasks, more than --n: it would not be empty at the end", before.pending)
	}

	conn.options.PoolSize = *poolSize
	server := asynq.NewServer(conn, asynq.Config{
		Concurrency: *concurrency,
		Queues:      map[string]int{*queue: 1},
		LogLevel:    asynq.FatalLevel,
	})
	var (
		start     time.Time
		first     atomic.Int64 // nanoseconds since start; 0: none yet
		handled   atomic.Int64
		handledAt time.Duration // written before allHandled is closed
	)
	allHandled := make(chan struct{})
	handler := asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		if first.Load() == 0 {
			first.CompareAndSwap(0, int64(time.Since(start)))
		}
		if handled.Add(1) == *n {
			handledAt = time.Since(start)
			close(allHandled)
		}
		return nil
	})
	start = time.Now()
	if err := server.Start(handler); err != nil {
		return err
	}
	defer server.Shutdown()

	select {
	case <-allHandled:
	case <-ctx.Done():
		return fmt.Errorf("handled %d of %d tasks within %v", handled.Load(), *n, *timeout)
	}
	// The last results are still on their way to Redis. Only now is Redis asked, so that the question does
	// not slow down the answer.
	for {
		now, err := readProgress(ctx, observer, *queue)
		if err != nil {
			return err
		}
		if now.active == 0 && now.processed-before.processed >= *n {
			break
		}
		time.Sleep(200 * time.Microsecond)
	}
	total := time.Since(start)
	seconds := (total - time.Duration(first.Load())).Seconds()
	return stdout.write(drainResult{
		N:                *n,
		Concurrency:      *concurrency,
		Seconds:          seconds,
		PerSecond:        float64(*n) / seconds,
		FirstTaskSeconds: time.Duration(first.Load()).Seconds(),
		HandledSeconds:   handledAt.Seconds(),
		TotalSeconds:     total.Seconds(),
	})
}

// progress is what Redis tells about a queue.
type progress struct {
	processed int64 // since ever
	pending   int64
	active    int64
}

func readProgress(ctx context.Context, client *redis.Client, queue string) (progress, error) {
	prefix := "asynq:{" + queue + "}:"
	pipe := client.Pipeline()
	processed := pipe.Get(ctx, prefix+"processed")
	pending := pipe.LLen(ctx, prefix+"pending")
	active := pipe.LLen(ctx, prefix+"active")
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return progress{}, err
	}
	result := progress{pending: pending.Val(), active: active.Val()}
	var err error
	if result.processed, err = processed.Int64(); err != nil && !errors.Is(err, redis.Nil) {
		return progress{}, err
	}
	return result, nil
}
