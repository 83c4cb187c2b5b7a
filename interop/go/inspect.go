package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/hibiken/asynq"
)

// inspectCommand is one line of stdin; which fields count depends on op.
type inspectCommand struct {
	Op      string `json:"op"`
	Queue   string `json:"queue"`
	ID      string `json:"id"`
	State   string `json:"state"`
	Group   string `json:"group"`
	Page    *int   `json:"page"`
	Size    *int   `json:"size"`
	Days    int    `json:"days"`
	EntryID string `json:"entry_id"`
	Force   bool   `json:"force"`
	Payload []byte `json:"payload"`
}

// inspectAnswer always has a result (null if there is nothing to tell) when ok.
type inspectAnswer struct {
	OK     bool   `json:"ok"`
	Result any    `json:"result"`
	Error  string `json:"error,omitempty"`
	Kind   string `json:"kind,omitempty"` // queue_not_found, task_not_found, panic, bad_input or other
}

type queueInfo struct {
	Queue              string `json:"queue"`
	MemoryUsage        int64  `json:"memory_usage"`
	LatencyNanos       int64  `json:"latency_nanos"`
	Size               int    `json:"size"`
	Groups             int    `json:"groups"`
	Pending            int    `json:"pending"`
	Active             int    `json:"active"`
	Scheduled          int    `json:"scheduled"`
	Retry              int    `json:"retry"`
	Archived           int    `json:"archived"`
	Completed          int    `json:"completed"`
	Aggregating        int    `json:"aggregating"`
	Processed          int    `json:"processed"`
	Failed             int    `json:"failed"`
	ProcessedTotal     int    `json:"processed_total"`
	FailedTotal        int    `json:"failed_total"`
	Paused             bool   `json:"paused"`
	TimestampUnixNanos int64  `json:"timestamp_unix_nanos"`
}

type groupInfo struct {
	Group string `json:"group"`
	Size  int    `json:"size"`
}

type dailyStats struct {
	Queue     string `json:"queue"`
	Processed int    `json:"processed"`
	Failed    int    `json:"failed"`
	Date      string `json:"date"` // yyyy-mm-dd
}

type serverInfo struct {
	ID               string         `json:"id"`
	Host             string         `json:"host"`
	PID              int            `json:"pid"`
	Concurrency      int            `json:"concurrency"`
	Queues           map[string]int `json:"queues"`
	StrictPriority   bool           `json:"strict_priority"`
	StartedUnixNanos int64          `json:"started_unix_nanos"`
	Status           string         `json:"status"`
	ActiveWorkers    []workerInfo   `json:"active_workers"`
}

type workerInfo struct {
	TaskID            string `json:"task_id"`
	TaskType          string `json:"task_type"`
	TaskPayload       []byte `json:"task_payload"`
	Queue             string `json:"queue"`
	StartedUnixNanos  int64  `json:"started_unix_nanos"`
	DeadlineUnixNanos int64  `json:"deadline_unix_nanos"`
}

type schedulerEntry struct {
	ID            string   `json:"id"`
	Spec          string   `json:"spec"`
	TaskType      string   `json:"task_type"`
	TaskPayload   []byte   `json:"task_payload"`
	Options       []string `json:"options"`
	NextUnixNanos int64    `json:"next_unix_nanos"`
	PrevUnixNanos int64    `json:"prev_unix_nanos"`
}

type enqueueEvent struct {
	TaskID              string `json:"task_id"`
	EnqueuedAtUnixNanos int64  `json:"enqueued_at_unix_nanos"`
}

// badInputError is a command that makes no sense, as against one that the library refused.
type badInputError struct{ error }

func runInspect(name string, args []string) error {
	conn, err := newFlags(name).connect(args)
	if err != nil {
		return err
	}
	inspector := asynq.NewInspector(conn)
	defer inspector.Close()

	return eachLine(os.Stdin, func(line []byte) error {
		var cmd inspectCommand
		if err := decodeStrict(line, &cmd); err != nil {
			return stdout.write(inspectAnswer{Error: err.Error(), Kind: "bad_input"})
		}
		return stdout.write(answer(inspector, &cmd))
	})
}

// answer also survives the panics of the library, which some contents of the database provoke.
func answer(inspector *asynq.Inspector, cmd *inspectCommand) (reply inspectAnswer) {
	defer func() {
		if value := recover(); value != nil {
			reply = inspectAnswer{Error: fmt.Sprint(value), Kind: "panic"}
		}
	}()
	result, err := perform(inspector, cmd)
	if err == nil {
		return inspectAnswer{OK: true, Result: result}
	}
	kind := "other"
	var badInput badInputError
	switch {
	case errors.As(err, &badInput):
		kind = "bad_input"
	case errors.Is(err, asynq.ErrQueueNotFound):
		kind = "queue_not_found"
	case errors.Is(err, asynq.ErrTaskNotFound):
		kind = "task_not_found"
	}
	return inspectAnswer{Error: err.Error(), Kind: kind}
}

func perform(inspector *asynq.Inspector, cmd *inspectCommand) (any, error) {
	switch cmd.Op {
	case "queues":
		queues, err := inspector.Queues()
		slices.Sort(queues)
		return mapped(queues, err, func(queue string) string { return queue })
	case "queue_info":
		info, err := inspector.GetQueueInfo(cmd.Queue)
		if err != nil {
			return nil, err
		}
		return newQueueInfo(info), nil
	case "task_info":
		info, err := inspector.GetTaskInfo(cmd.Queue, cmd.ID)
		if err != nil {
			return nil, err
		}
		return newTaskInfo(info), nil
	case "list":
		tasks, err := list(inspector, cmd)
		return mapped(tasks, err, newTaskInfo)
	case "groups":
		groups, err := inspector.Groups(cmd.Queue)
		slices.SortFunc(groups, func(a, b *asynq.GroupInfo) int { return cmp.Compare(a.Group, b.Group) })
		return mapped(groups, err, func(g *asynq.GroupInfo) groupInfo { return groupInfo{g.Group, g.Size} })
	case "pause":
		return nil, inspector.PauseQueue(cmd.Queue)
	case "unpause":
		return nil, inspector.UnpauseQueue(cmd.Queue)
	case "run":
		return nil, inspector.RunTask(cmd.Queue, cmd.ID)
	case "archive":
		return nil, inspector.ArchiveTask(cmd.Queue, cmd.ID)
	case "delete":
		return nil, inspector.DeleteTask(cmd.Queue, cmd.ID)
	case "update_payload":
		return nil, inspector.UpdateTaskPayload(cmd.Queue, cmd.ID, cmd.Payload)
	case "run_all", "archive_all", "delete_all":
		return all(inspector, cmd)
	case "delete_queue":
		return nil, inspector.DeleteQueue(cmd.Queue, cmd.Force)
	case "cancel":
		return nil, inspector.CancelProcessing(cmd.ID)
	case "servers":
		servers, err := inspector.Servers()
		return mapped(servers, err, newServerInfo)
	case "history":
		days, err := inspector.History(cmd.Queue, cmd.Days)
		return mapped(days, err, func(d *asynq.DailyStats) dailyStats {
			return dailyStats{d.Queue, d.Processed, d.Failed, d.Date.UTC().Format("2006-01-02")}
		})
	case "scheduler_entries":
		entries, err := inspector.SchedulerEntries()
		return mapped(entries, err, newSchedulerEntry)
	case "enqueue_events":
		events, err := inspector.ListSchedulerEnqueueEvents(cmd.EntryID, cmd.pageOptions()...)
		return mapped(events, err, func(e *asynq.SchedulerEnqueueEvent) enqueueEvent {
			return enqueueEvent{e.TaskID, unixNanos(e.EnqueuedAt)}
		})
	}
	return nil, badInputError{fmt.Errorf("unknown op %q", cmd.Op)}
}

// all acts on all tasks of a state, or of a group.
func all(inspector *asynq.Inspector, cmd *inspectCommand) (int, error) {
	ofState := map[string]func(string) (int, error){
		"run_all scheduled":     inspector.RunAllScheduledTasks,
		"run_all retry":         inspector.RunAllRetryTasks,
		"run_all archived":      inspector.RunAllArchivedTasks,
		"archive_all pending":   inspector.ArchiveAllPendingTasks,
		"archive_all scheduled": inspector.ArchiveAllScheduledTasks,
		"archive_all retry":     inspector.ArchiveAllRetryTasks,
		"delete_all pending":    inspector.DeleteAllPendingTasks,
		"delete_all scheduled":  inspector.DeleteAllScheduledTasks,
		"delete_all retry":      inspector.DeleteAllRetryTasks,
		"delete_all archived":   inspector.DeleteAllArchivedTasks,
		"delete_all completed":  inspector.DeleteAllCompletedTasks,
	}
	ofGroup := map[string]func(string, string) (int, error){
		"run_all aggregating":     inspector.RunAllAggregatingTasks,
		"archive_all aggregating": inspector.ArchiveAllAggregatingTasks,
		"delete_all aggregating":  inspector.DeleteAllAggregatingTasks,
	}
	what := cmd.Op + " " + cmd.State
	if act, ok := ofState[what]; ok {
		return act(cmd.Queue)
	}
	if act, ok := ofGroup[what]; ok {
		return act(cmd.Queue, cmd.Group)
	}
	return 0, badInputError{fmt.Errorf("there is no %q", what)}
}

func list(inspector *asynq.Inspector, cmd *inspectCommand) ([]*asynq.TaskInfo, error) {
	options := cmd.pageOptions()
	switch cmd.State {
	case "pending":
		return inspector.ListPendingTasks(cmd.Queue, options...)
	case "active":
		return inspector.ListActiveTasks(cmd.Queue, options...)
	case "scheduled":
		return inspector.ListScheduledTasks(cmd.Queue, options...)
	case "retry":
		return inspector.ListRetryTasks(cmd.Queue, options...)
	case "archived":
		return inspector.ListArchivedTasks(cmd.Queue, options...)
	case "completed":
		return inspector.ListCompletedTasks(cmd.Queue, options...)
	case "aggregating":
		return inspector.ListAggregatingTasks(cmd.Queue, cmd.Group, options...)
	}
	return nil, badInputError{fmt.Errorf("unknown state %q", cmd.State)}
}

// pageOptions leaves out what the command leaves out: the library's own defaults hold.
func (cmd *inspectCommand) pageOptions() []asynq.ListOption {
	var options []asynq.ListOption
	if cmd.Size != nil {
		options = append(options, asynq.PageSize(*cmd.Size))
	}
	if cmd.Page != nil {
		options = append(options, asynq.Page(*cmd.Page))
	}
	return options
}

func newQueueInfo(q *asynq.QueueInfo) *queueInfo {
	return &queueInfo{
		Queue:              q.Queue,
		MemoryUsage:        q.MemoryUsage,
		LatencyNanos:       q.Latency.Nanoseconds(),
		Size:               q.Size,
		Groups:             q.Groups,
		Pending:            q.Pending,
		Active:             q.Active,
		Scheduled:          q.Scheduled,
		Retry:              q.Retry,
		Archived:           q.Archived,
		Completed:          q.Completed,
		Aggregating:        q.Aggregating,
		Processed:          q.Processed,
		Failed:             q.Failed,
		ProcessedTotal:     q.ProcessedTotal,
		FailedTotal:        q.FailedTotal,
		Paused:             q.Paused,
		TimestampUnixNanos: unixNanos(q.Timestamp),
	}
}

func newServerInfo(s *asynq.ServerInfo) *serverInfo {
	workers := make([]workerInfo, 0, len(s.ActiveWorkers))
	for _, w := range s.ActiveWorkers {
		workers = append(workers, workerInfo{
			TaskID:            w.TaskID,
			TaskType:          w.TaskType,
			TaskPayload:       w.TaskPayload,
			Queue:             w.Queue,
			StartedUnixNanos:  unixNanos(w.Started),
			DeadlineUnixNanos: unixNanos(w.Deadline),
		})
	}
	return &serverInfo{
		ID:               s.ID,
		Host:             s.Host,
		PID:              s.PID,
		Concurrency:      s.Concurrency,
		Queues:           s.Queues,
		StrictPriority:   s.StrictPriority,
		StartedUnixNanos: unixNanos(s.Started),
		Status:           s.Status,
		ActiveWorkers:    workers,
	}
}

func newSchedulerEntry(e *asynq.SchedulerEntry) *schedulerEntry {
	options := make([]string, 0, len(e.Opts))
	for _, option := range e.Opts {
		options = append(options, option.String())
	}
	return &schedulerEntry{
		ID:            e.ID,
		Spec:          e.Spec,
		TaskType:      e.Task.Type(),
		TaskPayload:   e.Task.Payload(),
		Options:       options,
		NextUnixNanos: unixNanos(e.Next),
		PrevUnixNanos: unixNanos(e.Prev),
	}
}

// mapped converts a list; an empty one becomes [] and not null.
func mapped[T, R any](items []T, err error, convert func(T) R) (any, error) {
	if err != nil {
		return nil, err
	}
	results := make([]R, 0, len(items))
	for _, item := range items {
		results = append(results, convert(item))
	}
	return results, nil
}
