// A worker of the bench: publishes with the Go client's batching publisher, and with batches made by hand, as a program
// of a user would. The same as workers/batching.py, with the same protocol: a line of JSON in, a line of JSON out.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/webhook-grpc/webhook-grpc/clients/go/client"
	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

const (
	batchEvents   = 500
	batchesAtOnce = 2 // as many as the publisher has
	eventType     = "job.completed"
)

var data = `{"job_id":"job-abc123","status":"completed","duration":3600,"padding":"` + strings.Repeat("x", 330) + `"}`

type command struct {
	Do       string  `json:"do"`
	Address  string  `json:"address"`
	Customer int64   `json:"customer"`
	Seconds  float64 `json:"seconds"`
	Tasks    int     `json:"tasks"`
}

type found struct {
	Count   int64   `json:"count"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"`
}

type work func(ctx context.Context, c *client.Client, asked command, until time.Time) (int64, error)

func main() {
	log.SetFlags(0)
	say(map[string]any{"answer": nil})
	var address string
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		if asked.Do == "connect" {
			address = asked.Address
			say(map[string]any{"answer": nil})
			continue
		}
		do := map[string]work{"hand_tasks": byHand, "publisher_tasks": byPublisher}[asked.Do]
		if answer, err := measured(address, asked, do); err != nil {
			say(map[string]any{"error": err.Error()})
		} else {
			say(map[string]any{"answer": answer})
		}
	}
}

func say(message map[string]any) {
	line, err := json.Marshal(message)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

// measured makes its own connection, as a program does, and returns what was published in which time at which cost.
func measured(address string, asked command, do work) (found, error) {
	if do == nil {
		return found{}, errors.New("no such command: " + asked.Do)
	}
	ctx := context.Background()
	c, err := client.New(address)
	if err != nil {
		return found{}, err
	}
	defer func() { _ = c.Close() }()
	first := client.Event{CustomerID: asked.Customer, Type: eventType, Data: json.RawMessage("{}")}
	if _, err := c.Publish(ctx, first); err != nil { // it is connected
		return found{}, err
	}
	began, cpu := time.Now(), cpuSeconds()
	count, err := do(ctx, c, asked, began.Add(time.Duration(asked.Seconds*float64(time.Second))))
	return found{count, time.Since(began).Seconds(), cpuSeconds() - cpu}, err
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// byHand sends batches that it makes itself.
func byHand(ctx context.Context, c *client.Client, asked command, until time.Time) (int64, error) {
	return inTasks(batchesAtOnce, func() (count int64, err error) {
		for time.Now().Before(until) {
			answer, err := c.Service().BatchPublishEvents(ctx, batch(asked.Customer))
			if err != nil {
				return count, err
			}
			for _, result := range answer.GetResults() {
				if result.GetPublished().GetEventId() == "" {
					return count, errors.New("an event of a batch was refused")
				}
				count++
			}
		}
		return count, nil
	})
}

func batch(customer int64) *webhookv1.BatchPublishEventsRequest {
	requests := make([]*webhookv1.PublishEventRequest, batchEvents)
	for i := range requests {
		requests[i] = &webhookv1.PublishEventRequest{
			Event: &webhookv1.Event{
				CustomerId: customer, EventType: eventType, Content: &webhookv1.Event_DataJson{DataJson: data},
			},
			RequestId: rand.Text(),
		}
	}
	return &webhookv1.BatchPublishEventsRequest{Requests: requests}
}

// byPublisher publishes from many goroutines. Each looks at its results when they are there.
func byPublisher(ctx context.Context, c *client.Client, asked command, until time.Time) (int64, error) {
	p := c.NewPublisher(client.PublisherOptions{})
	var mu sync.Mutex
	var left []*client.Result // what had no result yet when the time was over
	count, err := inTasks(asked.Tasks, func() (count int64, err error) {
		var waiting []*client.Result
		for time.Now().Before(until) {
			event := client.Event{CustomerID: asked.Customer, Type: eventType, Data: json.RawMessage(data)}
			result, err := p.Publish(ctx, event)
			if err != nil {
				return count, err
			}
			waiting = append(waiting, result)
			for len(waiting) > 0 && isDone(waiting[0]) {
				if err := look(ctx, waiting[0]); err != nil {
					return count, err
				}
				waiting = waiting[1:]
				count++
			}
		}
		mu.Lock()
		defer mu.Unlock()
		left = append(left, waiting...)
		return count, nil
	})
	if err != nil {
		return count, err
	}
	if err := p.Close(ctx); err != nil {
		return count, err
	}
	for _, result := range left {
		if err := look(ctx, result); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

func isDone(result *client.Result) bool {
	select {
	case <-result.Done():
		return true
	default:
		return false
	}
}

func look(ctx context.Context, result *client.Result) error {
	published, err := result.Get(ctx)
	if err == nil && published.EventID == "" {
		err = errors.New("a result without an event")
	}
	return err
}

// inTasks does the same in so many goroutines, and returns how much all of them did.
func inTasks(tasks int, do func() (int64, error)) (int64, error) {
	var all sync.WaitGroup
	var sum atomic.Int64
	failures := make(chan error, tasks)
	for range tasks {
		all.Add(1)
		go func() {
			defer all.Done()
			count, err := do()
			sum.Add(count)
			if err != nil {
				failures <- err
			}
		}()
	}
	all.Wait()
	close(failures)
	return sum.Load(), <-failures
}
