// Command asynq-bench-go is Go asynq as a contestant of `cargo xtask bench`: called as `PROGRAM WORK JSON`, it speaks
// the line protocol that benches/src/contestant.rs describes.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	taskType = "bench:noop"
	// Time after the last probe was sent in which it must have started.
	lastProbe = 20 * time.Second
)

type params struct {
	Redis       string  `json:"redis"`
	N           int64   `json:"n"`
	Callers     int     `json:"callers"`
	Bulk        int     `json:"bulk"`
	Concurrency int     `json:"concurrency"`
	Payload     int     `json:"payload"`
	Queues      []queue `json:"queues"`
	Handler     string  `json:"handler"`
	Rate        int64   `json:"rate"`
	Seconds     float64 `json:"seconds"`
	Load        int64   `json:"load"`
}

type queue struct {
	name   string
	weight int
}

func (q *queue) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[2]any{&q.name, &q.weight})
}

var (
	input = bufio.NewReader(os.Stdin)
	out   sync.Mutex
)

func say(line string) {
	out.Lock()
	defer out.Unlock()
	fmt.Println(line)
}

func ready() {
	say("ready")
	input.ReadString('\n')
}

func untilStopped() {
	for {
		if _, err := input.ReadString('\n'); err != nil {
			return
		}
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: asynq-bench-go WORK JSON")
	}
	var p params
	if err := json.Unmarshal([]byte(os.Args[2]), &p); err != nil {
		return err
	}
	switch os.Args[1] {
	case "enqueue":
		return enqueue(p)
	case "drain":
		return drain(p)
	case "both":
		return both(p)
	case "latency":
		return latency(p)
	case "scheduled":
		return scheduled(p)
	case "idle":
		return idle(p)
	}
	return fmt.Errorf("there is no work called %q", os.Args[1])
}

func (p params) redis() asynq.RedisClientOpt { return asynq.RedisClientOpt{Addr: p.Redis} }

func (p params) server() *asynq.Server {
	queues := map[string]int{"default": 1}
	if len(p.Queues) > 0 {
		queues = map[string]int{}
		for _, q := range p.Queues {
			queues[q.name] = q.weight
		}
	}
	config := asynq.Config{
		Concurrency: p.Concurrency,
		Queues:      queues,
		LogLevel:    asynq.FatalLevel,
	}
	if p.Handler == "mixed" {
		// A retry within the measurement would be one task more.
		config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Hour }
	}
	return asynq.NewServer(p.redis(), config)
}

func connected(p params) (*asynq.Client, error) {
	client := asynq.NewClient(p.redis())
	return client, client.Ping()
}

func enqueue(p params) error {
	client, err := connected(p)
	if err != nil {
		return err
	}
	ready()
	if err := produce(client, p); err != nil {
		return err
	}
	say("handled")
	untilStopped()
	return nil
}

// produce enqueues all tasks by the callers, which share what is left to do. The library has no call for several
// tasks, so a bulk is as many goroutines.
func produce(client *asynq.Client, p params) error {
	callers := max(p.Callers, 1) * max(p.Bulk, 1)
	task := asynq.NewTask(taskType, make([]byte, p.Payload))
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		failed atomic.Pointer[error]
	)
	for range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for failed.Load() == nil {
				number := next.Add(1) - 1
				if number >= p.N {
					return
				}
				var options []asynq.Option
				if len(p.Queues) > 0 {
					options = append(options, asynq.Queue(p.Queues[number%int64(len(p.Queues))].name))
				}
				if p.Handler == "mixed" && number%20 == 2 {
					options = append(options, asynq.Retention(time.Hour))
				}
				if _, err := client.Enqueue(task, options...); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		}()
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// progress counts runs, and says when the first one began and the last one ended.
type progress struct {
	n                int64
	started, handled atomic.Int64
}

func (c *progress) start() int64 {
	number := c.started.Add(1) - 1
	if number == 0 {
		say("first")
	}
	return number
}

func (c *progress) end() {
	if c.handled.Add(1) == c.n {
		say("handled")
	}
}

// held has the runs that are held.
type held struct {
	sync.Mutex
	ends []chan struct{}
}

// hold adds a run; beyond most one of all ends, at random.
func (h *held) hold(most int, allStarted bool) chan struct{} {
	h.Lock()
	defer h.Unlock()
	end := make(chan struct{})
	h.ends = append(h.ends, end)
	for len(h.ends) > 0 && (len(h.ends) >= most || allStarted) {
		place, last := rand.Intn(len(h.ends)), len(h.ends)-1
		close(h.ends[place])
		h.ends[place] = h.ends[last]
		h.ends = h.ends[:last]
	}
	return end
}

func (p params) handler(count *progress) asynq.HandlerFunc {
	runs := new(held)
	return func(context.Context, *asynq.Task) error {
		number := count.start()
		defer count.end()
		switch {
		case p.Handler == "mixed" && number%20 == 0:
			return errors.New("try again")
		case p.Handler == "mixed" && number%20 == 1:
			return fmt.Errorf("no use: %w", asynq.SkipRetry)
		case p.Handler == "hold":
			<-runs.hold(max(p.Concurrency*9/10, 1), number+1 >= p.N)
		}
		return nil
	}
}

func drain(p params) error {
	probe := redis.NewClient(&redis.Options{Addr: p.Redis})
	if err := probe.Ping(context.Background()).Err(); err != nil {
		return err
	}
	probe.Close()
	server := p.server()
	ready()
	if err := server.Start(p.handler(&progress{n: p.N})); err != nil {
		return err
	}
	untilStopped()
	return nil
}

func both(p params) error {
	client, err := connected(p)
	if err != nil {
		return err
	}
	server := p.server()
	if err := server.Start(p.handler(&progress{n: p.N})); err != nil {
		return err
	}
	ready()
	if err := produce(client, p); err != nil {
		return err
	}
	untilStopped()
	return nil
}

// delays of probes in microseconds.
type delays struct {
	sync.Mutex
	micros []int64
}

func (d *delays) add(micros int64) {
	d.Lock()
	defer d.Unlock()
	d.micros = append(d.micros, micros)
}

func (d *delays) untilStarted(count int, deadline time.Time) {
	for {
		d.Lock()
		found := slices.Clone(d.micros)
		d.Unlock()
		if len(found) < count && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		slices.Sort(found)
		at := func(perMille int) int64 {
			if len(found) == 0 {
				return 0
			}
			return found[max((len(found)*perMille+999)/1000, 1)-1]
		}
		say(fmt.Sprintf(`result {"count":%d,"min_us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}`,
			len(found), at(0), at(500), at(990), at(1000)))
		return
	}
}

func payload(value int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(value)) }

func sent(task *asynq.Task) (int64, bool) {
	if len(task.Payload()) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(task.Payload())), true
}

func latency(p params) error {
	client, err := connected(p)
	if err != nil {
		return err
	}
	began := time.Now()
	found := new(delays)
	server := p.server()
	err = server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		if nanos, ok := sent(task); ok {
			found.add((time.Since(began).Nanoseconds() - nanos) / 1000)
		}
		return nil
	}))
	if err != nil {
		return err
	}
	ready()
	until := time.Now().Add(time.Duration(p.Seconds * float64(time.Second)))
	var wg sync.WaitGroup
	if p.Load > 0 {
		// As many goroutines as keep the rate, each with its share of it.
		const goroutines = 20
		for range goroutines {
			wg.Add(1)
			go func() {
				defer wg.Done()
				every := time.Second * goroutines / time.Duration(p.Load)
				task := asynq.NewTask(taskType, make([]byte, p.Payload))
				for due := time.Now(); due.Before(until); due = due.Add(every) {
					time.Sleep(time.Until(due))
					if _, err := client.Enqueue(task); err != nil {
						return
					}
				}
			}()
		}
	}
	count := 0
	ticks := time.NewTicker(time.Second / time.Duration(max(p.Rate, 1)))
	for time.Now().Before(until) {
		<-ticks.C
		if _, err := client.Enqueue(asynq.NewTask(taskType, payload(time.Since(began).Nanoseconds()))); err != nil {
			return err
		}
		count++
	}
	wg.Wait()
	found.untilStarted(count, time.Now().Add(lastProbe))
	untilStopped()
	return nil
}

func scheduled(p params) error {
	client, err := connected(p)
	if err != nil {
		return err
	}
	found := new(delays)
	server := p.server()
	err = server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		if due, ok := sent(task); ok {
			found.add(time.Now().UnixMicro() - due)
		}
		return nil
	}))
	if err != nil {
		return err
	}
	ready()
	first, spread := time.Now().Unix()+2, max(int64(p.Seconds), 1)
	for number := range p.N {
		due := time.Unix(first+number%spread, 0)
		if _, err := client.Enqueue(asynq.NewTask(taskType, payload(due.UnixMicro())), asynq.ProcessAt(due)); err != nil {
			return err
		}
	}
	found.untilStarted(int(p.N), time.Unix(first+spread, 0).Add(lastProbe))
	untilStopped()
	return nil
}

func idle(p params) error {
	client, err := connected(p)
	if err != nil {
		return err
	}
	client.Close()
	server := p.server()
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		return err
	}
	ready()
	untilStopped()
	return nil
}
