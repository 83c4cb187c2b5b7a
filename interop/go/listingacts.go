package main

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
)

// enqueueFlags defines the flags that only `task enqueue` has. One that is not given leaves its option out.
func (l *listing) enqueueFlags(f *flag.FlagSet) {
	payload := func(text string) error {
		l.task.Payload = []byte(text)
		return nil
	}
	f.Func("payload", "payload of the task", payload)
	f.Func("l", "the same as --payload", payload)
	retry := func(text string) error {
		n, err := strconv.Atoi(text)
		l.task.MaxRetry = &n
		return err
	}
	f.Func("retry", "largest number of retries", retry)
	f.Func("r", "the same as --retry", retry)
	duration := func(target **millis, names ...string) {
		for _, name := range names {
			f.Func(name, "duration, such as 1h30m", func(text string) error {
				d, err := time.ParseDuration(text)
				*target = (*millis)(&d)
				return err
			})
		}
	}
	duration(&l.task.TimeoutMS, "timeout", "d")
	duration(&l.task.UniqueMS, "unique")
	duration(&l.task.ProcessInMS, "process_in")
	duration(&l.task.RetentionMS, "retention")
	moment := func(target **int64, name string) {
		f.Func(name, "time in RFC 3339", func(text string) error {
			t, err := time.Parse(time.RFC3339, text)
			seconds := t.Unix()
			*target = &seconds
			return err
		})
	}
	moment(&l.task.DeadlineUnix, "deadline")
	moment(&l.task.ProcessAtUnix, "process_at")
}

func (l *listing) enqueue() error {
	if err := require("type_name", l.task.Type, "payload", string(l.task.Payload)); err != nil {
		return err
	}
	for _, option := range []struct {
		target **string
		given  *string
	}{{&l.task.Queue, &l.Queue}, {&l.task.TaskID, &l.ID}, {&l.task.Group, &l.Group}} {
		if *option.given != "" {
			*option.target = option.given
		}
	}
	client := asynq.NewClient(l.conn)
	defer client.Close()
	info, err := client.Enqueue(l.task.task(), l.task.options()...)
	if err == nil {
		fmt.Printf("Enqueued task %s to queue %s\n", info.ID, info.Queue)
	}
	return err
}

// each acts on every argument, also after an error, and tells what it did.
func (l *listing) each(act func(name string) error, done string) error {
	var failed error
	for _, name := range l.args {
		if err := act(name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			continue
		}
		fmt.Printf(done, name)
	}
	return failed
}

func (l *listing) pause() error {
	return l.each(l.inspector.PauseQueue, "Successfully paused queue %q\n")
}

func (l *listing) resume() error {
	return l.each(l.inspector.UnpauseQueue, "Successfully unpaused queue %q\n")
}

func (l *listing) removeQueues() error {
	remove := func(name string) error {
		err := l.inspector.DeleteQueue(name, l.Force)
		if errors.Is(err, asynq.ErrQueueNotEmpty) {
			return fmt.Errorf("%w; --force removes it with its tasks", err)
		}
		return err
	}
	return l.each(remove, "Successfully removed queue %q\n")
}

func (l *listing) cancel() error {
	return l.each(l.inspector.CancelProcessing, "Sent cancelation signal for task %s\n")
}

// one acts on the task that the flags name.
func (l *listing) one(act func(queue, id string) error, done string) error {
	if err := require("queue", l.Queue, "id", l.ID); err != nil {
		return err
	}
	err := act(l.Queue, l.ID)
	if err == nil {
		fmt.Println(done)
	}
	return err
}

func (l *listing) run() error     { return l.one(l.inspector.RunTask, "task is now pending") }
func (l *listing) archive() error { return l.one(l.inspector.ArchiveTask, "task archived") }
func (l *listing) delete() error  { return l.one(l.inspector.DeleteTask, "task deleted") }

// allOf acts on all tasks of the state or group that the flags name.
func (l *listing) allOf(op, done string) error {
	if err := require("queue", l.Queue, "state", l.State); err != nil {
		return err
	}
	if l.State == "aggregating" {
		if err := require("group", l.Group); err != nil {
			return err
		}
	}
	l.Op = op
	n, err := all(l.inspector, &l.inspectCommand)
	var badInput badInputError
	switch {
	case errors.As(err, &badInput):
		return fmt.Errorf("unsupported state %q", l.State)
	case err != nil:
		return err
	}
	fmt.Printf("%d tasks %s\n", n, done)
	return nil
}

func (l *listing) runAll() error     { return l.allOf("run_all", "are now pending") }
func (l *listing) archiveAll() error { return l.allOf("archive_all", "archived") }
func (l *listing) deleteAll() error  { return l.allOf("delete_all", "deleted") }
