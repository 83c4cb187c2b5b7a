package main

import (
	"time"

	"github.com/hibiken/asynq"
)

// taskInput is a task with its options as JSON. An absent (or null) field leaves the option out.
type taskInput struct {
	Type          string            `json:"type"`
	Payload       []byte            `json:"payload"` // null: nil, "": empty but not nil
	Headers       map[string]string `json:"headers"`
	Queue         *string           `json:"queue"`
	TaskID        *string           `json:"task_id"`
	MaxRetry      *int              `json:"max_retry"`
	TimeoutMS     *millis           `json:"timeout_ms"`
	DeadlineUnix  *int64            `json:"deadline_unix"`
	UniqueMS      *millis           `json:"unique_ms"`
	ProcessAtUnix *int64            `json:"process_at_unix"`
	ProcessInMS   *millis           `json:"process_in_ms"`
	RetentionMS   *millis           `json:"retention_ms"`
	Group         *string           `json:"group"`
}

func (in *taskInput) task() *asynq.Task {
	if in.Headers == nil {
		return asynq.NewTask(in.Type, in.Payload)
	}
	return asynq.NewTaskWithHeaders(in.Type, in.Payload, in.Headers)
}

// options come in the order of the fields; of process_at_unix and process_in_ms the latter wins.
func (in *taskInput) options() []asynq.Option {
	var options []asynq.Option
	if in.Queue != nil {
		options = append(options, asynq.Queue(*in.Queue))
	}
	if in.TaskID != nil {
		options = append(options, asynq.TaskID(*in.TaskID))
	}
	if in.MaxRetry != nil {
		options = append(options, asynq.MaxRetry(*in.MaxRetry))
	}
	if in.TimeoutMS != nil {
		options = append(options, asynq.Timeout(time.Duration(*in.TimeoutMS)))
	}
	if in.DeadlineUnix != nil {
		options = append(options, asynq.Deadline(time.Unix(*in.DeadlineUnix, 0)))
	}
	if in.UniqueMS != nil {
		options = append(options, asynq.Unique(time.Duration(*in.UniqueMS)))
	}
	if in.ProcessAtUnix != nil {
		options = append(options, asynq.ProcessAt(time.Unix(*in.ProcessAtUnix, 0)))
	}
	if in.ProcessInMS != nil {
		options = append(options, asynq.ProcessIn(time.Duration(*in.ProcessInMS)))
	}
	if in.RetentionMS != nil {
		options = append(options, asynq.Retention(time.Duration(*in.RetentionMS)))
	}
	if in.Group != nil {
		options = append(options, asynq.Group(*in.Group))
	}
	return options
}

// taskInfo is asynq.TaskInfo as JSON. A time of 0 is "no time"; headers are never null.
type taskInfo struct {
	ID                string            `json:"id"`
	Queue             string            `json:"queue"`
	Type              string            `json:"type"`
	Payload           []byte            `json:"payload"`
	Headers           map[string]string `json:"headers"`
	State             string            `json:"state"`
	MaxRetry          int               `json:"max_retry"`
	Retried           int               `json:"retried"`
	LastErr           string            `json:"last_err"`
	LastFailedAt      int64             `json:"last_failed_at"` // Unix nanoseconds
	TimeoutMS         int64             `json:"timeout_ms"`
	DeadlineUnix      int64             `json:"deadline_unix"`
	Group             string            `json:"group"`
	NextProcessAtUnix int64             `json:"next_process_at_unix"`
	IsOrphaned        bool              `json:"is_orphaned"`
	RetentionMS       int64             `json:"retention_ms"`
	CompletedAtUnix   int64             `json:"completed_at_unix"`
	Result            []byte            `json:"result"`
}

func newTaskInfo(t *asynq.TaskInfo) *taskInfo {
	return &taskInfo{
		ID:                t.ID,
		Queue:             t.Queue,
		Type:              t.Type,
		Payload:           t.Payload,
		Headers:           nonNil(t.Headers),
		State:             t.State.String(),
		MaxRetry:          t.MaxRetry,
		Retried:           t.Retried,
		LastErr:           t.LastErr,
		LastFailedAt:      unixNanos(t.LastFailedAt),
		TimeoutMS:         t.Timeout.Milliseconds(),
		DeadlineUnix:      unixSeconds(t.Deadline),
		Group:             t.Group,
		NextProcessAtUnix: unixSeconds(t.NextProcessAt),
		IsOrphaned:        t.IsOrphaned,
		RetentionMS:       t.Retention.Milliseconds(),
		CompletedAtUnix:   unixSeconds(t.CompletedAt),
		Result:            t.Result,
	}
}

func nonNil(headers map[string]string) map[string]string {
	if headers == nil {
		return map[string]string{}
	}
	return headers
}
