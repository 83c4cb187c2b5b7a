package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"strconv"
	"time"
)

// millis is a duration that is written as a whole number of milliseconds, in JSON and as a flag.
type millis time.Duration

func newMillis(n int64) (millis, error) {
	const limit = math.MaxInt64 / int64(time.Millisecond)
	if n < -limit || n > limit {
		return 0, fmt.Errorf("%d milliseconds do not fit into a Go duration", n)
	}
	return millis(time.Duration(n) * time.Millisecond), nil
}

func (m *millis) UnmarshalJSON(data []byte) error {
	var n int64
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	var err error
	*m, err = newMillis(n)
	return err
}

func (m *millis) String() string {
	return strconv.FormatInt(time.Duration(*m).Milliseconds(), 10)
}

// Set is part of flag.Value.
func (m *millis) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	*m, err = newMillis(n)
	return err
}

// millisFlag defines a flag for which 0, the default, means "as the library has it".
func millisFlag(f *flag.FlagSet, name, usage string) *time.Duration {
	duration := new(time.Duration)
	f.Var((*millis)(duration), name, usage+", `ms` (0: library default)")
	return duration
}
