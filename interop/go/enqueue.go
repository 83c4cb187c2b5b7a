package main

import (
	"errors"
	"os"

	"github.com/hibiken/asynq"
)

// enqueueAnswer is the answer to one task.
type enqueueAnswer struct {
	OK    bool      `json:"ok"`
	Info  *taskInfo `json:"info,omitempty"`
	Error string    `json:"error,omitempty"`
	Kind  string    `json:"kind,omitempty"` // duplicate, id_conflict, bad_input or other
}

func runEnqueue(name string, args []string) error {
	conn, err := newFlags(name).connect(args)
	if err != nil {
		return err
	}
	client := asynq.NewClient(conn)
	defer client.Close()

	return eachLine(os.Stdin, func(line []byte) error {
		var in taskInput
		if err := decodeStrict(line, &in); err != nil {
			return stdout.write(enqueueAnswer{Error: err.Error(), Kind: "bad_input"})
		}
		return stdout.write(enqueue(client, &in))
	})
}

func enqueue(client *asynq.Client, in *taskInput) enqueueAnswer {
	info, err := client.Enqueue(in.task(), in.options()...)
	if err == nil {
		return enqueueAnswer{OK: true, Info: newTaskInfo(info)}
	}
	kind := "other"
	switch {
	case errors.Is(err, asynq.ErrDuplicateTask):
		kind = "duplicate"
	case errors.Is(err, asynq.ErrTaskIDConflict):
		kind = "id_conflict"
	}
	return enqueueAnswer{Error: err.Error(), Kind: kind}
}
