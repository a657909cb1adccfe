package client

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

const (
	batchEventsMax   = 500       // the service takes no more in a call,
	batchBytesMax    = 4_000_000 // nor more than 5 MiB
	batchEventsBytes = 16        // what an event costs in a batch besides its own bytes
)

// PublisherOptions are bounds of a [Publisher]. Each zero is the default.
type PublisherOptions struct {
	// MaxWaiting is how many events may wait before Publish waits: 10,000.
	MaxWaiting int
	// MaxWaitingBytes is how large they may be together: 64 MB.
	MaxWaitingBytes int
	// BatchesAtOnce is how many batches may be on their way: 2.
	BatchesAtOnce int
	// Linger is how long a batch that is not full waits for more events: 1 ms.
	Linger time.Duration
	// Patience is how long an event is tried while the service is away or overloaded: 5 minutes. Then its result is an
	// UnavailableError.
	Patience time.Duration
}

func (o PublisherOptions) withDefaults() PublisherOptions {
	return PublisherOptions{
		MaxWaiting:      orElse(o.MaxWaiting, 10_000),
		MaxWaitingBytes: orElse(o.MaxWaitingBytes, 64_000_000),
		BatchesAtOnce:   orElse(o.BatchesAtOnce, 2),
		Linger:          orElse(o.Linger, time.Millisecond),
		Patience:        orElse(o.Patience, 5*time.Minute),
	}
}

// waiting is one event on its way to the service, and who waits for its result.
type waiting struct {
	request  *webhookv1.PublishEventRequest
	result   *Result
	since    time.Time
	size     int
	failures int
}

// queue holds the events that are not settled yet, and decides which of them go into the next batch. It has no lock and
// no clock: its owner lets one goroutine use it at a time.
type queue struct {
	options     PublisherOptions
	ready       []*waiting
	later       laterHeap
	number      int // of the last event that is to be tried later
	failures    int // of batches, in a row
	pausedUntil time.Time
	count       int // of events, those on their way too
	size        int
}

// hasRoom returns whether an event may be added. One always may if nothing waits, however large it is.
func (q *queue) hasRoom(size int) bool {
	return q.count == 0 || q.count < q.options.MaxWaiting && q.size+size <= q.options.MaxWaitingBytes
}

func (q *queue) add(request *webhookv1.PublishEventRequest, size int, result *Result, now time.Time) {
	q.ready = append(q.ready, &waiting{request: request, result: result, since: now, size: size})
	q.count++
	q.size += size
}

// wait returns in how long take returns a batch, 0 for at once; false: not before something is added. hurry: a batch
// that is not full does not wait for more.
func (q *queue) wait(now time.Time, hurry bool) (time.Duration, bool) {
	at, ok := q.readyAt(now, hurry)
	if !ok {
		return 0, false
	}
	return max(0, at.Sub(now), q.pausedUntil.Sub(now)), true
}

func (q *queue) readyAt(now time.Time, hurry bool) (time.Time, bool) {
	if len(q.ready) == 0 {
		if len(q.later) == 0 {
			return time.Time{}, false
		}
		return q.later[0].at, true
	}
	at := now
	if len(q.ready) < batchEventsMax && !hurry {
		at = q.ready[0].since.Add(q.options.Linger)
	}
	if len(q.later) > 0 && q.later[0].at.Before(at) {
		at = q.later[0].at
	}
	return at, true
}

// take takes out the next batch: the oldest events first, within the bounds of a call.
func (q *queue) take(now time.Time) []*waiting {
	q.takeBack(now)
	size, count := 0, 0
	for count < min(len(q.ready), batchEventsMax) {
		size += q.ready[count].size + batchEventsBytes
		if count > 0 && size > batchBytesMax {
			break
		}
		count++
	}
	batch := slices.Clone(q.ready[:count])
	clear(q.ready[:count]) // the array behind the slice outlives them
	q.ready = q.ready[count:]
	return batch
}

// takeBack puts the events whose pause is over in front of the others.
func (q *queue) takeBack(now time.Time) {
	var due []*waiting
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		due = append(due, heap.Pop(&q.later).(laterEvent).event)
	}
	if due != nil {
		slices.Reverse(due) // the one that failed last in a batch is its oldest, and the first again
		q.ready = append(due, q.ready...)
	}
}

// answered gives each event its result. One for which there was no room now is published again later. An answer with
// results for other events settles none, and is an error.
func (q *queue) answered(batch []*waiting, results []*webhookv1.BatchPublishResult, now time.Time, jitter float64) error {
	if len(results) != len(batch) {
		return fmt.Errorf("%d results for %d events", len(results), len(batch))
	}
	q.failures = 0
	for i, event := range batch {
		if published := results[i].GetPublished(); published != nil {
			q.settle(event, publishedOf(published), nil)
		} else {
			q.eventFailed(event, errorOfResult(results[i].GetError()), now, jitter)
		}
	}
	return nil
}

// failed takes a batch back after its call failed. What will fail again, and what was tried for too long, is settled.
func (q *queue) failed(batch []*waiting, err error, now time.Time, jitter float64) {
	if asked, again := retryAfter(err); again {
		q.failures++
		q.pausedUntil = now.Add(pause(q.failures, asked, jitter))
	}
	for _, event := range slices.Backward(batch) { // the oldest will be the first again
		q.eventFailed(event, err, now, jitter)
	}
}

func (q *queue) eventFailed(event *waiting, err error, now time.Time, jitter float64) {
	asked, again := retryAfter(err)
	if !again {
		q.settle(event, Published{}, err)
		return
	}
	event.failures++
	wait := pause(event.failures, asked, jitter)
	if now.Add(wait).Sub(event.since) > q.options.Patience {
		q.settle(event, Published{}, err)
		return
	}
	q.number++
	heap.Push(&q.later, laterEvent{now.Add(wait), q.number, event})
}

func (q *queue) settle(event *waiting, published Published, err error) {
	q.count--
	q.size -= event.size
	event.result.settle(published, err)
}

// abandon settles all events that are not on their way.
func (q *queue) abandon(err error) {
	for _, event := range q.ready {
		q.settle(event, Published{}, err)
	}
	for _, later := range q.later {
		q.settle(later.event, Published{}, err)
	}
	q.ready, q.later = nil, nil
}

type laterEvent struct {
	at     time.Time
	number int
	event  *waiting
}

// laterHeap has the event whose pause ends first at its top; of those that failed together the one that came last.
type laterHeap []laterEvent

func (h laterHeap) Len() int { return len(h) }

func (h laterHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].number < h[j].number
	}
	return h[i].at.Before(h[j].at)
}

func (h laterHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *laterHeap) Push(event any) { *h = append(*h, event.(laterEvent)) }

func (h *laterHeap) Pop() any {
	last := len(*h) - 1
	event := (*h)[last]
	(*h)[last] = laterEvent{}
	*h = (*h)[:last]
	return event
}
