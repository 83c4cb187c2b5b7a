package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

func (l *listing) queues() error {
	queues, err := l.inspector.Queues()
	for _, queue := range queues {
		fmt.Println(queue)
	}
	return err
}

func (l *listing) inspectQueues() error {
	return l.separated(func(name string) error {
		q, err := l.inspector.GetQueueInfo(name)
		if err != nil {
			return err
		}
		fmt.Printf("Queue Info\nName:   %s\nSize:   %d\nGroups: %d\nPaused: %t\n\n", q.Queue, q.Size, q.Groups, q.Paused)
		fmt.Println("Task Count by State")
		table(
			[]string{"active", "pending", "aggregating", "scheduled", "retry", "archived", "completed"},
			[][]any{{q.Active, q.Pending, q.Aggregating, q.Scheduled, q.Retry, q.Archived, q.Completed}},
		)
		fmt.Println()
		runsOfDay(q.Timestamp, q.Processed, q.Failed)
		return nil
	})
}

func (l *listing) history() error {
	return l.separated(func(name string) error {
		fmt.Printf("Queue: %s\n\n", name)
		days, err := l.inspector.History(name, l.Days)
		if err != nil {
			return err
		}
		var rows [][]any
		for _, d := range days {
			rate := errorRate(d.Processed, d.Failed)
			rows = append(rows, []any{d.Date.UTC().Format(time.DateOnly), d.Processed, d.Failed, rate})
		}
		table([]string{"date (UTC)", "processed", "failed", "error rate"}, rows)
		return nil
	})
}

// taskColumns are the columns of each state after id, type and payload.
var taskColumns = map[string][]string{
	"active":      nil,
	"pending":     nil,
	"aggregating": {"Group"},
	"scheduled":   {"Process In"},
	"retry":       {"Next Retry", "Last Error", "Last Failed", "Retried", "Max Retry"},
	"archived":    {"Last Failed", "Last Error"},
	"completed":   {"CompletedAt", "Result"},
}

func (l *listing) tasks() error {
	if err := require("queue", l.Queue, "state", l.State); err != nil {
		return err
	}
	titles, ok := taskColumns[l.State]
	if !ok {
		return fmt.Errorf("state=%q is not supported", l.State)
	}
	if l.State == "aggregating" && l.Group == "" {
		return fmt.Errorf("flag --group is required for listing aggregating tasks")
	}
	tasks, err := list(l.inspector, &l.inspectCommand)
	switch {
	case err != nil:
		return err
	case len(tasks) == 0 && l.State == "aggregating":
		fmt.Printf("No aggregating tasks in group %q \n", l.Group)
		return nil
	case len(tasks) == 0:
		fmt.Printf("No %s tasks in %q queue\n", l.State, l.Queue)
		return nil
	}
	var rows [][]any
	for _, t := range tasks {
		cells := map[string]any{
			"Group":       t.Group,
			"Process In":  l.until(t.NextProcessAt, "in ", "right now"),
			"Next Retry":  l.until(t.NextProcessAt, "in ", "right now"),
			"Last Error":  t.LastErr,
			"Last Failed": date(t.LastFailedAt),
			"Retried":     t.Retried,
			"Max Retry":   t.MaxRetry,
			"CompletedAt": date(t.CompletedAt),
			"Result":      printable(t.Result),
		}
		row := []any{t.ID, t.Type, printable(t.Payload)}
		for _, title := range titles {
			row = append(row, cells[title])
		}
		rows = append(rows, row)
	}
	table(append([]string{"ID", "Type", "Payload"}, titles...), rows)
	return nil
}

func (l *listing) inspectTask() error {
	if err := require("queue", l.Queue, "id", l.ID); err != nil {
		return err
	}
	t, err := l.inspector.GetTaskInfo(l.Queue, l.ID)
	if err != nil {
		return err
	}
	fmt.Printf("Task Info\nQueue:   %s\nID:      %s\nType:    %s\nState:   %v\n", t.Queue, t.ID, t.Type, t.State)
	fmt.Printf("Retried: %d/%d\n\n", t.Retried, t.MaxRetry)
	next := "n/a"
	if !t.NextProcessAt.IsZero() {
		if next = l.until(t.NextProcessAt, "in ", "now"); next != "now" && t.State != asynq.TaskStatePending {
			next = fmt.Sprintf("%s (%s)", date(t.NextProcessAt), next)
		} else {
			next = "now"
		}
	}
	fmt.Printf("Next process time: %s\n", next)
	if t.LastErr != "" {
		fmt.Printf("\nLast Failure\nFailed at:     %s\nError message: %s\n", date(t.LastFailedAt), t.LastErr)
	}
	return nil
}

func (l *listing) servers() error {
	servers, err := l.inspector.Servers()
	if err != nil {
		return err
	}
	if len(servers) == 0 {
		fmt.Println("No running servers")
		return nil
	}
	slices.SortFunc(servers, func(a, b *asynq.ServerInfo) int {
		if a.Host != b.Host {
			return strings.Compare(a.Host, b.Host)
		}
		return a.PID - b.PID
	})
	var rows [][]any
	for _, s := range servers {
		var queues []string
		for queue := range s.Queues {
			queues = append(queues, queue)
		}
		slices.SortFunc(queues, func(a, b string) int {
			if s.Queues[a] != s.Queues[b] {
				return s.Queues[b] - s.Queues[a]
			}
			return strings.Compare(a, b)
		})
		for i, queue := range queues {
			queues[i] = queue + ":" + strconv.Itoa(s.Queues[queue])
		}
		workers := fmt.Sprintf("%d/%d", len(s.ActiveWorkers), s.Concurrency)
		rows = append(rows, []any{s.Host, s.PID, s.Status, workers, strings.Join(queues, " "), l.since(s.Started)})
	}
	table([]string{"Host", "PID", "State", "Active Workers", "Queues", "Started"}, rows)
	return nil
}

func (l *listing) entries() error {
	entries, err := l.inspector.SchedulerEntries()
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		fmt.Println("No scheduler entries")
		return nil
	}
	slices.SortFunc(entries, func(a, b *asynq.SchedulerEntry) int { return strings.Compare(a.Spec, b.Spec) })
	var rows [][]any
	for _, e := range entries {
		prev := "N/A"
		if !e.Prev.IsZero() {
			prev = l.since(e.Prev)
		}
		payload, next := printable(e.Task.Payload()), l.until(e.Next, "In ", "Now")
		rows = append(rows, []any{e.ID, e.Spec, e.Task.Type(), payload, e.Opts, next, prev})
	}
	table([]string{"EntryID", "Spec", "Type", "Payload", "Options", "Next", "Prev"}, rows)
	return nil
}

func (l *listing) events() error {
	fmt.Println()
	return l.separated(func(id string) error {
		fmt.Printf("Entry: %s\n\n", id)
		events, err := l.inspector.ListSchedulerEnqueueEvents(id, l.pageOptions()...)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			fmt.Printf("No scheduler enqueue events found for entry: %s\n", id)
			return nil
		}
		var rows [][]any
		for _, e := range events {
			rows = append(rows, []any{e.TaskID, e.EnqueuedAt})
		}
		table([]string{"TaskID", "EnqueuedAt"}, rows)
		return nil
	})
}

func (l *listing) groups() error {
	if err := require("queue", l.Queue); err != nil {
		return err
	}
	groups, err := l.inspector.Groups(l.Queue)
	if err == nil && len(groups) == 0 {
		fmt.Printf("No groups found in queue %q\n", l.Queue)
	}
	for _, group := range groups {
		fmt.Println(group.Group)
	}
	return err
}

// sums are numbers of all queues.
type sums struct {
	Active      int       `json:"active"`
	Pending     int       `json:"pending"`
	Aggregating int       `json:"aggregating"`
	Scheduled   int       `json:"scheduled"`
	Retry       int       `json:"retry"`
	Archived    int       `json:"archived"`
	Completed   int       `json:"completed"`
	Processed   int       `json:"processed"`
	Failed      int       `json:"failed"`
	Timestamp   time.Time `json:"timestamp"`
}

// queueStats are the numbers of a queue as JSON, in the order of the documentation.
type queueStats struct {
	Queue                                                                  string
	MemoryUsage                                                            int64
	Paused                                                                 bool
	Size, Groups, Pending, Active, Scheduled, Retry, Archived              int
	Completed, Aggregating, Processed, Failed, ProcessedTotal, FailedTotal int
	Latency                                                                time.Duration
	Timestamp                                                              time.Time
}

func newQueueStats(q *asynq.QueueInfo) queueStats {
	return queueStats{
		q.Queue, q.MemoryUsage, q.Paused,
		q.Size, q.Groups, q.Pending, q.Active, q.Scheduled, q.Retry, q.Archived,
		q.Completed, q.Aggregating, q.Processed, q.Failed, q.ProcessedTotal, q.FailedTotal,
		q.Latency, q.Timestamp,
	}
}

func (l *listing) stats() error {
	names, err := l.inspector.Queues()
	if err != nil {
		return err
	}
	sum := sums{Timestamp: l.now}
	var queues []queueStats
	for _, name := range names {
		q, err := l.inspector.GetQueueInfo(name)
		if err != nil {
			return fmt.Errorf("could not fetch stats for queue %q: %w", name, err)
		}
		sum.Active += q.Active
		sum.Pending += q.Pending
		sum.Aggregating += q.Aggregating
		sum.Scheduled += q.Scheduled
		sum.Retry += q.Retry
		sum.Archived += q.Archived
		sum.Completed += q.Completed
		sum.Processed += q.Processed
		sum.Failed += q.Failed
		sum.Timestamp = q.Timestamp
		queues = append(queues, newQueueStats(q))
	}
	info, isCluster, err := l.info()
	if err != nil {
		return fmt.Errorf("could not fetch redis info: %w", err)
	}
	if l.json {
		return json.NewEncoder(os.Stdout).Encode(struct {
			Aggregate sums              `json:"aggregate"`
			Queues    []queueStats      `json:"queues"`
			Redis     map[string]string `json:"redis"`
		}{sum, queues, info})
	}

	fmt.Println("Task Count by State")
	counts := []any{sum.Active, sum.Pending, sum.Aggregating, sum.Scheduled, sum.Retry, sum.Archived, sum.Completed}
	width := 9
	for _, count := range counts {
		width = max(width, len(fmt.Sprint(count)))
	}
	states := []any{"active", "pending", "aggregating", "scheduled", "retry", "archived", "completed"}
	columns([][]any{states, slices.Repeat([]any{strings.Repeat("-", width)}, len(states)), counts})

	fmt.Println("\nTask Count by Queue")
	var titles, sizes []any
	width = 0
	for _, q := range queues {
		title := q.Queue
		if q.Paused {
			title += " (paused)"
		}
		width = max(width, utf8.RuneCountInString(title))
		titles, sizes = append(titles, title), append(sizes, q.Size)
	}
	if len(queues) == 0 {
		fmt.Println("No queues")
	} else {
		columns([][]any{titles, slices.Repeat([]any{strings.Repeat("-", width)}, len(titles)), sizes})
	}

	fmt.Println()
	runsOfDay(sum.Timestamp, sum.Processed, sum.Failed)
	if isCluster {
		fmt.Println("\nRedis Cluster Info")
		row := []any{strings.ToUpper(info["cluster_state"]), info["cluster_known_nodes"], info["cluster_size"]}
		table([]string{"State", "Known Nodes", "Cluster Size"}, [][]any{row})
	} else {
		fmt.Println("\nRedis Info")
		table([]string{"version", "uptime", "connections", "memory usage", "peak memory usage"}, [][]any{{
			info["redis_version"], info["uptime_in_days"] + " days", info["connected_clients"],
			info["used_memory_human"] + "B", info["used_memory_peak_human"] + "B",
		}})
	}
	fmt.Println()
	return nil
}

// info returns the lines of INFO, or in a cluster those of CLUSTER INFO, that have one colon.
func (l *listing) info() (lines map[string]string, isCluster bool, err error) {
	var text string
	switch client := l.conn.MakeRedisClient().(type) {
	case *redis.ClusterClient:
		defer client.Close()
		isCluster = true
		text, err = client.ClusterInfo(context.Background()).Result()
	case *redis.Client:
		defer client.Close()
		text, err = client.Info(context.Background()).Result()
	}
	lines = map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if parts := strings.Split(line, ":"); len(parts) == 2 {
			lines[parts[0]] = parts[1]
		}
	}
	return lines, isCluster, err
}
