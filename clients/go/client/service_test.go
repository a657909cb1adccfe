package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// played is a service whose answers are played.
type played struct {
	webhookv1.UnimplementedWebhookServiceServer
	batch func(context.Context, *webhookv1.BatchPublishEventsRequest) (*webhookv1.BatchPublishEventsResponse, error)
	watch func(*webhookv1.WatchDeliveriesRequest, grpc.ServerStreamingServer[webhookv1.WatchDeliveriesResponse]) error

	mu     sync.Mutex
	tokens []string
	calls  int
}

func (p *played) noted(ctx context.Context) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	given, _ := metadata.FromIncomingContext(ctx)
	p.tokens = append(p.tokens, strings.Join(given.Get("authorization"), " "))
	p.calls++
	return p.calls
}

// PublishEvent fails in the first call of each test.
func (p *played) PublishEvent(
	ctx context.Context, request *webhookv1.PublishEventRequest,
) (*webhookv1.PublishEventResponse, error) {
	if p.noted(ctx) == 1 {
		return nil, status.Error(codes.Unavailable, "away")
	}
	return &webhookv1.PublishEventResponse{EventId: "evt_" + request.GetRequestId(), DeliveryCount: 2}, nil
}

func (p *played) BatchPublishEvents(
	ctx context.Context, request *webhookv1.BatchPublishEventsRequest,
) (*webhookv1.BatchPublishEventsResponse, error) {
	p.noted(ctx)
	return p.batch(ctx, request)
}

func (p *played) WatchDeliveries(
	request *webhookv1.WatchDeliveriesRequest, stream grpc.ServerStreamingServer[webhookv1.WatchDeliveriesResponse],
) error {
	p.noted(stream.Context())
	return p.watch(request, stream)
}

// serve starts the service, and returns a client. At the end of the test no goroutine of the client may be left.
func (p *played) serve(t *testing.T, options ...Option) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	equal(t, err, nil)
	server := grpc.NewServer()
	webhookv1.RegisterWebhookServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	c, err := New(listener.Addr().String(), options...)
	equal(t, err, nil)
	t.Cleanup(func() {
		equal(t, c.Close(), nil)
		server.Stop()
		untilNoneIsLeft(t)
	})
	return c
}

// until waits until the stacks of all goroutines are as they should be.
func until(t *testing.T, isSo func(stacks string) bool) {
	t.Helper()
	for range 6000 {
		stacks := make([]byte, 1<<20)
		if isSo(string(stacks[:runtime.Stack(stacks, true)])) {
			return
		}
		time.Sleep(10 * time.Millisecond) // no signal says where a goroutine is
	}
	t.Fatal("the goroutines are never where they should be")
}

func untilNoneIsLeft(t *testing.T) {
	t.Helper()
	until(t, func(stacks string) bool {
		return !strings.Contains(stacks, "client.(*Publisher)") && !strings.Contains(stacks, "grpc.(*ClientConn)")
	})
}

func everything(_ context.Context, request *webhookv1.BatchPublishEventsRequest) (*webhookv1.BatchPublishEventsResponse, error) {
	response := &webhookv1.BatchPublishEventsResponse{}
	for _, event := range request.GetRequests() {
		response.Results = append(response.Results, &webhookv1.BatchPublishResult{
			Result: &webhookv1.BatchPublishResult_Published{
				Published: &webhookv1.PublishEventResponse{EventId: "evt_" + event.GetRequestId()},
			},
		})
	}
	return response, nil
}

func TestAnEventIsPublishedAgainAfterAFailureWithTheTokenOfThatMoment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	p := &played{}
	c := p.serve(t, WithTokenFile(file))
	event := Event{Type: "job.done", Data: json.RawMessage("{}"), RequestID: "order-1"}
	_, err := c.Publish(t.Context(), event)
	var unauthorized *UnauthorizedError
	equal(t, errors.As(err, &unauthorized), true)
	for _, text := range []string{"one\n", "two\n"} {
		equal(t, os.WriteFile(file, []byte(text), 0o600), nil)
		published, err := c.Publish(t.Context(), event)
		equal(t, err, nil)
		equal(t, published.EventID, "evt_order-1")
		equal(t, published.DeliveryCount, 2)
	}
	for _, text := range []string{"o\nne", "\ufeffone"} { // of two lines, and with the mark of an editor
		equal(t, os.WriteFile(file, []byte(text), 0o600), nil)
		_, err := c.Publish(t.Context(), event)
		equal(t, errors.As(err, &unauthorized), true)
	}
	equal(t, strings.Join(p.tokens, ","), "Bearer one,Bearer one,Bearer two")
}

func TestACallEndsWithItsContextOrItsClient(t *testing.T) {
	c, err := New("127.0.0.1:1")
	equal(t, err, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Publish(ctx, Event{})
	var unavailable *UnavailableError
	equal(t, errors.Is(err, context.DeadlineExceeded) && errors.As(err, &unavailable), true)
	equal(t, c.Close(), nil)
	_, err = c.Publish(t.Context(), Event{})
	equal(t, errors.Is(err, ErrClosed), true)
}

func TestAServiceThatIsAwayIsUnavailableWhenPatienceEnds(t *testing.T) {
	c, err := New("127.0.0.1:1", WithPatience(Patience{Total: 200 * time.Millisecond}))
	equal(t, err, nil)
	defer func() { equal(t, c.Close(), nil) }()
	_, err = c.Publish(t.Context(), Event{})
	var unavailable *UnavailableError
	equal(t, errors.As(err, &unavailable), true)
	equal(t, errors.Is(err, context.DeadlineExceeded), false)
}

func TestManyGoroutinesPublishInFewCalls(t *testing.T) {
	p := &played{batch: everything}
	c := p.serve(t)
	publisher := c.NewPublisher(PublisherOptions{MaxWaiting: 600, Linger: 10 * time.Millisecond})
	ids := sync.Map{}
	var all sync.WaitGroup
	for number := range 100 {
		all.Add(1)
		go func() {
			defer all.Done()
			for part := range 20 {
				result, err := publisher.Publish(t.Context(), Event{RequestID: fmt.Sprintf("%d-%d", number, part)})
				if err != nil {
					t.Error(err)
					return
				}
				published, err := result.Get(t.Context())
				if err != nil {
					t.Error(err)
				}
				ids.Store(published.EventID, true)
			}
		}()
	}
	all.Wait()
	equal(t, publisher.Flush(t.Context()), nil)
	equal(t, publisher.Close(t.Context()), nil)
	count := 0
	ids.Range(func(any, any) bool { count++; return true })
	equal(t, count, 2000)
	if p.calls > 1000 {
		t.Fatalf("%d calls are single events, not batches", p.calls)
	}
	_, err := publisher.Publish(t.Context(), Event{})
	equal(t, err, ErrClosed)
	equal(t, publisher.Close(t.Context()), nil)
}

// hanging is a service that never answers. It says on the channel that a batch has come.
func hanging() (*played, <-chan int) {
	came := make(chan int, 100)
	return &played{batch: func(
		ctx context.Context, request *webhookv1.BatchPublishEventsRequest,
	) (*webhookv1.BatchPublishEventsResponse, error) {
		came <- len(request.GetRequests())
		<-ctx.Done()
		return nil, ctx.Err()
	}}, came
}

func TestAFullPublisherHasPublishWaitUntilItsContextEnds(t *testing.T) {
	p, came := hanging()
	publisher := p.serve(t).NewPublisher(PublisherOptions{MaxWaiting: 1, BatchesAtOnce: 1})
	first, err := publisher.Publish(t.Context(), Event{})
	equal(t, err, nil)
	<-came
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = publisher.Publish(ctx, Event{})
	equal(t, err, context.DeadlineExceeded)
	equal(t, publisher.Flush(ctx), context.DeadlineExceeded)
	_, err = first.Get(ctx)
	equal(t, err, context.DeadlineExceeded)
}

func TestAPublisherThatIsClosedForGoodSettlesEverything(t *testing.T) {
	p, came := hanging()
	publisher := p.serve(t).NewPublisher(PublisherOptions{MaxWaiting: 1})
	first, err := publisher.Publish(t.Context(), Event{})
	equal(t, err, nil)
	<-came
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiting, closed := make(chan error), make(chan error)
	go func() {
		_, err := publisher.Publish(t.Context(), Event{})
		waiting <- err
	}()
	until(t, func(stacks string) bool { // it waits for room
		return strings.Contains(stacks, "[select]:\ngithub.com/webhook-grpc/webhook-grpc/clients/go/client.(*Publisher).Publish(")
	})
	go func() { closed <- publisher.Close(ctx) }()
	equal(t, <-waiting, ErrClosed) // at once, while Close waits for the other
	cancel()
	err = <-closed
	equal(t, errors.Is(err, context.Canceled) && strings.HasPrefix(err.Error(), "1 events"), true)
	_, err = first.Get(t.Context())
	equal(t, err, ErrClosed)
}

func TestWhatOneWorkerLeavesIsTakenByAnother(t *testing.T) {
	p, came := hanging()
	publisher := p.serve(t).NewPublisher(PublisherOptions{})
	until(t, func(stacks string) bool { return strings.Count(stacks, "(*Publisher).rest(") == 2 })
	publisher.mu.Lock()
	for range batchEventsMax + 1 { // as if all came before a worker has looked
		publisher.queue.add(&webhookv1.PublishEventRequest{}, 1, &Result{done: make(chan struct{})}, time.Now())
	}
	publisher.wake()
	publisher.mu.Unlock()
	equal(t, <-came+<-came, batchEventsMax+1)
}

func TestAllWorkersOfAPublisherEnd(t *testing.T) {
	publisher := (&played{}).serve(t).NewPublisher(PublisherOptions{})
	until(t, func(stacks string) bool { return strings.Count(stacks, "(*Publisher).rest(") == 2 })
	equal(t, publisher.Close(t.Context()), nil)
}

func TestAClientThatIsClosedEndsItsPublishers(t *testing.T) {
	p, came := hanging()
	c := p.serve(t)
	publisher := c.NewPublisher(PublisherOptions{})
	first, err := publisher.Publish(t.Context(), Event{})
	equal(t, err, nil)
	<-came
	c.end() // the first half of Close, which the end of the test calls
	_, err = first.Get(t.Context())
	equal(t, err, ErrClosed)
	_, err = publisher.Publish(t.Context(), Event{})
	equal(t, err, ErrClosed)
}

func deliveries(cursor string, ids ...string) *webhookv1.WatchDeliveriesResponse {
	response := &webhookv1.WatchDeliveriesResponse{Cursor: []byte(cursor)}
	for _, id := range ids {
		response.Deliveries = append(response.Deliveries, &webhookv1.Delivery{DeliveryId: id})
	}
	return response
}

// log is a service with three messages in its log; each stream breaks off after one.
func log() *played {
	messages := []*webhookv1.WatchDeliveriesResponse{deliveries("1", "a", "b"), deliveries("2", "c"), deliveries("3", "d")}
	return &played{watch: func(
		request *webhookv1.WatchDeliveriesRequest, stream grpc.ServerStreamingServer[webhookv1.WatchDeliveriesResponse],
	) error {
		next := 0
		_, _ = fmt.Sscan(string(request.GetCursor()), &next)
		if next == len(messages) {
			<-stream.Context().Done()
			return nil
		}
		if err := stream.Send(messages[next]); err != nil || next == 1 {
			return err // the end of the stream, as when a connection is too old
		}
		return status.Error(codes.Unavailable, "going down")
	}}
}

func TestALoopGoesOnAfterInterruptionsAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := ""
	var last error
	w := log().serve(t).Watch(WatchOptions{Cursors: patientStore{}})
	for delivery, err := range w.All(ctx) {
		last = err
		seen += delivery.GetDeliveryId()
		if seen == "abcd" {
			cancel()
		}
	}
	equal(t, seen, "abcd")
	equal(t, last, context.Canceled)
	equal(t, string(w.Cursor()), "3")
}

func TestWhatABodyHasNotFinishedIsDeliveredAgain(t *testing.T) {
	file := CursorFile(filepath.Join(t.TempDir(), "cursor"))
	c := log().serve(t)
	seen := ""
	for _, stop := range []string{"b", "c", "c"} { // a break is not finished, and a new watcher begins with the file
		w := c.Watch(WatchOptions{Cursors: file})
		for delivery, err := range w.All(t.Context()) {
			equal(t, err, nil)
			seen += delivery.GetDeliveryId()
			if delivery.GetDeliveryId() == stop {
				break
			}
		}
	}
	equal(t, seen, "ab"+"abc"+"c")
	w := c.Watch(WatchOptions{Cursors: file})
	for _, stop := range []string{"c", "d"} { // a later loop of one watcher goes on, too
		for delivery, err := range w.All(t.Context()) {
			equal(t, err, nil)
			if delivery.GetDeliveryId() == stop {
				break
			}
		}
	}
	equal(t, string(w.Cursor()), "2")
}

func TestAPanicOfABodyLeavesTheCursorBehindWhatIsFinished(t *testing.T) {
	file := CursorFile(filepath.Join(t.TempDir(), "cursor"))
	w := log().serve(t).Watch(WatchOptions{Cursors: file})
	func() {
		defer func() { equal(t, recover(), any("c")) }()
		for delivery := range w.All(t.Context()) {
			if delivery.GetDeliveryId() == "c" {
				panic("c")
			}
		}
	}()
	kept, err := file.Load(t.Context())
	equal(t, err, nil)
	equal(t, string(kept), "1")
}

// patientStore can save only while its context lasts, as a database can.
type patientStore struct{}

func (patientStore) Load(context.Context) ([]byte, error) { return nil, nil }

func (patientStore) Save(ctx context.Context, _ []byte) error { return ctx.Err() }

func TestNothingIsDeliveredAfterTheContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := ""
	w := log().serve(t).Watch(WatchOptions{})
	for delivery := range w.All(ctx) { // the first message has two
		seen += delivery.GetDeliveryId()
		cancel()
	}
	equal(t, seen, "a")
	equal(t, len(w.Cursor()), 0)
}

type brokenStore struct{}

func (brokenStore) Load(context.Context) ([]byte, error) { return []byte("2"), nil }

func (brokenStore) Save(context.Context, []byte) error { return errors.New("the disk is full") }

func TestAnErrorEndsTheLoopAndIsItsLast(t *testing.T) {
	gone := &played{watch: func(
		*webhookv1.WatchDeliveriesRequest, grpc.ServerStreamingServer[webhookv1.WatchDeliveriesResponse],
	) error {
		return status.Error(codes.InvalidArgument, "no such cursor")
	}}
	for want, w := range map[string]*Watcher{
		"InvalidArgument: no such cursor":               gone.serve(t).Watch(WatchOptions{}),
		"the cursor was not saved: the disk is full":    log().serve(t).Watch(WatchOptions{Cursors: brokenStore{}}),
		"one start, not Cursor and Snapshot":            gone.serve(t).Watch(WatchOptions{Cursor: []byte("1"), Snapshot: true}),
		"Unauthenticated: the token file: open nowhere": gone.serve(t, WithTokenFile("nowhere")).Watch(WatchOptions{}),
	} {
		errs := []string{}
		for delivery, err := range w.All(t.Context()) {
			if delivery == nil {
				errs = append(errs, err.Error())
			}
		}
		equal(t, len(errs), 1)
		equal(t, strings.HasPrefix(errs[0], want), true)
	}
}

func TestAWatchWhoseTokenEndedGoesOnIfThereIsANewOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	equal(t, os.WriteFile(file, []byte("one"), 0o600), nil)
	p := &played{}
	p.watch = func(
		_ *webhookv1.WatchDeliveriesRequest, stream grpc.ServerStreamingServer[webhookv1.WatchDeliveriesResponse],
	) error {
		if p.tokens[len(p.tokens)-1] == "Bearer two" {
			return stream.Send(deliveries("1", "a"))
		}
		_ = os.WriteFile(file, []byte("two"), 0o600)
		return status.Error(codes.Unauthenticated, "expired")
	}
	for _, err := range p.serve(t, WithTokenFile(file)).Watch(WatchOptions{}).All(t.Context()) {
		equal(t, err, nil)
		break
	}
	equal(t, strings.Join(p.tokens, ","), "Bearer one,Bearer two")
}

func TestAWatcherHasOneLoopAtATime(t *testing.T) {
	w := log().serve(t).Watch(WatchOptions{})
	for _, err := range w.All(t.Context()) {
		equal(t, err, nil)
		for _, err := range w.All(t.Context()) {
			equal(t, err.Error(), "another loop of this watcher has not ended")
		}
		break
	}
}
