package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"time"
)

// lineWriter writes one JSON value a line; each line is a single write, safe for concurrent use.
type lineWriter struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func newLineWriter(w io.Writer) *lineWriter {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return &lineWriter{encoder: encoder}
}

// stdout is the only writer to standard output.
var stdout = newLineWriter(os.Stdout)

func (w *lineWriter) write(value any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.encoder.Encode(value)
}

// eachLine calls fn with every line of r that is not blank, of any length, until the end or an error.
func eachLine(r io.Reader, fn func(line []byte) error) error {
	reader := bufio.NewReader(r)
	for {
		line, readErr := reader.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := fn(line); err != nil {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// decodeStrict decodes exactly one JSON value; a field that target does not have is an error.
func decodeStrict(line []byte, target any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value in a line")
	}
	return nil
}

// unixSeconds is 0 for "no time".
func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// unixNanos is 0 for "no time"; a time that does not fit is the nearest one that does.
func unixNanos(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch {
	case t.IsZero():
		return 0
	case t.Unix() >= limit:
		return math.MaxInt64
	case t.Unix() <= -limit:
		return math.MinInt64
	}
	return t.UnixNano()
}
