package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/hibiken/asynq"
)

// optionsInput are options whose texts are asked for. An absent (or null) field leaves the option out.
type optionsInput struct {
	MaxRetry       *int        `json:"max_retry"`
	Queue          *string     `json:"queue"`
	TaskID         *string     `json:"task_id"`
	TimeoutNanos   *int64      `json:"timeout_nanos"`
	DeadlineUnix   *int64      `json:"deadline_unix"`
	UniqueNanos    *int64      `json:"unique_nanos"`
	ProcessAtUnix  *int64      `json:"process_at_unix"`
	ProcessInNanos *int64      `json:"process_in_nanos"`
	RetentionNanos *int64      `json:"retention_nanos"`
	Group          *string     `json:"group"`
	Headers        [][2]string `json:"headers"`
}

type optionsAnswer struct {
	Options []string `json:"options"`
	Error   string   `json:"error,omitempty"`
}

func runOptions(name string, args []string) error {
	// There is nothing to be asked of Redis; the flag is that of all subcommands.
	if _, err := newFlags(name).connect(args); err != nil {
		return err
	}
	return eachLine(os.Stdin, func(line []byte) error {
		var in optionsInput
		if err := decodeStrict(line, &in); err != nil {
			return stdout.write(optionsAnswer{Error: err.Error()})
		}
		return stdout.write(optionsAnswer{Options: in.texts()})
	})
}

// texts come in the order of the fields.
func (in *optionsInput) texts() []string {
	texts := []string{}
	add := func(option asynq.Option) { texts = append(texts, option.String()) }
	if in.MaxRetry != nil {
		add(asynq.MaxRetry(*in.MaxRetry))
	}
	if in.Queue != nil {
		add(asynq.Queue(*in.Queue))
	}
	if in.TaskID != nil {
		add(asynq.TaskID(*in.TaskID))
	}
	if in.TimeoutNanos != nil {
		add(asynq.Timeout(time.Duration(*in.TimeoutNanos)))
	}
	if in.DeadlineUnix != nil {
		add(asynq.Deadline(time.Unix(*in.DeadlineUnix, 0).UTC()))
	}
	if in.UniqueNanos != nil {
		add(asynq.Unique(time.Duration(*in.UniqueNanos)))
	}
	if in.ProcessAtUnix != nil {
		add(asynq.ProcessAt(time.Unix(*in.ProcessAtUnix, 0).UTC()))
	}
	if in.ProcessInNanos != nil {
		add(asynq.ProcessIn(time.Duration(*in.ProcessInNanos)))
	}
	if in.RetentionNanos != nil {
		add(asynq.Retention(time.Duration(*in.RetentionNanos)))
	}
	if in.Group != nil {
		add(asynq.Group(*in.Group))
	}
	for _, header := range in.Headers {
		// The library has this option after v0.26.0 only; this is the text that it makes.
		pair, err := json.Marshal(header)
		if err != nil {
			continue
		}
		texts = append(texts, "Header("+string(pair)+")")
	}
	return texts
}
