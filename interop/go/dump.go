package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// keyDump is one key. Value depends on the type: string: base64; list and set: array of base64; zset:
// array of scoredMember, by score; hash: object of field to base64.
type keyDump struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	TTLMS int64  `json:"ttl_ms"` // -1: does not expire
	Value any    `json:"value"`
}

type scoredMember struct {
	Member []byte  `json:"member"`
	Score  float64 `json:"score"`
}

func runDump(name string, args []string) error {
	conn, err := newFlags(name).connect(args)
	if err != nil {
		return err
	}
	client := conn.client()
	defer client.Close()
	return dump(context.Background(), client)
}

// dump prints all keys of the database, sorted. It is not a snapshot: keys are read one by one.
func dump(ctx context.Context, client *redis.Client) error {
	var keys []string
	iterator := client.Scan(ctx, 0, "*", 1000).Iterator()
	for iterator.Next(ctx) {
		keys = append(keys, iterator.Val())
	}
	if err := iterator.Err(); err != nil {
		return err
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		line, err := dumpKey(ctx, client, key)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		if line == nil {
			continue
		}
		if err := stdout.write(line); err != nil {
			return err
		}
	}
	return nil
}

// dumpKey returns nil if the key has gone.
func dumpKey(ctx context.Context, client *redis.Client, key string) (*keyDump, error) {
	if !utf8.ValidString(key) {
		return nil, errors.New("name is not valid UTF-8")
	}
	kind, err := client.Type(ctx, key).Result()
	if err != nil || kind == "none" {
		return nil, err
	}
	line := &keyDump{Key: key, Type: kind}
	if line.TTLMS, err = client.Do(ctx, "PTTL", key).Int64(); err != nil {
		return nil, err
	}
	switch kind {
	case "string":
		line.Value, err = client.Get(ctx, key).Bytes()
	case "list":
		line.Value, err = byteStrings(client.LRange(ctx, key, 0, -1).Result())
	case "set":
		members, readErr := client.SMembers(ctx, key).Result()
		slices.Sort(members)
		line.Value, err = byteStrings(members, readErr)
	case "zset":
		members, readErr := client.ZRangeWithScores(ctx, key, 0, -1).Result()
		scored := make([]scoredMember, 0, len(members))
		for _, m := range members {
			scored = append(scored, scoredMember{[]byte(m.Member.(string)), m.Score})
		}
		line.Value, err = scored, readErr
	case "hash":
		fields, readErr := client.HGetAll(ctx, key).Result()
		values := make(map[string][]byte, len(fields))
		for field, value := range fields {
			if !utf8.ValidString(field) {
				return nil, fmt.Errorf("field %q is not valid UTF-8", field)
			}
			values[field] = []byte(value)
		}
		line.Value, err = values, readErr
	default:
		return nil, fmt.Errorf("type %q is not supported", kind)
	}
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return line, err
}

func byteStrings(values []string, err error) ([][]byte, error) {
	result := make([][]byte, 0, len(values))
	for _, value := range values {
		result = append(result, []byte(value))
	}
	return result, err
}

// vectorLines are the inputs of the golden data: lines for enqueue, each with a name.
//
//go:embed vectors.jsonl
var vectorLines []byte

type vectorInput struct {
	Vector string `json:"vector"`
	taskInput
}

type vectorOutput struct {
	Vector string          `json:"vector"`
	Input  json.RawMessage `json:"input"`
	enqueueAnswer
	MsgHex string `json:"msg_hex,omitempty"` // the bytes in the field "msg" of the task's hash
}

func runVectors(name string, args []string) error {
	conn, err := newFlags(name).connect(args)
	if err != nil {
		return err
	}
	ctx := context.Background()
	client := conn.client()
	defer client.Close()
	size, err := client.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	if size != 0 {
		return fmt.Errorf("the database has %d keys, it must be empty", size)
	}
	producer := asynq.NewClient(conn)
	defer producer.Close()

	err = eachLine(bytes.NewReader(vectorLines), func(line []byte) error {
		var in vectorInput
		if err := decodeStrict(line, &in); err != nil {
			return fmt.Errorf("vectors.jsonl: %w", err)
		}
		out := vectorOutput{Vector: in.Vector, Input: line, enqueueAnswer: enqueue(producer, &in.taskInput)}
		if out.OK {
			key := fmt.Sprintf("asynq:{%s}:t:%s", out.Info.Queue, out.Info.ID)
			msg, err := client.HGet(ctx, key, "msg").Bytes()
			if err != nil {
				return fmt.Errorf("vector %s: %w", in.Vector, err)
			}
			out.MsgHex = hex.EncodeToString(msg)
		}
		return stdout.write(out)
	})
	if err != nil {
		return err
	}
	return dump(ctx, client)
}
