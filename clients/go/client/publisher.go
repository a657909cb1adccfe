package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// A Result is the result of one event of a [Publisher], as soon as the service has judged it.
type Result struct {
	done      chan struct{}
	published Published // written once, before done is closed
	err       error
}

// Done returns a channel that is closed when Get will not wait.
func (r *Result) Done() <-chan struct{} { return r.done }

// Get waits for the service's judgement. The error is a RefusedError if the service refuses this event, an
// UnauthorizedError, an UnavailableError when patience has ended, [ErrClosed], or that of ctx.
func (r *Result) Get(ctx context.Context) (Published, error) {
	select {
	case <-r.done:
		return r.published, r.err
	default:
	}
	select {
	case <-r.done:
		return r.published, r.err
	case <-ctx.Done():
		return Published{}, ctx.Err()
	}
}

func (r *Result) settle(published Published, err error) {
	r.published, r.err = published, err
	close(r.done)
}

// A Publisher publishes what many goroutines give it in batches: of what waits, as soon as a batch may be sent. Every
// event has a [Result] of its own.
//
// An event is tried until the service has judged it, with the same request id, so it is published once. Events that wait
// when the process ends are lost: call [Publisher.Close], which waits for them.
type Publisher struct {
	client *Client
	ctx    context.Context // ends when the publisher or the client gives up
	giveUp context.CancelFunc
	work   chan struct{} // holds a word that a worker has to look at the queue
	done   chan struct{} // closed when the workers have ended

	mu       sync.Mutex // owns what follows
	queue    queue
	settled  chan struct{} // closed and replaced when events were settled, and when there will be no more room
	flushing int
	closed   bool
}

// NewPublisher returns a publisher, whose goroutines run until [Publisher.Close] or the end of the client.
func (c *Client) NewPublisher(options PublisherOptions) *Publisher {
	options = options.withDefaults()
	p := &Publisher{
		client: c, work: make(chan struct{}, 1), done: make(chan struct{}), settled: make(chan struct{}),
		queue: queue{options: options},
	}
	p.ctx, p.giveUp = context.WithCancel(c.closing)
	var workers sync.WaitGroup
	for range options.BatchesAtOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			p.run()
		}()
	}
	go func() {
		workers.Wait()
		p.end()
	}()
	return p
}

// Publish takes an event, and returns its result to come. It waits while too many wait already. The error is that of ctx,
// [ErrClosed], or a RefusedError for an event that can't be sent.
func (p *Publisher) Publish(ctx context.Context, event Event) (*Result, error) {
	request, err := event.request()
	if err != nil {
		return nil, err
	}
	size := proto.Size(request)
	for {
		result, settled, err := p.add(ctx, request, size)
		if result != nil || err != nil {
			return result, err
		}
		select {
		case <-settled:
		case <-p.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// add adds an event if there is room. If not, it returns a channel that is closed when there may be some.
func (p *Publisher) add(
	ctx context.Context, request *webhookv1.PublishEventRequest, size int,
) (*Result, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || p.ctx.Err() != nil:
		return nil, nil, ErrClosed
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case !p.queue.hasRoom(size):
		return nil, p.settled, nil
	}
	result := &Result{done: make(chan struct{})}
	p.queue.add(request, size, result, time.Now())
	p.wake()
	return result, nil, nil
}

// Flush returns when all events that were published until now are settled, or when ctx ends.
func (p *Publisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushing++
	defer func() { p.flushing-- }()
	p.wake()
	for p.queue.count > 0 {
		settled := p.settled
		p.mu.Unlock()
		err := waitFor(ctx, settled)
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Close takes no more events, and returns when all are settled and the publisher's goroutines have ended. If ctx ends
// first, what has no result yet gets one that is [ErrClosed], and the error says of how many events.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.announce() // who waits for room waits in vain
	p.wake()
	p.mu.Unlock()
	err := waitFor(ctx, p.done)
	if err == nil {
		return nil
	}
	p.mu.Lock()
	count := p.queue.count
	p.mu.Unlock()
	p.giveUp()
	<-p.done // at once: the calls of the workers have ended
	return fmt.Errorf("%d events were not settled: %w", count, err)
}

func waitFor(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wake has one worker look at the queue, now or when one is free.
func (p *Publisher) wake() {
	select {
	case p.work <- struct{}{}:
	default: // the word is waiting already
	}
}

func (p *Publisher) run() {
	for p.ctx.Err() == nil {
		batch, wait, isEnd := p.next()
		switch {
		case isEnd:
			return
		case batch != nil:
			p.publish(batch)
		default:
			p.rest(wait)
		}
	}
}

// next returns a batch, or else how long to wait for one: negative for until something happens. isEnd: everything is
// settled and nothing more will come.
func (p *Publisher) next() (batch []*waiting, wait time.Duration, isEnd bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && p.queue.count == 0 {
		p.wake() // the other workers end too
		return nil, 0, true
	}
	now := time.Now()
	wait, ok := p.queue.wait(now, p.closed || p.flushing > 0)
	if !ok {
		return nil, -1, false
	}
	if wait > 0 {
		return nil, wait, false
	}
	batch = p.queue.take(now)
	p.wake() // another worker takes what is left, or sees when that is due
	return batch, 0, false
}

func (p *Publisher) rest(wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-p.work:
	case <-due:
	case <-p.ctx.Done():
	}
}

func (p *Publisher) publish(batch []*waiting) {
	requests := make([]*webhookv1.PublishEventRequest, len(batch))
	for i, event := range batch {
		requests[i] = event.request
	}
	answer, err := p.client.service.BatchPublishEvents(p.ctx, &webhookv1.BatchPublishEventsRequest{Requests: requests})

	p.mu.Lock()
	defer p.mu.Unlock()
	now, jitter := time.Now(), p.client.jitter()
	if err == nil {
		err = p.queue.answered(batch, answer.GetResults(), now, jitter)
	}
	if err != nil {
		p.queue.failed(batch, err, now, jitter)
	}
	p.announce()
	p.wake()
}

// announce has everybody look who waits for room or for results.
func (p *Publisher) announce() {
	close(p.settled)
	p.settled = make(chan struct{})
}

// end settles what the workers have left when they gave up.
func (p *Publisher) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.queue.abandon(ErrClosed)
	p.announce()
	p.giveUp()
	close(p.done)
}
