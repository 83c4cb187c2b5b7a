package main

import (
	"os"

	"github.com/hibiken/asynq"
)

// scheduleInput is an entry; the options are given at registration, so they show in the entry.
type scheduleInput struct {
	Spec string `json:"spec"`
	taskInput
}

// registeredEvent answers one entry, in the order of stdin.
type registeredEvent struct {
	Event   string `json:"event"`
	OK      bool   `json:"ok"`
	EntryID string `json:"entry_id,omitempty"`
	Error   string `json:"error,omitempty"`
}

// enqueuedEvent tells that an entry fired.
type enqueuedEvent struct {
	Event string    `json:"event"`
	OK    bool      `json:"ok"`
	Info  *taskInfo `json:"info,omitempty"`
	Error string    `json:"error,omitempty"`
}

func runSchedule(name string, args []string) error {
	f := newFlags(name)
	heartbeat := millisFlag(f.FlagSet, "heartbeat-interval", "how often the entries are written to Redis")
	conn, err := f.connect(args)
	if err != nil {
		return err
	}
	scheduler := asynq.NewScheduler(conn, &asynq.SchedulerOpts{
		HeartbeatInterval: *heartbeat,
		LogLevel:          asynq.ErrorLevel,
		PostEnqueueFunc:   reportEnqueued,
	})
	if err := scheduler.Ping(); err != nil {
		return err
	}
	if err := scheduler.Start(); err != nil {
		return err
	}
	if err := stdout.write(event{"ready"}); err != nil {
		return err
	}
	err = eachLine(os.Stdin, func(line []byte) error {
		return stdout.write(register(scheduler, line))
	})
	scheduler.Shutdown()
	if err != nil {
		return err
	}
	return stdout.write(event{"closed"})
}

func register(scheduler *asynq.Scheduler, line []byte) registeredEvent {
	var in scheduleInput
	if err := decodeStrict(line, &in); err != nil {
		return registeredEvent{Event: "registered", Error: err.Error()}
	}
	id, err := scheduler.Register(in.Spec, in.task(), in.options()...)
	if err != nil {
		return registeredEvent{Event: "registered", Error: err.Error()}
	}
	return registeredEvent{Event: "registered", OK: true, EntryID: id}
}

func reportEnqueued(info *asynq.TaskInfo, err error) {
	line := enqueuedEvent{Event: "enqueued"}
	if err != nil {
		line.Error = err.Error()
	} else {
		line.OK, line.Info = true, newTaskInfo(info)
	}
	// A closed stdout ends the program when the next answer is written.
	_ = stdout.write(line)
}
